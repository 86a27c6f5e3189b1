//! The board Aquila: its banks, regions and map.

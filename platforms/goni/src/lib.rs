//! The board Goni: its banks, regions and map.

//! The board Galaxy S II: its banks, regions and map.

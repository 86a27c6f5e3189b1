//! Regions, the map, allocators bound late: the contiguous memory framework.

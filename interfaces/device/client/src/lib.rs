//! Contiguous memory from a server: the client.

//! The test device for other processes: the server.

//! Best fit: the smallest hole that can hold a chunk with its alignment.

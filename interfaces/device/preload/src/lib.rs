//! A library that stands in for /dev/cma in programs that know nothing of it.

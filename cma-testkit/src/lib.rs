//! Shadow model and conformance suite for allocators, in process and as plug-ins.

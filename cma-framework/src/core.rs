//! Pure decisions: no lock, no input or output, no plug-in. Ports are only declared here.

pub(crate) mod books;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod kept;
pub mod lint;
pub(crate) mod memory;
pub(crate) mod moment;
pub(crate) mod placement;
pub mod reserve;
pub(crate) mod routes;
pub(crate) mod set_aside;
pub(crate) mod shadow;
pub(crate) mod shape;

//! Where an exporter listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an [`Exporter`](crate::Exporter) listens.
///
/// ```
/// use cma_metrics::Endpoint;
///
/// assert!("unix:/run/cma/metrics.sock".parse::<Endpoint>().is_ok());
/// assert!("127.0.0.1:9797".parse::<Endpoint>().is_ok());
/// let error = "0.0.0.0:9797".parse::<Endpoint>().unwrap_err();
/// assert!(error.to_string().contains("loopback"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix stream socket of that path, with mode 0660.
    Unix(PathBuf),
    /// A port of the loopback interface.
    Tcp(SocketAddr),
}

/// What is wrong with the text of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is neither a path nor an address with a port.
    #[error("expected unix:PATH or an address and a port, as in 127.0.0.1:9797")]
    Form,
    /// Other machines could reach it. The figures tell what runs on this one.
    #[error(
        "{0} is no loopback address; use 127.0.0.1 or [::1], and a proxy that authenticates for other machines"
    )]
    NotLoopback(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(EndpointError::Form),
            Some(path) => Ok(Endpoint::Unix(path.into())),
            None => match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => Ok(Endpoint::Tcp(address)),
                Ok(address) => Err(EndpointError::NotLoopback(address)),
                Err(_) => Err(EndpointError::Form),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    /// As it is read; a TCP endpoint as the URL that scrapers are given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "http://{address}/metrics"),
        }
    }
}

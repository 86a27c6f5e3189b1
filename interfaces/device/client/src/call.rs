//! A request on an open connection, and the part of its answer that the caller wants.

use crate::error::Error;
use crate::exchange::{ExchangeError, Reply, exchange, request_message};
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, Request};
use rustix::fd::BorrowedFd;

/// Sends `request` and returns what `extract` takes of the answer and its descriptors. `extract`
/// returns `None` for an answer of another kind, which is an error.
pub(crate) fn call<T>(
    connection: BorrowedFd<'_>,
    request: &Request<'_>,
    extract: impl FnOnce(Answer<'_>, Descriptors) -> Option<T>,
) -> Result<T, Error> {
    answered(exchange(connection, &request_message(request)?, request.wait())?, extract)
}

/// What `extract` takes of an answer that is no refusal.
pub(crate) fn answered<T>(
    reply: Reply,
    extract: impl FnOnce(Answer<'_>, Descriptors) -> Option<T>,
) -> Result<T, Error> {
    let Reply { message, descriptors } = reply;
    match message.as_answer().map_err(ExchangeError::from)? {
        (_, Answer::Refused { errno, reason }) => {
            Err(Error::Refused { errno, reason: reason.to_string() })
        }
        (_, answer) => {
            extract(answer, descriptors).ok_or(Error::Exchange(ExchangeError::Unexpected))
        }
    }
}

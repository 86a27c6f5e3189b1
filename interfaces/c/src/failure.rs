//! Why a call failed: an errno, and the last failure of each thread as text and as JSON.

use crate::handles::{BadHandle, Full, Object};
use cma_framework::attributes::AttributeError;
use cma_framework::early::EarlyError;
use cma_framework::errors::{AllocError, InfoError, InvalidRequest};
use cma_framework::errors::{RegisterAllocatorError, Stuck};
use cma_framework::loader::LoadError;
use cma_framework::{Errno, MemoryError, Refusal};
use serde::Serialize;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    errno: c_int,
    reason: Reason,
}

/// The reason. It becomes text when the program asks for it.
#[derive(Debug)]
enum Reason {
    Text(String),
    NotAllocated(AllocError),
}

impl Failure {
    #[cold]
    pub(crate) fn new(errno: c_int, reason: impl Into<String>) -> Self {
        Failure(Box::new(Details { errno, reason: Reason::Text(reason.into()) }))
    }

    /// A wrong argument.
    #[cold]
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Failure::new(libc::EINVAL, reason)
    }

    /// The handle was not usable.
    #[cold]
    pub(crate) fn handle<O: Object>(bad: BadHandle) -> Self {
        let name = O::NAME;
        match bad {
            BadHandle::Null => Failure::invalid(format!("the {name} is NULL")),
            BadHandle::Unknown => Failure::invalid(format!(
                "no {name} has this handle: it was freed or closed, or is no handle"
            )),
            BadHandle::Busy => {
                Failure::new(libc::EBUSY, format!("another call is using this {name}"))
            }
        }
    }

    #[cold]
    pub(crate) fn system(call: &str, error: &io::Error) -> Self {
        Failure::new(error.raw_os_error().unwrap_or(libc::EIO), format!("{call}: {error}"))
    }

    pub(crate) fn errno(&self) -> c_int {
        self.0.errno
    }

    /// Makes it the last failure of the thread. Returns the result of the call.
    #[cold]
    pub(crate) fn report(self, call: &'static str) -> c_int {
        let Details { errno, reason } = *self.0;
        let failed = LastFailure { call, errno, reason, text: None, json: None };
        // A thread that is ending has no place for it any more.
        let _ = LAST.try_with(|last| last.replace(Some(failed)));
        -errno
    }
}

impl From<Full> for Failure {
    fn from(_: Full) -> Self {
        Failure::new(libc::ENFILE, "the library has no more handles")
    }
}

impl From<AllocError> for Failure {
    #[cold]
    fn from(error: AllocError) -> Self {
        let errno = error.errno() as c_int;
        Failure(Box::new(Details { errno, reason: Reason::NotAllocated(error) }))
    }
}

impl From<InvalidRequest> for Failure {
    fn from(error: InvalidRequest) -> Self {
        AllocError::from(error).into()
    }
}

impl From<cma_client::Error> for Failure {
    fn from(error: cma_client::Error) -> Self {
        let text = match &error {
            cma_client::Error::NoServer { path, source } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    let path = path.display();
                    format!("{error}; start one with `cma serve --socket {path}`")
                }
                io::ErrorKind::PermissionDenied => format!(
                    "{error}; the mode of the socket and of the folders above it decides who may \
                     connect (`cma serve --socket-mode`)"
                ),
                _ => error.to_string(),
            },
            _ => error.to_string(),
        };
        Failure::new(error.errno(), text)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        use cma_framework::loader::LoadFailure;
        let errno = match error.reason() {
            LoadFailure::Missing => Errno::ENOENT as c_int,
            LoadFailure::Folder => Errno::EISDIR as c_int,
            LoadFailure::Unreadable(error) => error.raw_os_error().unwrap_or(libc::EIO),
            LoadFailure::NoTrial(_) => Errno::EIO as c_int,
            _ => libc::ENOEXEC,
        };
        Failure::new(errno, error.to_string())
    }
}

/// Errors that have their errno with them.
macro_rules! with_errno {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::new(error.errno() as c_int, error.to_string())
            }
        }
    )*};
}

with_errno!(AttributeError, EarlyError, InfoError, MemoryError, RegisterAllocatorError);

impl From<Stuck> for Failure {
    fn from(stuck: Stuck) -> Self {
        AttributeError::Stuck(stuck).into()
    }
}

/// The last failure of a thread.
struct LastFailure {
    call: &'static str,
    errno: c_int,
    reason: Reason,
    /// The texts that the program asked for. They stay until the next failure.
    text: Option<CString>,
    json: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Option<LastFailure>> = const { RefCell::new(None) };
}

#[derive(Serialize)]
struct FailureJson<'a> {
    call: &'a str,
    errno: c_int,
    message: String,
    regions: Option<Vec<RegionJson>>,
}

#[derive(Serialize)]
struct RegionJson {
    region: String,
    reason: String,
}

impl LastFailure {
    fn message(&self) -> String {
        match &self.reason {
            Reason::Text(text) => text.clone(),
            Reason::NotAllocated(error) => error.to_string(),
        }
    }

    fn json(&self) -> String {
        let refusals = match &self.reason {
            Reason::NotAllocated(AllocError::NoRegion(refusals)) => Some(refusals),
            Reason::NotAllocated(AllocError::TimedOut(waited)) => Some(&waited.refusals),
            _ => None,
        };
        let region = |refusal: &'_ Refusal| RegionJson {
            region: refusal.region.clone(),
            reason: refusal.reason.to_string(),
        };
        let json = FailureJson {
            call: self.call,
            errno: self.errno,
            message: self.message(),
            regions: refusals.map(|refusals| refusals.iter().map(region).collect()),
        };
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// Text for C. Nothing that the library writes contains a NUL byte, but names may.
pub(crate) fn c_text(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text: Vec<u8> = error.into_vec().into_iter().filter(|byte| *byte != 0).collect();
        CString::new(text).unwrap_or_default()
    })
}

/// A text of the last failure, or the text for none.
fn last(none: &'static CStr, text_of: impl Fn(&mut LastFailure) -> &CString) -> *const c_char {
    LAST.try_with(|last| match &mut *last.borrow_mut() {
        Some(last) => text_of(last).as_ptr(),
        None => none.as_ptr(),
    })
    .unwrap_or(none.as_ptr())
}

/// Why the last call that failed in this thread failed: one line, for people. Empty if none has
/// failed. The text stays until the next call that fails in this thread. Any thread may call it.
///
/// Call it in a statement behind the call that failed: C evaluates the arguments of one function in
/// any order.
#[unsafe(no_mangle)]
pub extern "C" fn cma_last_error() -> *const c_char {
    last(c"", |last| {
        let text = c_text(last.message());
        last.text.get_or_insert(text)
    })
}

/// The same as a JSON object in one line, for programs: "call", the name of the call; "errno",
/// positive; "message", the text of cma_last_error; and "regions", for a request that the regions
/// of a host refused: a list of objects, each with "region" and "reason", in the order in which the
/// regions were tried. "regions" is null otherwise; a server sends its reasons as text, which is in
/// the message. The whole text is "null" if no call has failed. It stays until the next call that
/// fails in this thread. Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn cma_last_error_json() -> *const c_char {
    last(c"null", |last| {
        let json = c_text(last.json());
        last.json.get_or_insert(json)
    })
}

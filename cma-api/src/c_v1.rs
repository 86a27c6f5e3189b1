//! Allocator plug-ins in C, version 1: the Rust side of `include/cma_allocator.h`.
//!
//! A library in C exports the constant [`SYMBOL`], a [`Table`] of texts and functions.
//! [`Table::read`] checks it and returns a [`CAllocator`], which makes allocators of the same type
//! as a plug-in in Rust ([`AllocatorBox`]). The header is the contract of each function; a test
//! compares the layout of every structure on both sides.
//!
//! An allocator in C that returns a number that is no result, or no result where one is due, or
//! [`BROKEN`] from any function but `check`, is *broken*: it is not called again, not even to
//! release it, as a Rust allocator that panicked. What `check` finds is reported only, as that of a
//! Rust allocator is.

mod object;

use crate::v1::{AllocatorAbi_TO, AllocatorBox};
use crate::{PageRange, Pages, Placement, Request};
use abi_stable::sabi_trait::TD_Opaque;
use object::{Object, Reason, no_result};
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

/// The name of the constant that a library exports.
pub const SYMBOL: &str = "cma_allocator_v1";

/// The version of the interface: the value of [`Table::version`].
pub const VERSION: u32 = 1;

/// Done; every result is written.
pub const OK: c_int = 0;
/// Refused; nothing has changed.
pub const REFUSED: c_int = 1;
/// The allocator's own data are broken.
pub const BROKEN: c_int = 2;

/// The size in bytes of the buffer for a reason.
pub const REASON: usize = 256;

/// The longest text of a table that is read, in bytes: more than [`name_fault`](crate::name_fault)
/// and [`text_fault`](crate::text_fault) accept, so that what is cut off is refused as too long.
const LONGEST_TEXT: usize = 512;

/// A range or a placement that no function has written.
const UNWRITTEN: PageRange = PageRange::from_pages(u64::MAX, u64::MAX);

/// `struct cma_allocator_request`: a request, with alignment and boundary as numbers of pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header documents each field")]
pub struct CRequest {
    pub pages: u64,
    pub alignment: u64,
    pub boundary: u64,
    pub window: PageRange,
    pub asker: u32,
    pub hints: u32,
}

impl From<&Request> for CRequest {
    fn from(request: &Request) -> Self {
        CRequest {
            pages: request.pages().get(),
            alignment: request.alignment().pages().get(),
            boundary: request.boundary().pages().get(),
            window: request.window(),
            asker: request.asker().0,
            hints: 0,
        }
    }
}

type Initialise =
    unsafe extern "C" fn(PageRange, *const c_char, *mut *mut c_void, *mut c_char) -> c_int;
type Cleanup = unsafe extern "C" fn(*mut c_void);
type Allocate = unsafe extern "C" fn(*mut c_void, *const CRequest, *mut Placement) -> c_int;
type Fit = unsafe extern "C" fn(*mut c_void, *const CRequest, *mut PageRange) -> c_int;
type Free = unsafe extern "C" fn(*mut c_void, *const Placement) -> c_int;
type Visit = unsafe extern "C" fn(*mut c_void, PageRange);
type Holes = unsafe extern "C" fn(*mut c_void, Visit, *mut c_void);
type Adopt = unsafe extern "C" fn(*mut c_void, PageRange, *mut u64, *mut c_char) -> c_int;
type LargestRequest = unsafe extern "C" fn(*mut c_void) -> u64;
type Check = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;

/// `struct cma_allocator_v1`: what a library exports.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the header documents each field")]
pub struct Table {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub algorithm_version: *const c_char,
    pub description: *const c_char,
    pub initialise: Option<Initialise>,
    pub cleanup: Option<Cleanup>,
    pub allocate: Option<Allocate>,
    pub fit: Option<Fit>,
    pub free: Option<Free>,
    pub holes: Option<Holes>,
    pub adopt: Option<Adopt>,
    pub largest_request: Option<LargestRequest>,
    pub check: Option<Check>,
}

/// Why a table is not that of a plug-in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableFault {
    /// It is of another version of the interface.
    #[error(
        "it is built for version {theirs} of the C interface of allocators, but this program \
         supports version {VERSION}"
    )]
    Version {
        /// The version that it states.
        theirs: u32,
    },
    /// It has another size than its version.
    #[error(
        "its table {SYMBOL} states version {VERSION} and {theirs} bytes, but in this program version \
         {VERSION} has {} bytes",
        size_of::<Table>()
    )]
    Size {
        /// The size in bytes that it states, or that the library has.
        theirs: u64,
    },
    /// A text is a null pointer.
    #[error("the {what} in its table {SYMBOL} is a null pointer")]
    NoText {
        /// `name`, `version` or `description`.
        what: &'static str,
    },
    /// A text is not UTF-8.
    #[error("its {what} \"{found}\" is not UTF-8")]
    NotUtf8 {
        /// `name`, `version` or `description`.
        what: &'static str,
        /// The start of the text, with other bytes escaped.
        found: String,
    },
    /// A function that it must have is a null pointer.
    #[error("the function `{name}` in its table {SYMBOL} is a null pointer")]
    NoFunction {
        /// The field of the table.
        name: &'static str,
    },
}

impl Table {
    /// Checks the version and the size that a table states. Both are its first fields, so that a
    /// host can read them from a file.
    ///
    /// # Errors
    ///
    /// [`TableFault::Version`], [`TableFault::Size`].
    pub const fn check_header(version: u32, size: u32) -> Result<(), TableFault> {
        if version != VERSION {
            Err(TableFault::Version { theirs: version })
        } else if size as usize != size_of::<Table>() {
            Err(TableFault::Size { theirs: size as u64 })
        } else {
            Ok(())
        }
    }

    /// Reads the table of a library, and checks it. Texts are copied, and not checked against
    /// [`name_fault`](crate::name_fault) and [`text_fault`](crate::text_fault). The copies live
    /// until the process ends, so this is called once for each library.
    ///
    /// # Errors
    ///
    /// Another version or size; a null pointer where a text or a function is due; a text that is
    /// not UTF-8.
    ///
    /// # Safety
    ///
    /// `table` points to the version and the size of a table, and to a whole one if both are those
    /// of this program. Its texts end with a 0 and its functions are those of
    /// `cma_allocator.h`. The library is never unloaded.
    pub unsafe fn read(table: *const Table) -> Result<&'static CAllocator, TableFault> {
        // SAFETY: the caller's promise: the first two fields are there.
        let header = unsafe { table.cast::<[u32; 2]>().read_unaligned() };
        Table::check_header(header[0], header[1])?;
        // SAFETY: the caller's promise: version and size are right, so it is whole.
        let table = unsafe { table.read_unaligned() };
        let text = |what, pointer| {
            // SAFETY: the caller's promise.
            unsafe { text_at(what, pointer) }
        };
        let missing = |name| TableFault::NoFunction { name };
        let read = CAllocator {
            name: text("name", table.name)?,
            version: text("version", table.algorithm_version)?,
            description: text("description", table.description)?,
            initialise: table.initialise.ok_or(missing("initialise"))?,
            cleanup: table.cleanup.ok_or(missing("cleanup"))?,
            allocate: table.allocate.ok_or(missing("allocate"))?,
            fit: table.fit.ok_or(missing("fit"))?,
            free: table.free.ok_or(missing("free"))?,
            holes: table.holes.ok_or(missing("holes"))?,
            adopt: table.adopt,
            largest_request: table.largest_request,
            check: table.check,
        };
        Ok(Box::leak(Box::new(read)))
    }
}

/// A copy of the text of a table at `pointer`, up to [`LONGEST_TEXT`].
///
/// # Safety
///
/// `pointer` is null or points to a text that ends with a 0.
unsafe fn text_at(what: &'static str, pointer: *const c_char) -> Result<&'static str, TableFault> {
    if pointer.is_null() {
        return Err(TableFault::NoText { what });
    }
    let mut bytes = Vec::new();
    for at in 0..LONGEST_TEXT {
        // SAFETY: no byte before this one is 0, so it belongs to the text.
        match unsafe { pointer.wrapping_add(at).cast::<u8>().read() } {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.leak()),
        // Cut off in the middle of a character, perhaps.
        Err(error) if error.as_bytes().len() == LONGEST_TEXT => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned().leak())
        }
        Err(error) => {
            let found = &error.as_bytes()[..error.as_bytes().len().min(80)];
            Err(TableFault::NotUtf8 { what, found: found.escape_ascii().to_string() })
        }
    }
}

/// An algorithm in C: its texts, and its functions as a checked [`Table`] has them.
#[derive(Debug)]
pub struct CAllocator {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    initialise: Initialise,
    cleanup: Cleanup,
    allocate: Allocate,
    fit: Fit,
    free: Free,
    holes: Holes,
    adopt: Option<Adopt>,
    largest_request: Option<LargestRequest>,
    check: Option<Check>,
}

impl CAllocator {
    /// The name by which regions select it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The algorithm's own version.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// A description in one line.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// A new allocator for the empty region `region`, with the parameters `params`.
    ///
    /// # Errors
    ///
    /// The plug-in's reason to refuse the region or the parameters, or how its `initialise` breaks
    /// the contract. A region without a page, and parameters with a character 0, are refused before
    /// the plug-in is called.
    pub fn initialise(
        &'static self,
        region: PageRange,
        params: &str,
    ) -> Result<AllocatorBox, String> {
        if region.pages() == Pages::ZERO {
            return Err("the region has no page".to_string());
        }
        let params =
            CString::new(params).map_err(|_| "the parameters have a character 0".to_string())?;
        let mut state = ptr::null_mut();
        let mut reason = Reason::new();
        // SAFETY: the function is that of the header, by the promise of `Table::read`; the text
        // ends with a 0, and both results have the sizes of the header.
        let result = unsafe {
            (self.initialise)(region, params.as_ptr(), &raw mut state, reason.as_mut_ptr())
        };
        match (result, NonNull::new(state)) {
            (OK, Some(state)) => {
                let object = Object { plugin: self, state, region, fault: None };
                Ok(AllocatorAbi_TO::from_value(object, TD_Opaque))
            }
            (OK, None) => Err("`initialise` returned 0, but made no allocator".to_string()),
            (REFUSED, _) => Err(reason.or("it refuses the region or the parameters")),
            (other, _) => Err(no_result("initialise", other)),
        }
    }
}

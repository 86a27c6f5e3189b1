//! A host, and the device that its requests name.
//!
//! A request that names its device finds its regions by the names. Most programs name one device
//! again and again, so a host keeps that device open. A call takes it out of the host and puts it
//! back; a call that finds it taken, or names another device, asks the framework.

use cma_framework::{AllocError, Chunk, Cma, Device};
use std::ffi::{CStr, CString, c_char};

/// A device is opened after this many requests in a row that the one before didn't serve. Opening
/// it costs as much as two requests, so a program that names many devices hardly notices it.
const REQUESTS_TO_OPEN: u32 = 64;

/// What a handle of a host is for.
pub(crate) struct HostObject {
    cma: Cma,
    /// The device that most requests name, unless a call uses it.
    named: Option<Box<NamedDevice>>,
    /// Requests since one that it served.
    others: u32,
}

/// What a request uses.
pub(crate) enum Way {
    Device(Box<NamedDevice>),
    /// With true, its device becomes the one that is kept open.
    Framework(Cma, bool),
}

impl HostObject {
    pub(crate) fn new(cma: Cma) -> Self {
        HostObject { cma, named: None, others: 0 }
    }

    pub(crate) fn cma(&self) -> &Cma {
        &self.cma
    }

    /// The way for a request of `device` for memory of type `kind`.
    ///
    /// # Safety
    ///
    /// Each is null or a text.
    #[inline(always)]
    pub(crate) unsafe fn way(&mut self, device: *const c_char, kind: *const c_char) -> Way {
        // SAFETY: the caller's.
        let named = self.named.take_if(|named| unsafe { named.has(device, kind) });
        match named {
            Some(named) => {
                self.others = 0;
                Way::Device(named)
            }
            None => {
                self.others = self.others.wrapping_add(1);
                Way::Framework(self.cma.clone(), self.others.is_multiple_of(REQUESTS_TO_OPEN))
            }
        }
    }

    /// Keeps a device open. Returns the one that was kept before.
    #[inline(always)]
    pub(crate) fn keep(&mut self, named: Box<NamedDevice>) -> Option<Box<NamedDevice>> {
        self.named.replace(named)
    }
}

/// A device with the names that requests have of it.
pub(crate) struct NamedDevice {
    device: Device,
    name: CString,
    kind: Option<CString>,
}

impl NamedDevice {
    /// Opens a device. `None` if the names are none.
    #[cold]
    pub(crate) fn open(cma: &Cma, device: &str, kind: Option<&str>) -> Option<Box<Self>> {
        let name = CString::new(device).ok()?;
        let text = kind.map(CString::new).transpose().ok()?;
        let device = cma.device(device, kind).ok()?;
        Some(Box::new(NamedDevice { device, name, kind: text }))
    }

    #[inline(always)]
    pub(crate) fn alloc(&self, bytes: u64, alignment: u64) -> Result<Chunk, AllocError> {
        self.device.alloc(bytes, alignment)
    }

    /// Whether these are its names.
    ///
    /// # Safety
    ///
    /// Each is null or a text.
    #[inline(always)]
    unsafe fn has(&self, device: *const c_char, kind: *const c_char) -> bool {
        // SAFETY: the caller's.
        let is_device = unsafe { is(device, Some(&self.name)) };
        // SAFETY: the caller's.
        is_device && unsafe { is(kind, self.kind.as_deref()) }
    }
}

/// Whether `text` is `expected`; null is no text.
///
/// # Safety
///
/// It is null or a text.
#[inline(always)]
unsafe fn is(text: *const c_char, expected: Option<&CStr>) -> bool {
    match expected {
        // SAFETY: the caller's.
        Some(expected) if !text.is_null() => unsafe { libc::strcmp(text, expected.as_ptr()) == 0 },
        expected => text.is_null() && expected.is_none(),
    }
}

//! Devices of a host, which allocate again and again.

use crate::border::{border, handle_place, optional_text, text};
use crate::chunk::{cma_chunk, hand_over};
use crate::failure::Failure;
use crate::handles::{Object, Table};
use crate::host::{cma_host, framework};
use cma_framework::Device;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

/// A device that allocates memory of one type again and again: it finds its regions once. One
/// thread uses it at a time; a second call meanwhile gets -EBUSY. Each thread opens its own.
pub struct cma_device(());

impl Object for cma_device {
    type Value = Device;
    const KIND: u8 = 5;
    const NAME: &'static str = "device";

    fn table() -> &'static Table<Self> {
        static DEVICES: Table<cma_device> = Table::new();
        &DEVICES
    }
}

/// Opens a device: a handle for requests of "device" for memory of "type" (NULL for "common").
/// Whether the map has a rule for it is checked at each request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_device_open(
    host: *mut cma_host,
    device: *const c_char,
    r#type: *const c_char,
    opened: Option<&mut MaybeUninit<*mut cma_device>>,
) -> c_int {
    border("cma_device_open", || {
        let out = handle_place(opened, "device")?;
        // SAFETY: a text of the caller.
        let device = unsafe { text(device, "name of the device") }?;
        // SAFETY: a text of the caller.
        let kind = unsafe { optional_text(r#type, "type") }?;
        out.write(cma_device::table().insert(framework(host)?.device(device, kind)?)?);
        Ok(())
    })
}

/// Allocates a chunk for the device, as cma_host_alloc.
#[unsafe(no_mangle)]
pub extern "C" fn cma_device_alloc(
    device: *mut cma_device,
    bytes: u64,
    alignment: u64,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_device_alloc", || {
        let out = handle_place(chunk, "chunk")?;
        let device = cma_device::table().borrow(device).map_err(Failure::handle::<cma_device>)?;
        hand_over(device.alloc(bytes, alignment), out)
    })
}

/// Ends the handle. Its chunks stay.
#[unsafe(no_mangle)]
pub extern "C" fn cma_device_close(device: *mut cma_device) -> c_int {
    border("cma_device_close", || {
        cma_device::table().take(device).map(drop).map_err(Failure::handle::<cma_device>)
    })
}

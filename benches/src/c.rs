//! The whole path as a contestant, by the calls of `libcma` that a program in C makes.

use crate::contestant::Contestant;
use crate::framework::{PluginSource, framework_map};
use cma::{
    cma_chunk, cma_chunk_free, cma_chunk_info, cma_device, cma_device_alloc, cma_device_open,
    cma_host, cma_host_alloc, cma_host_config, cma_host_load, cma_host_open,
};
use cma_api::{Alignment, PAGE_SIZE, PageRange};
use std::ffi::{CString, c_int};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// A result of a call, if it has succeeded.
#[inline]
fn made<T>(call: impl FnOnce(&mut MaybeUninit<T>) -> c_int) -> Option<T> {
    let mut result = MaybeUninit::uninit();
    // SAFETY: a call that has succeeded has written its result.
    (call(&mut result) == 0).then(|| unsafe { result.assume_init() })
}

/// A host with one region and the plug-in of `S`.
fn host<S: PluginSource>(region: PageRange) -> *mut cma_host {
    let text = |text: String| CString::new(text).expect("no NUL byte");
    let regions = text(format!("region0={:#x}@{}", region.bytes(), region.start()));
    let banks = text(format!("{:#x}@{}", region.bytes(), region.start()));
    let map = text(framework_map(1));
    let config = cma_host_config {
        size: size_of::<cma_host_config>() as u32,
        flags: 0,
        regions: regions.as_ptr(),
        map: map.as_ptr(),
        banks: banks.as_ptr(),
        memory: c"simulated".as_ptr(),
        allocators: c"".as_ptr(),
    };
    // SAFETY: the texts outlive the call.
    let host = made(|host| unsafe { cma_host_open(&raw const config, Some(host)) });
    let host = host.expect("a valid configuration");
    let plugin = S::plugin();
    let path = plugin.path().expect("a plug-in from a file").as_os_str().as_bytes();
    let path = CString::new(path).expect("no NUL byte");
    // SAFETY: the path outlives the call.
    let loaded = unsafe { cma_host_load(host, path.as_ptr(), ptr::null(), 0) };
    assert_eq!(loaded, 0, "a plug-in for this framework");
    host
}

fn first_page(chunk: *mut cma_chunk) -> u64 {
    let size = size_of::<cma_chunk_info>() as u32;
    let mut info = cma_chunk_info { size, has_memory: 0, start: 0, bytes: 0, granule_bytes: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { cma_chunk_info(chunk, &raw mut info) };
    info.start / PAGE_SIZE
}

/// A C program that opens its device once.
#[derive(Debug)]
pub struct ByDevice<S> {
    device: *mut cma_device,
    source: PhantomData<S>,
}

impl<S: PluginSource> Contestant for ByDevice<S> {
    const NAME: &'static str = "libcma (device)";
    type Chunk = *mut cma_chunk;

    fn new(region: PageRange, _most_live: u32) -> Self {
        let host = host::<S>(region);
        // SAFETY: the text is static.
        let device = made(|device| unsafe {
            cma_device_open(host, c"camera0".as_ptr(), ptr::null(), Some(device))
        });
        ByDevice { device: device.expect("a valid name"), source: PhantomData }
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk> {
        let bytes = u64::from(pages) * PAGE_SIZE;
        made(|chunk| cma_device_alloc(self.device, bytes, alignment.bytes(), Some(chunk)))
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        cma_chunk_free(chunk);
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        first_page(*chunk)
    }
}

/// A C program that names the device in each request.
#[derive(Debug)]
pub struct ByNames<S> {
    host: *mut cma_host,
    source: PhantomData<S>,
}

impl<S: PluginSource> Contestant for ByNames<S> {
    const NAME: &'static str = "libcma (names)";
    type Chunk = *mut cma_chunk;

    fn new(region: PageRange, _most_live: u32) -> Self {
        ByNames { host: host::<S>(region), source: PhantomData }
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk> {
        let (device, bytes) = (c"camera0".as_ptr(), u64::from(pages) * PAGE_SIZE);
        // SAFETY: the text is static.
        made(|chunk| unsafe {
            cma_host_alloc(self.host, device, ptr::null(), bytes, alignment.bytes(), Some(chunk))
        })
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        cma_chunk_free(chunk);
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        first_page(*chunk)
    }
}

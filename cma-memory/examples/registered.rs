//! A chunk registered with the kernel: as a buffer of `io_uring`, or for a device behind VFIO.
//!
//! ```sh
//! cargo run -p cma-memory --example registered -- io_uring Cargo.lock   # a file read into a chunk
//! sudo target/debug/examples/registered vfio 12                         # for IOMMU group 12
//! ```
//!
//! Both pin the chunk's pages: the kernel writes to the same memory until the registration ends,
//! whatever happens to mappings and descriptors. So a registration ends before its chunk is freed.
//! A huge page that is still pinned when its chunk is freed is set aside, and reaches no other
//! owner; ordinary memory is never used again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what happens")]

use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, Plugin};
use cma_memory::{Choice, Port, Ports, SharedBytes, map_shared};
use io_uring::{IoUring, opcode, types};
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["io_uring", path] => read_by_io_uring(path),
        ["vfio", group] => map_for_device(group),
        _ => Err("usage: registered io_uring FILE | vfio GROUP".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A framework whose region has memory of this kind.
fn framework(port: Port) -> Result<Cma, Box<dyn Error>> {
    let cma = Cma::new();
    cma.command_line(Some("dma=16M"), Some("*=dma"))?;
    let banks = Banks::new(&[Bank::new(0x4000_0000, 256 << 20)], Growth::Up);
    let mut ports = Ports::new(banks, Choice::from(port));
    cma.early_regions_reserve(&mut ports);
    for outcome in ports.outcomes() {
        println!("region {outcome}");
    }
    cma.initialise();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>())?;
    Ok(cma)
}

/// Reads a file into a chunk. The kernel finds the chunk's pages once, when it is registered, and
/// not at each read.
fn read_by_io_uring(path: &str) -> Result<(), Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let len = usize::try_from(file.metadata()?.len())?;
    let cma = framework(Port::Memfd)?;
    let chunk = cma.alloc("disk", None, len as u64, 0)?.share()?;
    let bytes = map_shared(&chunk)?;
    {
        let mut ring = IoUring::new(8)?;
        let whole = libc::iovec { iov_base: bytes.as_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: `bytes` stays mapped longer than the ring exists.
        unsafe { ring.submitter().register_buffers(&[whole]) }?;
        let mut at = 0;
        while at < len {
            match read_fixed(&mut ring, &file, &bytes, at, len - at)? {
                0 => return Err(format!("{path} ends after {at} of {len} bytes").into()),
                read => at += read,
            }
        }
    } // The registration ends.
    let mut read = vec![0; len];
    bytes.read(0, &mut read);
    let sum =
        read.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    println!("read {len} bytes into the chunk at {}, sum {sum:016x}", chunk.start());
    Ok(())
}

/// Reads up to `len` bytes at byte `at` of `file` to the same place of the registered bytes, and
/// waits for the end. Returns how many were read.
fn read_fixed(
    ring: &mut IoUring,
    file: &File,
    bytes: &SharedBytes,
    at: usize,
    len: usize,
) -> Result<usize, Box<dyn Error>> {
    let len = len.min(1 << 20);
    let place = &bytes[at..at + len];
    let entry = opcode::ReadFixed::new(
        types::Fd(file.as_raw_fd()),
        place.as_ptr().cast_mut().cast(),
        len as u32,
        0,
    )
    .offset(at as u64)
    .build();
    // SAFETY: the place is in the registered buffer, and the file is open, until the read has
    // ended. The kernel may write there at any time: the bytes are atomic.
    unsafe { ring.submission().push(&entry) }?;
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().ok_or("the read did not end")?;
    match done.result() {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error).into()),
        read => Ok(read as usize),
    }
}

/// Makes a chunk of huge pages the memory of the devices of an IOMMU group: they find it at the
/// chunk's own address. The group's devices must be bound to `vfio-pci`.
fn map_for_device(group: &str) -> Result<(), Box<dyn Error>> {
    let open = |path: String| {
        let file = File::options().read(true).write(true).open(&path);
        file.map_err(|error| format!("{path}: {error}"))
    };
    let container = open("/dev/vfio/vfio".to_string())?;
    let group = open(format!("/dev/vfio/{group}"))?;
    let descriptor = container.as_raw_fd();
    // SAFETY: these calls take an integer, or a pointer to one that they read.
    unsafe { vfio(&group, SET_CONTAINER, (&raw const descriptor).expose_provenance()) }?;
    // SAFETY: as above.
    unsafe { vfio(&container, SET_IOMMU, TYPE1V2) }?;

    let cma = framework(Port::Hugetlb)?;
    let chunk = cma.alloc("nic", None, 2 << 20, 2 << 20)?.share()?;
    let bytes = map_shared(&chunk)?;
    let mut map = DmaMap {
        argsz: size_of::<DmaMap>() as u32,
        flags: READABLE | WRITABLE,
        vaddr: bytes.as_ptr().addr() as u64,
        iova: chunk.start().get(),
        size: bytes.len() as u64,
    };
    // SAFETY: the structure is that of `linux/vfio.h`, and `bytes` stays mapped until the devices
    // have lost the memory, by the call below or by the end of `container`.
    unsafe { vfio(&container, MAP_DMA, (&raw mut map).expose_provenance()) }?;
    println!("the devices of the group see {} bytes at {}", bytes.len(), chunk.start());
    // A driver would now start its devices, and stop them before this.
    let mut unmap =
        DmaUnmap { argsz: size_of::<DmaUnmap>() as u32, flags: 0, iova: map.iova, size: map.size };
    // SAFETY: the structure is that of `linux/vfio.h`.
    unsafe { vfio(&container, UNMAP_DMA, (&raw mut unmap).expose_provenance()) }?;
    Ok(())
}

/// `struct vfio_iommu_type1_dma_map` of `linux/vfio.h`.
#[repr(C)]
struct DmaMap {
    argsz: u32,
    flags: u32,
    /// An address of this process.
    vaddr: u64,
    /// The address that the devices use.
    iova: u64,
    /// In bytes.
    size: u64,
}

/// `struct vfio_iommu_type1_dma_unmap` of `linux/vfio.h`.
#[repr(C)]
struct DmaUnmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

// `_IO(';', 100 + n)` of `linux/vfio.h`.
const SET_IOMMU: libc::c_ulong = 0x3b66;
const SET_CONTAINER: libc::c_ulong = 0x3b68;
const MAP_DMA: libc::c_ulong = 0x3b71;
const UNMAP_DMA: libc::c_ulong = 0x3b72;
/// `VFIO_TYPE1v2_IOMMU`.
const TYPE1V2: usize = 3;
/// `VFIO_DMA_MAP_FLAG_READ`, and `_WRITE`.
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;

/// # Safety
///
/// `argument` is what `linux/vfio.h` says for the call.
unsafe fn vfio(file: &File, call: libc::c_ulong, argument: usize) -> Result<(), Box<dyn Error>> {
    // SAFETY: the caller guarantees it.
    match unsafe { libc::ioctl(file.as_raw_fd(), call as _, argument) } {
        error if error < 0 => {
            let error = io::Error::last_os_error();
            Err(format!("VFIO call {}: {error}", (call & 0xff) - 100).into())
        }
        _ => Ok(()),
    }
}

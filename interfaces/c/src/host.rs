//! The host: a framework in this process.

use crate::border::{
    Context, Grows, border, handle_place, optional_text, read_struct, text, write_struct,
    write_text,
};
use crate::chunk::{cma_chunk, hand_over};
use crate::failure::Failure;
use crate::figures::{cma_info, cma_statistics};
use crate::handles::{Object, Table};
use crate::named::{HostObject, NamedDevice, Way};
use crate::observation::{Callback, ObservationObject, cma_event_callback, cma_observation};
use crate::pending::{PendingObject, cma_pending};
use crate::request::{Wanted, cma_request};
use cma_framework::attributes::AttributeError;
use cma_framework::config::{Bank, ConfigError, Growth};
use cma_framework::loader::Trial;
use cma_framework::reserve::Banks;
use cma_framework::{AllocError, Chunk, Cma, EarlyState, Errno, Plugin, Process};
use cma_memory::{Choice, Ports};
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A framework in this process. Any number of threads may use it at the same time. A child has none
/// after a fork: its threads are gone, and its memory is the parent's.
pub struct cma_host(());

impl Object for cma_host {
    type Value = HostObject;
    const KIND: u8 = 4;
    const NAME: &'static str = "host";

    fn table() -> &'static Table<Self> {
        static HOSTS: Table<cma_host> = Table::new();
        &HOSTS
    }
}

/// The framework of a handle.
#[inline]
pub(crate) fn framework(host: *mut cma_host) -> Result<Cma, Failure> {
    cma_host::table().with(host, |host| host.cma().clone()).map_err(Failure::handle::<cma_host>)
}

/// The configuration of a host. Set "size" to sizeof(struct cma_host_config); fields that are NULL
/// have a default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_host_config {
    /// sizeof(struct cma_host_config).
    pub size: u32,
    /// 0.
    pub flags: u32,
    /// The regions, as in "b1=32M;b2=16M@0x48000000:buddy".
    pub regions: *const c_char,
    /// The map, as in "codec/frame=b1;*=b1,b2"; NULL for an empty one, to be set later.
    pub map: *const c_char,
    /// The banks of memory, as in "2G@0x40000000;2G@0x800000000", in which regions lie that have no
    /// physical addresses. NULL for one bank from 1 MiB to 1 TiB.
    pub banks: *const c_char,
    /// The memory of the regions: "simulated" (addresses alone), "memfd" (ordinary memory),
    /// "hugetlb" (huge pages), "auto" (huge pages, else ordinary memory), or by region, as in
    /// "b1=hugetlb,memfd". NULL for "memfd".
    pub memory: *const c_char,
    /// The allocators that are registered at once: any of best-fit, tlsf, buddy, bitmap and
    /// packing, separated by commas. The first is the default one. NULL for "best-fit"; "" for
    /// none.
    pub allocators: *const c_char,
}

// SAFETY: numbers and pointers, the size first.
unsafe impl Grows for cma_host_config {
    const NAME: &'static str = "cma_host_config";
    const LEAST: usize = offset_of!(cma_host_config, map);
}

const WHOLE_BANK: &str = "1048575M@1M";

/// The configuration as texts.
struct Configuration<'a> {
    regions: &'a str,
    map: &'a str,
    banks: &'a str,
    memory: &'a str,
    allocators: &'a str,
}

impl<'a> Configuration<'a> {
    /// # Safety
    ///
    /// `config` is null or a configuration of the caller, whose texts live for `'a`.
    unsafe fn read(config: *const cma_host_config) -> Result<Self, Failure> {
        // SAFETY: the caller's.
        let config = unsafe { read_struct(config) }?;
        if config.flags != 0 {
            let flags = config.flags;
            return Err(Failure::invalid(format!("unknown flags of cma_host_config: {flags:#x}")));
        }
        let text_or = |text: *const c_char, name, default| {
            // SAFETY: the caller's.
            let text = unsafe { optional_text(text, name) };
            text.map(|text| text.unwrap_or(default))
        };
        Ok(Configuration {
            // SAFETY: the caller's.
            regions: unsafe { text(config.regions, "description of the regions") }?,
            map: text_or(config.map, "map", "")?,
            banks: text_or(config.banks, "list of banks", WHOLE_BANK)?,
            memory: text_or(config.memory, "choice of memory", "memfd")?,
            allocators: text_or(config.allocators, "list of allocators", "best-fit")?,
        })
    }

    fn boot(&self) -> Result<Cma, Failure> {
        let cma = Cma::new();
        let invalid = |what: &'static str| {
            move |error: ConfigError| Failure::invalid(format!("{what}: {error}"))
        };
        cma.command_line(Some(self.regions), None).map_err(invalid("regions"))?;
        cma.command_line(None, Some(self.map)).map_err(invalid("map"))?;
        let banks = Bank::parse_list(self.banks).map_err(invalid("banks"))?;
        let choice: Choice =
            self.memory.parse().map_err(|error| Failure::invalid(format!("memory: {error}")))?;
        let names = self.allocators.split(',').map(str::trim).filter(|name| !name.is_empty());
        let plugins = names.map(built_in).collect::<Result<Vec<_>, _>>()?;
        let mut ports = Ports::new(Banks::new(&banks, Growth::Up), choice);
        cma.early_regions_reserve(&mut ports);
        let mut failed = Vec::new();
        for early in cma.initialise() {
            let (errno, reason): (_, &dyn fmt::Display) = match &early.state() {
                EarlyState::Registered(_) => continue,
                EarlyState::NotReserved(error) => (error.errno(), &error.clone()),
                EarlyState::NotRegistered(_, error) => (error.errno(), &error.clone()),
                _ => (Errno::EIO, &"not initialised"),
            };
            let name = early.description().name.clone().unwrap_or_default();
            failed.push((errno, format!("region {name}: {reason}")));
        }
        if let Some(name) = ports.unrequested().next() {
            let text = format!("memory: it is chosen for region {name}, which is not configured");
            return Err(Failure::invalid(text));
        }
        if let Some((errno, _)) = failed.first() {
            let reasons: Vec<_> = failed.iter().map(|(_, reason)| reason.as_str()).collect();
            return Err(Failure::new(*errno as c_int, reasons.join("; ")));
        }
        // With regions to serve, each of which begins at once.
        for plugin in plugins {
            cma.allocator_register(plugin)?;
        }
        Ok(cma)
    }
}

fn built_in(name: &str) -> Result<Plugin, Failure> {
    match name {
        "best-fit" => Ok(Plugin::built_in::<cma_best_fit::BestFit>()),
        "tlsf" => Ok(Plugin::built_in::<cma_tlsf::Tlsf>()),
        "buddy" => Ok(Plugin::built_in::<cma_buddy::Buddy>()),
        "bitmap" => Ok(Plugin::built_in::<cma_bitmap::Bitmap>()),
        "packing" => Ok(Plugin::built_in::<cma_packing::Packing>()),
        _ => Err(Failure::new(
            libc::ENOENT,
            format!(
                "no allocator \"{}\" is built in: there are best-fit, tlsf, buddy, bitmap and \
                 packing; cma_host_load loads others from files",
                name.escape_debug()
            ),
        )),
    }
}

/// Makes a host: reserves memory for its regions, and registers them and the allocators. If a
/// region can't be had, nothing is made; cma_last_error names each such region with the reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_open(
    config: *const cma_host_config,
    host: Option<&mut MaybeUninit<*mut cma_host>>,
) -> c_int {
    border("cma_host_open", || {
        let out = handle_place(host, "host")?;
        // SAFETY: a structure of the caller.
        let config = unsafe { Configuration::read(config) }?;
        out.write(cma_host::table().insert(HostObject::new(config.boot()?))?);
        Ok(())
    })
}

/// Ends the handle. Chunks, devices, pending requests and observations of the host stay usable
/// until they end; the memory is released with the last of them.
#[unsafe(no_mangle)]
pub extern "C" fn cma_host_close(host: *mut cma_host) -> c_int {
    border("cma_host_close", || {
        cma_host::table().take(host).map(drop).map_err(Failure::handle::<cma_host>)
    })
}

/// A flag of cma_host_load: the plug-in replaces an allocator of the same name.
pub const CMA_LOAD_REPLACE: u32 = 1;

/// Loads an allocator from the plug-in at "path", libcma_NAME_plugin.so, and registers it. Regions
/// that wait for it are served from then on. Without CMA_LOAD_REPLACE an allocator of the same name
/// is -EEXIST. With it, the new one adopts the live chunks of the regions that the old one serves;
/// a region whose chunks it can't adopt keeps the old one. -ENOEXEC if the file is no plug-in for
/// this library.
///
/// "trial" is the path of the program cma, which tries the plug-in in processes of its own first,
/// so that one that crashes doesn't end this process. NULL for no trial. A plug-in is native code
/// and can do what this process can.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_load(
    host: *mut cma_host,
    path: *const c_char,
    trial: *const c_char,
    flags: u32,
) -> c_int {
    border("cma_host_load", || {
        // SAFETY: a text of the caller.
        let path = Path::new(unsafe { text(path, "path of the plug-in") }?);
        // SAFETY: a text of the caller.
        let trial = unsafe { optional_text(trial, "path of the program cma") }?.map(PathBuf::from);
        if flags & !CMA_LOAD_REPLACE != 0 {
            return Err(Failure::invalid(format!("unknown flags of cma_host_load: {flags:#x}")));
        }
        let cma = framework(host)?;
        let plugin = match trial {
            Some(program) => Trial::new(move || Command::new(&program)).run(path)?.load()?,
            None => Plugin::load(path)?,
        };
        if flags & CMA_LOAD_REPLACE != 0 {
            cma.allocator_replace(plugin)?;
        } else {
            cma.allocator_register(plugin)?;
        }
        Ok(())
    })
}

/// Allocates a chunk of "bytes" bytes for "device", in memory of "type" (NULL for "common"), at a
/// multiple of "alignment" bytes (0 for a page). The size is rounded up to whole pages.
///
/// The errno is that of the specification: -ENOMEM if no region has room, -ENOENT if no rule of the
/// map matches the device, -EIO if an allocator doesn't return. cma_last_error and
/// cma_last_error_json have the reason of each region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_alloc(
    host: *mut cma_host,
    device: *const c_char,
    r#type: *const c_char,
    bytes: u64,
    alignment: u64,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_host_alloc", || {
        let out = handle_place(chunk, "chunk")?;
        // SAFETY: texts of the caller.
        let way = cma_host::table().with(host, |host| unsafe { host.way(device, r#type) });
        match way.map_err(Failure::handle::<cma_host>)? {
            Way::Device(named) => {
                let made = hand_over(named.alloc(bytes, alignment), out);
                keep(host, named);
                made
            }
            Way::Framework(cma, open) => {
                // SAFETY: a text of the caller.
                let device = unsafe { text(device, "device") }?;
                // SAFETY: a text of the caller.
                let kind = unsafe { optional_text(r#type, "type") }?;
                let made = cma.alloc(device, kind, bytes, alignment);
                if open
                    && made.is_ok()
                    && let Some(named) = NamedDevice::open(&cma, device, kind)
                {
                    keep(host, named);
                }
                hand_over(made, out)
            }
        }
    })
}

/// Keeps a device open until the host is closed.
#[inline(always)]
fn keep(host: *mut cma_host, named: Box<NamedDevice>) {
    let before = cma_host::table().with(host, |host| host.keep(named));
    drop(before);
}

/// The process that has chunks that can be given to others.
fn this_process() -> Process {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    Process {
        uid: rustix::process::getuid().as_raw(),
        pid: std::process::id(),
        name: name.trim_end().into(),
    }
}

fn allocate(cma: &Cma, wanted: &Wanted<'_>) -> Result<Chunk, AllocError> {
    let (source, request) = wanted.to_host();
    if wanted.share {
        return cma.to_share(this_process(), source, &request)?.alloc();
    }
    cma.allocate(source, &request)
}

/// Allocates a chunk with limits. If the request waits, the call blocks; -ETIMEDOUT if its time is
/// over. Otherwise as cma_host_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_allocate(
    host: *mut cma_host,
    request: *const cma_request,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_host_allocate", || {
        let out = handle_place(chunk, "chunk")?;
        // SAFETY: a structure of the caller.
        let wanted = unsafe { Wanted::read(request) }?;
        hand_over(allocate(&framework(host)?, &wanted), out)
    })
}

/// Makes a request and returns at once. cma_pending_descriptor returns a descriptor that becomes
/// readable when it is worth calling cma_pending_finish. Requests wait in the order of their
/// asking: one that could be served and is not finished holds up those behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_request(
    host: *mut cma_host,
    request: *const cma_request,
    pending: Option<&mut MaybeUninit<*mut cma_pending>>,
) -> c_int {
    border("cma_host_request", || {
        let out = handle_place(pending, "pending request")?;
        // SAFETY: a structure of the caller.
        let wanted = unsafe { Wanted::read(request) }?;
        let cma = framework(host)?;
        let pending = match wanted.wait {
            None => {
                let result = allocate(&cma, &wanted).map_err(Failure::from);
                PendingObject::answered(cma, result)?
            }
            Some(longest) => {
                let (source, request) = wanted.to_host();
                let future = if wanted.share {
                    cma.to_share(this_process(), source, &request)?.alloc_async()
                } else {
                    cma.allocate_async(source, &request)?
                };
                PendingObject::waiting(cma, future, longest)?
            }
        };
        out.write(cma_pending::table().insert(pending)?);
        Ok(())
    })
}

/// The figures of the regions that may serve "device" for "type" (NULL for "common").
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_info(
    host: *mut cma_host,
    device: *const c_char,
    r#type: *const c_char,
    info: *mut cma_info,
) -> c_int {
    border("cma_host_info", || {
        // SAFETY: a text of the caller.
        let device = unsafe { text(device, "device") }?;
        // SAFETY: a text of the caller.
        let kind = unsafe { optional_text(r#type, "type") }?;
        // SAFETY: a structure of the caller.
        unsafe { write_struct(info, || Ok(framework(host)?.info(device, kind)?.into())) }
    })
}

/// The figures of the regions of a list, "a,b|c".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_info_about(
    host: *mut cma_host,
    regions: *const c_char,
    info: *mut cma_info,
) -> c_int {
    border("cma_host_info_about", || {
        // SAFETY: a text of the caller.
        let regions = unsafe { text(regions, "list of regions") }?;
        // SAFETY: a structure of the caller.
        unsafe { write_struct(info, || Ok(framework(host)?.info_about(regions)?.into())) }
    })
}

/// The figures of the region of that name. -ENOENT if there is none, -EIO while its allocator
/// doesn't return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_statistics(
    host: *mut cma_host,
    region: *const c_char,
    statistics: *mut cma_statistics,
) -> c_int {
    border("cma_host_statistics", || {
        // SAFETY: a text of the caller.
        let name = unsafe { text(region, "region") }?;
        let read = || {
            let region = framework(host)?.region(name).ok_or_else(|| {
                let text = format!("there is no region \"{}\"", name.escape_debug());
                Failure::new(libc::ENOENT, text)
            })?;
            cma_statistics::of(&region)
        };
        // SAFETY: a structure of the caller.
        unsafe { write_struct(statistics, read) }
    })
}

/// Puts a map in force, at once and whole: "codec/frame=b1;*=b1,b2". If it is invalid, -EINVAL, and
/// nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_set_map(host: *mut cma_host, map: *const c_char) -> c_int {
    border("cma_host_set_map", || {
        // SAFETY: a text of the caller.
        let map = unsafe { text(map, "map") }?;
        Ok(framework(host)?.attributes().write("map", map.as_bytes())?)
    })
}

/// Gives a region another allocator, by its name, with parameters or without. The new one adopts
/// the live chunks, each at its place. If it can't, -EBUSY, and the old one stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_set_allocator(
    host: *mut cma_host,
    region: *const c_char,
    allocator: *const c_char,
) -> c_int {
    border("cma_host_set_allocator", || {
        // SAFETY: a text of the caller.
        let region = unsafe { text(region, "region") }?;
        // SAFETY: a text of the caller.
        let allocator = unsafe { text(allocator, "allocator") }?;
        let attributes = framework(host)?.attributes();
        Ok(attributes.write(&format!("regions/{region}/alloc"), allocator.as_bytes())?)
    })
}

/// Reads the attribute at "path", such as "map" or "regions/b1/free", as a text with a NUL
/// byte. For a folder the text has a line for each entry: "name" for an attribute, "name/" for a
/// folder, "name -> target" for a link; "" is the root. "length", unless it is NULL, gets the
/// length of the whole text. -ERANGE if it doesn't fit with its NUL byte into "capacity" bytes;
/// nothing is written then, and "text" may be NULL with the capacity 0. The text may be longer at
/// the next call. -ENOENT if there is nothing at the path.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_get(
    host: *mut cma_host,
    path: *const c_char,
    text: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    border("cma_host_get", || {
        // SAFETY: a text of the caller.
        let path = unsafe { crate::border::text(path, "path") }?;
        let attributes = framework(host)?.attributes();
        let read = match attributes.read(path) {
            Err(AttributeError::Folder) => attributes.list_text(path)?,
            read => read?,
        };
        // SAFETY: the caller has the capacity.
        unsafe { write_text(&read, text, capacity, length) }
    })
}

/// Writes the attribute at "path". -EACCES for one that is read-only, -EINVAL for a text that is
/// wrong; then nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_set(
    host: *mut cma_host,
    path: *const c_char,
    text: *const c_char,
) -> c_int {
    border("cma_host_set", || {
        // SAFETY: a text of the caller.
        let path = unsafe { crate::border::text(path, "path") }?;
        // SAFETY: a text of the caller.
        let value = unsafe { crate::border::text(text, "text") }?;
        Ok(framework(host)?.attributes().write(path, value.as_bytes())?)
    })
}

/// Has "callback" called for each event of the host, with "context", by a thread of its own. It
/// begins with an event CMA_EVENT_BEGAN for each region.
///
/// The callback may block and may use the host. No request waits for it: up to 65,536 events wait
/// for the callback, and further ones are dropped and counted (CMA_EVENT_MISSED); after that each
/// region concerned begins anew. It must return: no exception of C++ and no longjmp may leave it.
/// An observed host is slower.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_host_observe(
    host: *mut cma_host,
    callback: cma_event_callback,
    context: *mut c_void,
    observation: Option<&mut MaybeUninit<*mut cma_observation>>,
) -> c_int {
    border("cma_host_observe", || {
        let out = handle_place(observation, "observation")?;
        let function = callback.ok_or_else(|| Failure::invalid("the callback is NULL"))?;
        let callback = Callback { function, context: Context(context) };
        let observation = ObservationObject::begin(&framework(host)?, callback)?;
        out.write(cma_observation::table().insert(observation)?);
        Ok(())
    })
}

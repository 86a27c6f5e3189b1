//! The client: chunks of a server in another process.

use crate::border::{border, handle_place, optional_text, text, write_struct, write_text};
use crate::chunk::{cma_chunk, hand_over};
use crate::failure::Failure;
use crate::figures::cma_info;
use crate::handles::{Object, Table};
use crate::pending::{PendingObject, cma_pending};
use crate::remote::Server;
use crate::request::{Wanted, cma_request};
use ::cma_client::{AttributeText, ChunkRequest, DEFAULT_SOCKET, RegionSelector};
use cma_device_protocol::Request;
use std::env;
use std::ffi::{OsStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A server that was reached. Any number of threads may use it at the same time. After a fork of a
/// process with one thread the child may use it, too. Each request takes a connection of its own.
pub struct cma_client(());

impl Object for cma_client {
    type Value = Arc<Server>;
    const KIND: u8 = 2;
    const NAME: &'static str = "client";

    fn table() -> &'static Table<Self> {
        static CLIENTS: Table<cma_client> = Table::new();
        &CLIENTS
    }
}

/// The server of a handle.
fn server(client: *mut cma_client) -> Result<Arc<Server>, Failure> {
    cma_client::table().with(client, |server| server.clone()).map_err(Failure::handle::<cma_client>)
}

/// Reaches the server that listens at the path "socket"; NULL for the path in the environment
/// variable CMA_SOCKET, or else /run/cma/cma.sock, that of the service. -ENODEV if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_open(
    socket: *const c_char,
    client: Option<&mut MaybeUninit<*mut cma_client>>,
) -> c_int {
    border("cma_client_open", || {
        let out = handle_place(client, "client")?;
        // SAFETY: a text of the caller.
        let path = match unsafe { optional_text(socket, "path of the socket") }? {
            Some(path) => PathBuf::from(path),
            None => match env::var_os("CMA_SOCKET") {
                Some(path) => path.into(),
                None => OsStr::from_bytes(DEFAULT_SOCKET.to_bytes()).into(),
            },
        };
        if path.as_os_str().is_empty() {
            return Err(Failure::invalid("the path of the socket is empty"));
        }
        out.write(cma_client::table().insert(Arc::new(Server::connect(&path)?))?);
        Ok(())
    })
}

/// Ends the handle. Chunks and requests of the client stay.
#[unsafe(no_mangle)]
pub extern "C" fn cma_client_close(client: *mut cma_client) -> c_int {
    border("cma_client_close", || {
        cma_client::table().take(client).map(drop).map_err(Failure::handle::<cma_client>)
    })
}

/// Allocates a chunk of "bytes" bytes for "device", in memory of "type" (NULL for "common"), at a
/// multiple of "alignment" bytes (0 for a page). The size is rounded up.
///
/// The errno is that of the specification, or of the server: -ENOMEM if no region has room, -ENOENT
/// if no rule of the map matches the device, -EACCES if the server's rules don't allow it, -EDQUOT
/// at the limit of the user. cma_last_error has the reasons.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_alloc(
    client: *mut cma_client,
    device: *const c_char,
    r#type: *const c_char,
    bytes: u64,
    alignment: u64,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_client_alloc", || {
        let out = handle_place(chunk, "chunk")?;
        // SAFETY: a text of the caller.
        let device = unsafe { text(device, "device") }?;
        // SAFETY: a text of the caller.
        let kind = unsafe { optional_text(r#type, "type") }?.unwrap_or_default();
        let from = RegionSelector::Device { device, kind };
        let request = Request::Alloc {
            from,
            chunk: ChunkRequest::new(bytes).aligned(alignment),
            memory: true,
        };
        hand_over(server(client)?.allocate(&request), out)
    })
}

/// Allocates a chunk with limits. If the request waits, the call blocks; -ETIMEDOUT if its time is
/// over. Otherwise as cma_client_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_allocate(
    client: *mut cma_client,
    request: *const cma_request,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_client_allocate", || {
        let out = handle_place(chunk, "chunk")?;
        // SAFETY: a structure of the caller.
        let (from, chunk) = unsafe { Wanted::read(request) }?.to_server();
        let request = Request::Alloc { from, chunk, memory: true };
        hand_over(server(client)?.allocate(&request), out)
    })
}

/// Makes a request and returns at once. cma_pending_descriptor returns a descriptor that becomes
/// readable when it is answered; cma_pending_finish takes the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_request(
    client: *mut cma_client,
    request: *const cma_request,
    pending: Option<&mut MaybeUninit<*mut cma_pending>>,
) -> c_int {
    border("cma_client_request", || {
        let out = handle_place(pending, "pending request")?;
        // SAFETY: a structure of the caller.
        let (from, chunk) = unsafe { Wanted::read(request) }?.to_server();
        let request = Request::Alloc { from, chunk, memory: true };
        let pending = PendingObject::sent(server(client)?.open()?, &request)?;
        out.write(cma_pending::table().insert(pending)?);
        Ok(())
    })
}

/// The figures of the regions that may serve "device" for "type" (NULL for "common").
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_info(
    client: *mut cma_client,
    device: *const c_char,
    r#type: *const c_char,
    info: *mut cma_info,
) -> c_int {
    border("cma_client_info", || {
        // SAFETY: a text of the caller.
        let device = unsafe { text(device, "device") }?;
        // SAFETY: a text of the caller.
        let kind = unsafe { optional_text(r#type, "type") }?;
        let ask = || Ok(server(client)?.client().info(device, kind)?.into());
        // SAFETY: a structure of the caller.
        unsafe { write_struct(info, ask) }
    })
}

/// The figures of the regions of a list, "a,b|c".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_info_about(
    client: *mut cma_client,
    regions: *const c_char,
    info: *mut cma_info,
) -> c_int {
    border("cma_client_info_about", || {
        // SAFETY: a text of the caller.
        let regions = unsafe { text(regions, "list of regions") }?;
        let ask = || Ok(server(client)?.client().info_about(regions)?.into());
        // SAFETY: a structure of the caller.
        unsafe { write_struct(info, ask) }
    })
}

/// Reads an attribute of the server's framework, as cma_host_get. -EACCES unless this process runs
/// as root or as the server's user.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_client_get(
    client: *mut cma_client,
    path: *const c_char,
    text: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    border("cma_client_get", || {
        // SAFETY: a text of the caller.
        let path = unsafe { crate::border::text(path, "path") }?;
        let (AttributeText::Text(read) | AttributeText::Folder(read)) =
            server(client)?.client().attribute(path)?;
        // SAFETY: the caller has the capacity.
        unsafe { write_text(&read, text, capacity, length) }
    })
}

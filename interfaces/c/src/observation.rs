//! Events of a host, passed to a function of the program.

use crate::border::{Context, Grows, border, write_struct};
use crate::failure::{Failure, c_text};
use crate::handles::{Object, Table};
use cma_framework::events::{Asked, Event, Observation, Observer, What};
use cma_framework::{AllocError, Cma, PageRange};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// An observation of a host. Any thread may use it.
pub struct cma_observation(());

impl Object for cma_observation {
    type Value = ObservationObject;
    const KIND: u8 = 6;
    const NAME: &'static str = "observation";

    fn table() -> &'static Table<Self> {
        static OBSERVATIONS: Table<cma_observation> = Table::new();
        &OBSERVATIONS
    }
}

/// The observation of a region begins, with "count" live chunks and the allocator "text".
pub const CMA_EVENT_BEGAN: u32 = 1;
/// A region was unregistered.
pub const CMA_EVENT_ENDED: u32 = 2;
/// A request was served: "start" and "bytes" are the chunk.
pub const CMA_EVENT_PLACED: u32 = 3;
/// The chunk at "start" was freed.
pub const CMA_EVENT_RELEASED: u32 = 4;
/// The region refused a request; "text" is the reason. "last" is 1 if the request has failed with
/// that.
pub const CMA_EVENT_REFUSED: u32 = 5;
/// A request failed with "text", without a region whose refusal was known to be the last.
pub const CMA_EVENT_FAILED: u32 = 6;
/// A request that waited was given up.
pub const CMA_EVENT_GIVEN_UP: u32 = 7;
/// The allocator "text" serves the region from now on.
pub const CMA_EVENT_ATTACHED: u32 = 8;
/// The allocator "text" serves the region no longer.
pub const CMA_EVENT_DETACHED: u32 = 9;
/// An allocator, or another build of it, does not serve the region, for the reason "text".
pub const CMA_EVENT_NOT_ATTACHED: u32 = 10;
/// The region's allocator is out of service, for the reason "text".
pub const CMA_EVENT_OUT_OF_SERVICE: u32 = 11;
/// The region's allocator doesn't return from a call.
pub const CMA_EVENT_STUCK: u32 = 12;
/// The allocator of a stuck region has returned; "count" operations were deferred.
pub const CMA_EVENT_RESUMED: u32 = 13;
/// Memory was set aside: a process still holds it.
pub const CMA_EVENT_SET_ASIDE: u32 = 14;
/// Memory that was set aside is free again.
pub const CMA_EVENT_RECOVERED: u32 = 15;
/// "count" events were dropped at this point.
pub const CMA_EVENT_MISSED: u32 = 16;
/// Something else, which "text" describes.
pub const CMA_EVENT_OTHER: u32 = 17;

/// An event. It and its texts are valid during the call of the callback. Texts are NULL and numbers
/// 0 where the kind of event has none.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_event {
    /// The size of the structure that the library passes. A later version may pass a longer one,
    /// and never a shorter one than sizeof(struct cma_event) of this header.
    pub size: u32,
    /// CMA_EVENT_BEGAN and so on. A later version may have further kinds.
    pub kind: u32,
    /// How long ago it happened, in nanoseconds, when the callback is called.
    pub age_ns: u64,
    /// The region.
    pub region: *const c_char,
    /// The chunk or the range.
    pub start: u64,
    /// Its size in bytes; for a request that was not served, the requested size.
    pub bytes: u64,
    /// A number that distinguishes the requests of this process; the same in all events of one.
    pub request: u64,
    /// The device of the request.
    pub device: *const c_char,
    /// The type of memory of the request.
    pub r#type: *const c_char,
    /// The regions that the request named instead of a device.
    pub regions: *const c_char,
    /// What the kind of event says.
    pub text: *const c_char,
    /// What the kind of event says.
    pub count: u64,
    /// The errno of a request that failed (CMA_EVENT_FAILED), positive.
    pub error: i32,
    /// 1 if a request has failed with this refusal (CMA_EVENT_REFUSED).
    pub last: u32,
}

/// A function that receives events. "context" is that of cma_host_observe.
pub type cma_event_callback =
    Option<unsafe extern "C" fn(context: *mut c_void, event: *const cma_event)>;

/// How far the delivery of events has come. Set "size" before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_delivery {
    /// sizeof(struct cma_delivery).
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// The events that the callback has received.
    pub received: u64,
    /// The events that were dropped because it was slower than they came.
    pub missed: u64,
    /// The events on the way to it.
    pub waiting: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for cma_delivery {
    const NAME: &'static str = "cma_delivery";
    const LEAST: usize = offset_of!(cma_delivery, missed);
}

/// What a handle of an observation is for.
#[derive(Clone)]
pub(crate) struct ObservationObject {
    observation: Arc<Observation>,
    receiver: Arc<Receiver>,
}

/// The program's function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callback {
    pub(crate) function: unsafe extern "C" fn(*mut c_void, *const cma_event),
    pub(crate) context: Context,
}

/// Calls the program's function.
struct Receiver {
    callback: Callback,
    has_ended: AtomicBool,
    /// Held during a call.
    calling: Mutex<()>,
    /// The thread that calls.
    thread: OnceLock<ThreadId>,
}

impl Observer for Receiver {
    fn receive(&self, event: &Event) {
        self.thread.get_or_init(|| thread::current().id());
        let _calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_ended.load(Ordering::Acquire) {
            return;
        }
        let texts = Texts::of(event);
        let event = texts.as_event(event);
        let Callback { function, context: Context(context) } = self.callback;
        // SAFETY: the program's function, with the context that it gave; the event lives until the
        // function returns.
        unsafe { function(context, &raw const event) };
    }
}

impl ObservationObject {
    pub(crate) fn begin(cma: &Cma, callback: Callback) -> Result<Self, Failure> {
        let receiver = Arc::new(Receiver {
            callback,
            has_ended: AtomicBool::new(false),
            calling: Mutex::new(()),
            thread: OnceLock::new(),
        });
        let observation = cma.observe(receiver.clone());
        let observation = observation.map_err(|error| Failure::system("a thread", &error))?;
        Ok(ObservationObject { observation: Arc::new(observation), receiver })
    }

    /// Ends it. No call of the function begins after this, and none is in progress, except that in
    /// which the program ends the observation.
    fn end(self) {
        let ObservationObject { observation, receiver } = self;
        receiver.has_ended.store(true, Ordering::Release);
        drop(observation);
        if receiver.thread.get() != Some(&thread::current().id()) {
            drop(receiver.calling.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// The texts of an event.
#[derive(Default)]
struct Texts {
    region: Option<CString>,
    device: Option<CString>,
    kind: Option<CString>,
    regions: Option<CString>,
    text: Option<CString>,
}

impl Texts {
    fn of(event: &Event) -> Self {
        let region = event.region.as_ref().map(|region| c_text(region.to_string()));
        let mut texts = Texts { region, ..Texts::default() };
        if let Some(asked) = asked(&event.what) {
            if let Some((device, kind)) = &asked.device {
                texts.device = Some(c_text(device.to_string()));
                texts.kind = Some(c_text(kind.to_string()));
            }
            if !asked.regions.is_empty() {
                texts.regions = Some(c_text(asked.regions.to_string()));
            }
        }
        texts.text = text(&event.what).map(c_text);
        texts
    }

    fn as_event(&self, event: &Event) -> cma_event {
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
        let range = range(&event.what);
        let asked = asked(&event.what);
        let bytes = match (range, asked) {
            (Some(range), _) => range.bytes(),
            (None, Some(asked)) => asked.request.size.0,
            (None, None) => 0,
        };
        let age = Instant::now().saturating_duration_since(event.at);
        cma_event {
            size: size_of::<cma_event>() as u32,
            kind: kind(&event.what),
            age_ns: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX),
            region: pointer(&self.region),
            start: range.map_or(0, |range| range.start().get()),
            bytes,
            request: asked.map_or(0, |asked| asked.number + 1),
            device: pointer(&self.device),
            r#type: pointer(&self.kind),
            regions: pointer(&self.regions),
            text: pointer(&self.text),
            count: count(&event.what),
            error: match &event.what {
                What::Failed { error, .. } => AllocError::errno(error) as i32,
                _ => 0,
            },
            last: matches!(event.what, What::Refused { last: true, .. }).into(),
        }
    }
}

fn kind(what: &What) -> u32 {
    match what {
        What::Began { .. } => CMA_EVENT_BEGAN,
        What::Ended => CMA_EVENT_ENDED,
        What::Placed { .. } => CMA_EVENT_PLACED,
        What::Released { .. } => CMA_EVENT_RELEASED,
        What::Refused { .. } => CMA_EVENT_REFUSED,
        What::Failed { .. } => CMA_EVENT_FAILED,
        What::GivenUp { .. } => CMA_EVENT_GIVEN_UP,
        What::Attached { .. } => CMA_EVENT_ATTACHED,
        What::Detached { .. } => CMA_EVENT_DETACHED,
        What::NotAttached { .. } | What::NotChanged { .. } | What::NotReplaced { .. } => {
            CMA_EVENT_NOT_ATTACHED
        }
        What::OutOfService { .. } => CMA_EVENT_OUT_OF_SERVICE,
        What::Stuck(_) => CMA_EVENT_STUCK,
        What::Resumed { .. } => CMA_EVENT_RESUMED,
        What::SetAside { .. } => CMA_EVENT_SET_ASIDE,
        What::Recovered { .. } => CMA_EVENT_RECOVERED,
        What::Missed { .. } => CMA_EVENT_MISSED,
        _ => CMA_EVENT_OTHER,
    }
}

fn asked(what: &What) -> Option<&Asked> {
    match what {
        What::Placed { asked, .. }
        | What::Refused { asked, .. }
        | What::Failed { asked, .. }
        | What::GivenUp { asked } => Some(asked),
        _ => None,
    }
}

fn range(what: &What) -> Option<PageRange> {
    match what {
        What::Placed { range, .. }
        | What::Released { range }
        | What::SetAside { range, .. }
        | What::Recovered { range } => Some(*range),
        What::Restored(owner) => Some(owner.range),
        _ => None,
    }
}

fn count(what: &What) -> u64 {
    match what {
        What::Began { live, .. } => live.len() as u64,
        What::Resumed { deferred } => *deferred as u64,
        What::Missed { count } => *count,
        _ => 0,
    }
}

fn text(what: &What) -> Option<String> {
    Some(match what {
        What::Began { allocator, .. } => return allocator.clone(),
        What::Refused { reason, .. } | What::NotAttached { reason } => reason.to_string(),
        What::Failed { error, .. } => error.to_string(),
        What::Attached { allocator } | What::Detached { allocator } => allocator.clone(),
        What::OutOfService { allocator, reason } => format!("{allocator}: {reason}"),
        What::NotChanged { error } | What::NotReplaced { error } => error.clone(),
        What::Stuck(stuck) => stuck.to_string(),
        What::Restored(owner) => format!("restored: {owner}"),
        What::NotFreed { address } => format!("no chunk starts at {address}"),
        _ => return None,
    })
}

/// What a handle is for.
fn observation_of(observation: *mut cma_observation) -> Result<ObservationObject, Failure> {
    let table = cma_observation::table();
    table.with(observation, |object| object.clone()).map_err(Failure::handle::<cma_observation>)
}

/// Waits until the callback has received the events up to now, "longest_ms" milliseconds at most.
/// -ETIMEDOUT if it has not. Not for the callback itself.
#[unsafe(no_mangle)]
pub extern "C" fn cma_observation_catch_up(
    observation: *mut cma_observation,
    longest_ms: u64,
) -> c_int {
    border("cma_observation_catch_up", || {
        let ObservationObject { observation, .. } = observation_of(observation)?;
        match observation.catch_up(Duration::from_millis(longest_ms)) {
            true => Ok(()),
            false => Err(Failure::new(libc::ETIMEDOUT, "events still wait for the callback")),
        }
    })
}

/// Reads how many events were delivered, dropped, and are on the way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_observation_delivery(
    observation: *mut cma_observation,
    delivery: *mut cma_delivery,
) -> c_int {
    border("cma_observation_delivery", || {
        let read = || {
            let now = observation_of(observation)?.observation.delivery();
            let waiting = now.waiting as u64;
            Ok(cma_delivery {
                size: 0,
                reserved: 0,
                received: now.received,
                missed: now.missed,
                waiting,
            })
        };
        // SAFETY: a structure of the caller.
        unsafe { write_struct(delivery, read) }
    })
}

/// Ends the observation and the handle. When it returns, the callback is not called any more, and
/// no call is in progress: the call waits for one. Inside the callback itself it may be called too;
/// then that call is the last. Events that still waited are dropped.
#[unsafe(no_mangle)]
pub extern "C" fn cma_observation_end(observation: *mut cma_observation) -> c_int {
    border("cma_observation_end", || {
        let ended = cma_observation::table().take(observation);
        ended.map_err(Failure::handle::<cma_observation>)?.end();
        Ok(())
    })
}

//! The thread that reads what is shown.
//!
//! It sends an [`Update`] for each interval, and takes an [`Order`] at any moment in between. A
//! source that takes longer than the interval is read when the reader is ready again: updates never
//! pile up, because the channel holds one.

use cma_running::State;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

/// What is shown: a server, or a trace that is executed.
pub(crate) trait Source {
    /// What is read, in a few words.
    fn title(&self) -> String;

    /// The time between two reads.
    fn interval(&self) -> Duration;

    /// Doubles or halves the pace.
    fn change_pace(&mut self, faster: bool);

    /// The state now. `elapsed` has passed since the last call, without pauses.
    fn read(&mut self, elapsed: Duration) -> Result<Sample, Failed>;

    /// The state after one step, while paused.
    fn step(&mut self) -> Result<Sample, Failed>;
}

/// A state, and its moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) state: State,
    /// The time of the state, from any start on.
    pub(crate) at: Duration,
    /// The pace and the place, such as `every 1s`.
    pub(crate) pace: String,
    /// Whether there is nothing more to come.
    pub(crate) ended: bool,
}

/// A read that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: cma_running::Error,
}

/// What the thread sends.
#[derive(Debug)]
pub(crate) enum Update {
    /// What it reads.
    Title(String),
    Sample(Sample),
    Failed(Failed),
    /// There is nothing to read.
    NotStarted(crate::Error),
}

/// What the thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Pause,
    Resume,
    Step,
    Faster,
    Slower,
}

/// The thread, as seen by the screen. When it is dropped, the thread ends after its present read.
#[derive(Debug)]
pub(crate) struct Sampler {
    pub(crate) updates: Receiver<Update>,
    orders: Sender<Order>,
}

impl Sampler {
    /// Starts a thread that runs `body`, which sends its updates by a [`Reader`].
    pub(crate) fn start(body: impl FnOnce(&Reader) + Send + 'static) -> io::Result<Sampler> {
        let (sender, updates) = sync_channel(1);
        let (orders, receiver) = channel();
        let reader = Reader { updates: sender, orders: receiver };
        thread::Builder::new().name("top-reader".to_string()).spawn(move || {
            // The panic hook has kept its message; the screen sees that the channel is closed.
            let _ = catch_unwind(AssertUnwindSafe(|| body(&reader)));
        })?;
        Ok(Sampler { updates, orders })
    }

    /// Tells the thread something. One that has ended does not care.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

/// The thread's side.
#[derive(Debug)]
pub(crate) struct Reader {
    updates: SyncSender<Update>,
    orders: Receiver<Order>,
}

/// The screen is closed.
struct Closed;

impl Reader {
    /// Reports that there is nothing to read.
    pub(crate) fn not_started(&self, error: crate::Error) {
        let _ = self.updates.send(Update::NotStarted(error));
    }

    /// Reads `source` until the screen is closed.
    pub(crate) fn run(&self, source: &mut dyn Source) {
        let _ = self.send(Update::Title(source.title())).and_then(|()| self.read_all(source));
    }

    fn read_all(&self, source: &mut dyn Source) -> Result<(), Closed> {
        let mut last = Instant::now();
        self.send(update(source.read(Duration::ZERO)))?;
        let mut paused = false;
        loop {
            let order = if paused {
                Some(self.orders.recv().map_err(|_| Closed)?)
            } else {
                match self.orders.recv_timeout(source.interval().saturating_sub(last.elapsed())) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Err(Closed),
                }
            };
            match order {
                Some(Order::Pause) => paused = true,
                Some(Order::Resume) => (paused, last) = (false, Instant::now()),
                Some(Order::Step) => self.send(update(source.step()))?,
                Some(Order::Faster) => source.change_pace(true),
                Some(Order::Slower) => source.change_pace(false),
                None => {
                    let now = Instant::now();
                    self.send(update(source.read(now - last)))?;
                    last = now;
                }
            }
        }
    }

    fn send(&self, update: Update) -> Result<(), Closed> {
        self.updates.send(update).map_err(|_| Closed)
    }
}

fn update(read: Result<Sample, Failed>) -> Update {
    read.map_or_else(Update::Failed, Update::Sample)
}

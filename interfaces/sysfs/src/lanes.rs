//! Threads for what may take long, so that no request keeps a thread that serves the mount.
//!
//! Each user has two *lanes* for each attribute, for reading and for writing, and one thread at
//! most works in a lane. A region whose allocator doesn't answer holds up its own attributes and no
//! others, and a user with many requests to an attribute holds up nobody else's. A request that
//! gets no answer for [`PATIENCE`] is answered `EIO`, whether it waits in its lane or its thread is
//! stuck: so a reader that was killed goes, which the kernel lets go no earlier than it has an
//! answer. (The kernel tells of a signal by `FUSE_INTERRUPT`; `fuser` refuses that, and a thread
//! inside an allocator could not be interrupted either.)

use crate::caught;
use fuser::{Errno, ReplyData, ReplyWrite};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// As long a request waits for its answer. The framework gives up on a stuck region earlier, and
/// then its error is the answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// As many requests of one user wait or are worked on at the same time.
const MOST_OF_A_USER: usize = 1024;

/// A thread without work ends after that.
const LINGER: Duration = Duration::from_secs(5);

/// A reply that can refuse.
pub(crate) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

impl Refuse for ReplyData {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl Refuse for ReplyWrite {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

type Step = Box<dyn FnOnce() + Send>;

/// What a lane is for, and the user whose it is.
type Lane = (String, u32);

/// The lanes of a mount. Dropping it ends the threads, each when it is through with its work.
#[derive(Debug)]
pub(crate) struct Lanes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    end: Condvar,
}

#[derive(Default)]
struct State {
    /// The lanes in which a thread works, or is about to, each with what waits in it.
    lanes: HashMap<Lane, VecDeque<(u64, Step)>>,
    /// What a thread that is free begins with.
    ready: VecDeque<(Lane, Step)>,
    idle: usize,
    /// The requests without an answer, the oldest first.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    of_user: HashMap<u32, usize>,
    has_ended: bool,
}

struct Waiting {
    lane: Lane,
    deadline: Instant,
    refuse: Step,
}

impl Lanes {
    pub(crate) fn start() -> io::Result<Lanes> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        thread::Builder::new().name("attr-watch".to_string()).spawn(move || watched.watch())?;
        Ok(Lanes(shared))
    }

    /// Has a thread do `work` in `lane` for `user`, and give `reply` to `answer`, or refuse it.
    pub(crate) fn submit<R: Refuse, T>(
        &self,
        lane: String,
        user: u32,
        reply: R,
        work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        // Who comes first answers.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let take =
            |reply: &Mutex<Option<R>>| reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let refused = reply.clone();
        let refuse = move |errno| {
            if let Some(reply) = take(&refused) {
                reply.refuse(errno);
            }
        };
        let state = &mut *self.0.state();
        let requests = state.of_user.entry(user).or_default();
        if *requests >= MOST_OF_A_USER {
            return refuse(Errno::EAGAIN);
        }
        *requests += 1;
        let number = state.next;
        state.next += 1;
        let late: Step = {
            let (refuse, lane) = (refuse.clone(), lane.clone());
            Box::new(move || {
                let seconds = PATIENCE.as_secs();
                let _ = caught(|| {
                    tracing::warn!(
                        attribute = lane,
                        "no answer within {seconds} s; the request got EIO"
                    );
                    Ok(())
                });
                refuse(Errno::EIO);
            })
        };
        let lane = (lane, user);
        let deadline = Instant::now() + PATIENCE;
        state.waiting.insert(number, Waiting { lane: lane.clone(), deadline, refuse: late });
        let shared = self.0.clone();
        let step: Step = Box::new(move || {
            // Nobody waits any more for what was refused meanwhile.
            if reply.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                return;
            }
            let result = caught(work);
            drop(shared.state().answered(number));
            if let Some(reply) = take(&reply) {
                let _ = caught(|| {
                    match result {
                        Ok(result) => answer(reply, result),
                        Err(errno) => reply.refuse(errno),
                    }
                    Ok(())
                });
            }
        });
        if let Some(queue) = state.lanes.get_mut(&lane) {
            queue.push_back((number, step));
            return;
        }
        state.lanes.insert(lane.clone(), VecDeque::new());
        state.ready.push_back((lane.clone(), step));
        if state.idle >= state.ready.len() {
            self.0.work.notify_one();
            return;
        }
        let shared = self.0.clone();
        let spawned = thread::Builder::new().name("attr".to_string()).spawn(move || shared.work());
        if spawned.is_err() {
            // No thread is to be had now.
            state.ready.pop_back();
            state.lanes.remove(&lane);
            state.answered(number);
            refuse(Errno::EAGAIN);
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.work.notify_all();
        self.0.end.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is ready, and whatever follows in its lane, until there is nothing to do for a
    /// while.
    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some((lane, mut step)) = state.ready.pop_front() else {
                if state.has_ended {
                    return;
                }
                state.idle += 1;
                let waited = self.work.wait_timeout(state, LINGER);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if timeout.timed_out() && state.ready.is_empty() {
                    return;
                }
                continue;
            };
            loop {
                drop(state);
                step();
                state = self.state();
                match state.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                    Some((_, next)) => step = next,
                    None => break,
                }
            }
            state.lanes.remove(&lane);
        }
    }

    /// Refuses what has waited too long.
    fn watch(&self) {
        let mut state = self.state();
        while !state.has_ended {
            let now = Instant::now();
            // What comes while nothing waits is due no earlier.
            let first = state.waiting.first_key_value();
            let (number, due) =
                first.map_or((0, now + PATIENCE), |(number, first)| (*number, first.deadline));
            if due <= now {
                let (late, unbegun) = state.late(number);
                drop(state);
                if let Some(late) = late {
                    (late.refuse)();
                }
                drop(unbegun);
                state = self.state();
                continue;
            }
            let waited = self.end.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Takes out a request that has waited too long, and what was to be done for it if that has not
    /// begun: a lane that is stuck for long keeps nothing for requests that are refused.
    fn late(&mut self, number: u64) -> (Option<Waiting>, Option<Step>) {
        let late = self.answered(number);
        let queue = late.as_ref().and_then(|late| self.lanes.get_mut(&late.lane));
        // Requests of one lane become late in the order in which they came.
        let unbegun = queue.and_then(|queue| queue.pop_front_if(|(first, _)| *first == number));
        (late, unbegun.map(|(_, step)| step))
    }

    /// The request doesn't wait any more.
    fn answered(&mut self, number: u64) -> Option<Waiting> {
        let answered = self.waiting.remove(&number)?;
        let (_, user) = &answered.lane;
        if let Some(requests) = self.of_user.get_mut(user) {
            *requests -= 1;
            if *requests == 0 {
                self.of_user.remove(user);
            }
        }
        Some(answered)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    struct Told(Sender<Result<u32, i32>>);

    impl Refuse for Told {
        fn refuse(self, errno: Errno) {
            self.0.send(Err(errno.code())).unwrap();
        }
    }

    fn submit(
        lanes: &Lanes,
        lane: &str,
        user: u32,
        work: impl FnOnce() -> u32 + Send + 'static,
    ) -> Receiver<Result<u32, i32>> {
        let (tell, told) = channel();
        let answer = |reply: Told, number| reply.0.send(Ok(number)).unwrap();
        lanes.submit(lane.to_string(), user, Told(tell), move || Ok(work()), answer);
        told
    }

    #[test]
    fn a_lane_that_is_stuck_holds_up_no_other_and_its_requests_are_refused_in_the_end() {
        let lanes = Lanes::start().unwrap();
        let (open, gate) = channel::<()>();
        let stuck = submit(&lanes, "stuck", 1, move || gate.recv().map_or(1, |()| 2));
        let queued: Vec<_> = (0..100).map(|n| submit(&lanes, "stuck", 1, move || n)).collect();
        for n in 0..100 {
            assert_eq!(submit(&lanes, &format!("lane {n}"), 2, move || n).recv().unwrap(), Ok(n));
        }
        // Though nobody opens the gate.
        assert_eq!(stuck.recv().unwrap(), Err(Errno::EIO.code()));
        queued.iter().for_each(|queued| assert_eq!(queued.recv().unwrap(), Err(Errno::EIO.code())));
        // What was to be done for them is not kept until somebody opens it.
        assert!(lanes.0.state().lanes.values().all(VecDeque::is_empty));
        drop(open);
        assert_eq!(submit(&lanes, "stuck", 1, || 3).recv().unwrap(), Ok(3));
        assert!(lanes.0.state().waiting.is_empty() && lanes.0.state().of_user.is_empty());
    }

    /// Many requests of one user to an attribute made the requests of all others to it late.
    #[test]
    fn requests_of_one_user_to_an_attribute_hold_up_nobody_else_there() {
        let lanes = Lanes::start().unwrap();
        let (open, gate) = channel::<()>();
        let first = submit(&lanes, "owners", 1, move || gate.recv().map_or(1, |()| 2));
        let queued = submit(&lanes, "owners", 1, || 3);
        assert_eq!(submit(&lanes, "owners", 2, || 4).recv().unwrap(), Ok(4));
        assert!(queued.try_recv().is_err());
        drop(open);
        assert_eq!((first.recv().unwrap(), queued.recv().unwrap()), (Ok(1), Ok(3)));
    }

    #[test]
    fn a_user_whose_requests_wait_is_refused_more_and_others_are_not() {
        let lanes = Lanes::start().unwrap();
        let (open, gate) = channel::<()>();
        let stuck = submit(&lanes, "stuck", 1, move || gate.recv().map_or(1, |()| 2));
        let waiting: Vec<_> =
            (1..MOST_OF_A_USER).map(|_| submit(&lanes, "stuck", 1, || 3)).collect();
        assert_eq!(submit(&lanes, "other", 1, || 3).recv().unwrap(), Err(Errno::EAGAIN.code()));
        assert_eq!(submit(&lanes, "other", 2, || 3).recv().unwrap(), Ok(3));
        drop(open);
        assert_eq!(stuck.recv().unwrap(), Ok(1));
        waiting.iter().for_each(|waiting| assert_eq!(waiting.recv().unwrap(), Ok(3)));
        assert_eq!(submit(&lanes, "other", 1, || 3).recv().unwrap(), Ok(3));
    }

    #[test]
    fn work_that_panics_is_refused_and_its_lane_goes_on() {
        let lanes = Lanes::start().unwrap();
        for _ in 0..40 {
            let panicked =
                submit(&lanes, "lane", 1, || panic!("as work does that calls foreign code"));
            assert_eq!(panicked.recv().unwrap(), Err(Errno::EIO.code()));
        }
        assert_eq!(submit(&lanes, "lane", 1, || 3).recv().unwrap(), Ok(3));
    }
}

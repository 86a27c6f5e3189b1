//! Threads for what may take long, so that no request keeps a thread that serves the mount.
//!
//! Each user has two *queues* for each attribute, for reading and for writing, and one thread at
//! most works in a queue. A region whose allocator doesn't answer holds up its own attributes and no
//! others, and a user with many requests to an attribute holds up nobody else's. A request that
//! gets no answer for [`REPLY_TIMEOUT`] is answered `EIO`, whether it waits in its queue or its thread is
//! stuck: so a reader that was killed goes, which the kernel lets go no earlier than it has an
//! answer. (The kernel tells of a signal by `FUSE_INTERRUPT`; `fuser` refuses that, and a thread
//! inside an allocator could not be interrupted either.)

use crate::catch_panic;
use fuser::{Errno, ReplyData, ReplyWrite};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// As long a request waits for its answer. The framework gives up on a stuck region earlier, and
/// then its error is the answer.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// As many requests of one user wait or are worked on at the same time.
const MAX_REQUESTS_PER_USER: usize = 1024;

/// A thread without work ends after that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A reply that can refuse.
pub(crate) trait ReplyError: Send + 'static {
    fn refuse(self, errno: Errno);
}

impl ReplyError for ReplyData {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl ReplyError for ReplyWrite {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// What a queue is for, and the user whose it is.
type QueueKey = (String, u32);

/// The queues of a mount. Dropping it ends the threads, each when it is through with its work.
#[derive(Debug)]
pub(crate) struct SerialQueues(Arc<Scheduler>);

#[derive(Default)]
struct Scheduler {
    state: Mutex<State>,
    work: Condvar,
    end: Condvar,
}

#[derive(Default)]
struct State {
    /// The queues in which a thread works, or is about to, each with what waits in it.
    queues: HashMap<QueueKey, VecDeque<(u64, Job)>>,
    /// What a thread that is free begins with.
    ready: VecDeque<(QueueKey, Job)>,
    idle: usize,
    /// The requests without an answer, the oldest first.
    waiting: BTreeMap<u64, PendingRequest>,
    next: u64,
    of_user: HashMap<u32, usize>,
    has_ended: bool,
}

struct PendingRequest {
    queue: QueueKey,
    deadline: Instant,
    refuse: Job,
}

impl SerialQueues {
    pub(crate) fn start() -> io::Result<SerialQueues> {
        let shared = Arc::new(Scheduler::default());
        let watched = shared.clone();
        thread::Builder::new().name("attr-watch".to_string()).spawn(move || watched.watch())?;
        Ok(SerialQueues(shared))
    }

    /// Has a thread do `work` in `queue` for `user`, and give `reply` to `answer`, or refuse it.
    pub(crate) fn submit<R: ReplyError, T>(
        &self,
        queue: String,
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
        if *requests >= MAX_REQUESTS_PER_USER {
            return refuse(Errno::EAGAIN);
        }
        *requests += 1;
        let number = state.next;
        state.next += 1;
        let late: Job = {
            let (refuse, queue) = (refuse.clone(), queue.clone());
            Box::new(move || {
                let seconds = REPLY_TIMEOUT.as_secs();
                let _ = catch_panic(|| {
                    tracing::warn!(
                        attribute = queue,
                        "no answer within {seconds} s; the request got EIO"
                    );
                    Ok(())
                });
                refuse(Errno::EIO);
            })
        };
        let queue = (queue, user);
        let deadline = Instant::now() + REPLY_TIMEOUT;
        state
            .waiting
            .insert(number, PendingRequest { queue: queue.clone(), deadline, refuse: late });
        let shared = self.0.clone();
        let job: Job = Box::new(move || {
            // Nobody waits any more for what was refused meanwhile.
            if reply.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                return;
            }
            let result = catch_panic(work);
            drop(shared.state().answered(number));
            if let Some(reply) = take(&reply) {
                let _ = catch_panic(|| {
                    match result {
                        Ok(result) => answer(reply, result),
                        Err(errno) => reply.refuse(errno),
                    }
                    Ok(())
                });
            }
        });
        if let Some(queue) = state.queues.get_mut(&queue) {
            queue.push_back((number, job));
            return;
        }
        state.queues.insert(queue.clone(), VecDeque::new());
        state.ready.push_back((queue.clone(), job));
        if state.idle >= state.ready.len() {
            self.0.work.notify_one();
            return;
        }
        let shared = self.0.clone();
        let spawned = thread::Builder::new().name("attr".to_string()).spawn(move || shared.work());
        if spawned.is_err() {
            // No thread is to be had now.
            state.ready.pop_back();
            state.queues.remove(&queue);
            state.answered(number);
            refuse(Errno::EAGAIN);
        }
    }
}

impl Drop for SerialQueues {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.work.notify_all();
        self.0.end.notify_all();
    }
}

impl Scheduler {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is ready, and whatever follows in its queue, until there is nothing to do for a
    /// while.
    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some((queue, mut job)) = state.ready.pop_front() else {
                if state.has_ended {
                    return;
                }
                state.idle += 1;
                let waited = self.work.wait_timeout(state, IDLE_TIMEOUT);
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
                job();
                state = self.state();
                match state.queues.get_mut(&queue).and_then(VecDeque::pop_front) {
                    Some((_, next)) => job = next,
                    None => break,
                }
            }
            state.queues.remove(&queue);
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
                first.map_or((0, now + REPLY_TIMEOUT), |(number, first)| (*number, first.deadline));
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
    /// begun: a queue that is stuck for long keeps nothing for requests that are refused.
    fn late(&mut self, number: u64) -> (Option<PendingRequest>, Option<Job>) {
        let late = self.answered(number);
        let queue = late.as_ref().and_then(|late| self.queues.get_mut(&late.queue));
        // Requests of one queue become late in the order in which they came.
        let unbegun = queue.and_then(|queue| queue.pop_front_if(|(first, _)| *first == number));
        (late, unbegun.map(|(_, job)| job))
    }

    /// The request doesn't wait any more.
    fn answered(&mut self, number: u64) -> Option<PendingRequest> {
        let answered = self.waiting.remove(&number)?;
        let (_, user) = &answered.queue;
        if let Some(requests) = self.of_user.get_mut(user) {
            *requests -= 1;
            if *requests == 0 {
                self.of_user.remove(user);
            }
        }
        Some(answered)
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    struct Told(Sender<Result<u32, i32>>);

    impl ReplyError for Told {
        fn refuse(self, errno: Errno) {
            self.0.send(Err(errno.code())).unwrap();
        }
    }

    fn submit(
        queues: &SerialQueues,
        queue: &str,
        user: u32,
        work: impl FnOnce() -> u32 + Send + 'static,
    ) -> Receiver<Result<u32, i32>> {
        let (tell, told) = channel();
        let answer = |reply: Told, number| reply.0.send(Ok(number)).unwrap();
        queues.submit(queue.to_string(), user, Told(tell), move || Ok(work()), answer);
        told
    }

    #[test]
    fn a_lane_that_is_stuck_holds_up_no_other_and_its_requests_are_refused_in_the_end() {
        let queues = SerialQueues::start().unwrap();
        let (open, gate) = channel::<()>();
        let stuck = submit(&queues, "stuck", 1, move || gate.recv().map_or(1, |()| 2));
        let queued: Vec<_> = (0..100).map(|n| submit(&queues, "stuck", 1, move || n)).collect();
        for n in 0..100 {
            assert_eq!(submit(&queues, &format!("queue {n}"), 2, move || n).recv().unwrap(), Ok(n));
        }
        // Though nobody opens the gate.
        assert_eq!(stuck.recv().unwrap(), Err(Errno::EIO.code()));
        queued.iter().for_each(|queued| assert_eq!(queued.recv().unwrap(), Err(Errno::EIO.code())));
        // What was to be done for them is not kept until somebody opens it.
        assert!(queues.0.state().queues.values().all(VecDeque::is_empty));
        drop(open);
        assert_eq!(submit(&queues, "stuck", 1, || 3).recv().unwrap(), Ok(3));
        assert!(queues.0.state().waiting.is_empty() && queues.0.state().of_user.is_empty());
    }

    /// Many requests of one user to an attribute made the requests of all others to it late.
    #[test]
    fn requests_of_one_user_to_an_attribute_hold_up_nobody_else_there() {
        let queues = SerialQueues::start().unwrap();
        let (open, gate) = channel::<()>();
        let first = submit(&queues, "owners", 1, move || gate.recv().map_or(1, |()| 2));
        let queued = submit(&queues, "owners", 1, || 3);
        assert_eq!(submit(&queues, "owners", 2, || 4).recv().unwrap(), Ok(4));
        assert!(queued.try_recv().is_err());
        drop(open);
        assert_eq!((first.recv().unwrap(), queued.recv().unwrap()), (Ok(1), Ok(3)));
    }

    #[test]
    fn a_user_whose_requests_wait_is_refused_more_and_others_are_not() {
        let queues = SerialQueues::start().unwrap();
        let (open, gate) = channel::<()>();
        let stuck = submit(&queues, "stuck", 1, move || gate.recv().map_or(1, |()| 2));
        let waiting: Vec<_> =
            (1..MAX_REQUESTS_PER_USER).map(|_| submit(&queues, "stuck", 1, || 3)).collect();
        assert_eq!(submit(&queues, "other", 1, || 3).recv().unwrap(), Err(Errno::EAGAIN.code()));
        assert_eq!(submit(&queues, "other", 2, || 3).recv().unwrap(), Ok(3));
        drop(open);
        assert_eq!(stuck.recv().unwrap(), Ok(1));
        waiting.iter().for_each(|waiting| assert_eq!(waiting.recv().unwrap(), Ok(3)));
        assert_eq!(submit(&queues, "other", 1, || 3).recv().unwrap(), Ok(3));
    }

    #[test]
    fn work_that_panics_is_refused_and_its_lane_goes_on() {
        let queues = SerialQueues::start().unwrap();
        for _ in 0..40 {
            let panicked =
                submit(&queues, "queue", 1, || panic!("as work does that calls foreign code"));
            assert_eq!(panicked.recv().unwrap(), Err(Errno::EIO.code()));
        }
        assert_eq!(submit(&queues, "queue", 1, || 3).recv().unwrap(), Ok(3));
    }
}

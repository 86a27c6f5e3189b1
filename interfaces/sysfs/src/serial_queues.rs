//! Serial queues: threads for requests that may block, so that the threads that serve the mount
//! never wait.
//!
//! Each user has two queues for each attribute, one for reads and one for writes. At most one
//! thread works on a queue. So a region whose allocator doesn't answer delays its own attributes
//! only, and a user with many requests to an attribute delays no other user's.
//!
//! A request that has no answer after [`REPLY_TIMEOUT`] gets `EIO`, whether it is queued or its
//! thread is blocked. So a reader that was killed ends: the kernel keeps it until its request has
//! an answer. (The kernel reports the signal by `FUSE_INTERRUPT`, which `fuser` doesn't support,
//! and a thread in an allocator could not be interrupted.)
//!
//! One lock, `Scheduler::state`, guards everything here. It is held for single steps, never while a
//! job runs.

use crate::catch_panic;
use fuser::{Errno, ReplyData, ReplyWrite};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for an answer. The framework gives up on a stuck region earlier, and then its error
/// is the answer.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests of one user that are queued or in progress.
const MAX_REQUESTS_PER_USER: usize = 1024;

/// An idle thread ends after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A reply that can report an error.
pub(crate) trait FailableReply: Send + 'static {
    fn fail(self, errno: Errno);
}

impl FailableReply for ReplyData {
    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

impl FailableReply for ReplyWrite {
    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The attribute and direction of a queue, and its user.
type QueueKey = (String, u32);

/// The queues of a mount. Dropping it ends each thread when it has no work left.
#[derive(Debug)]
pub(crate) struct SerialQueues(Arc<Scheduler>);

#[derive(Default)]
struct Scheduler {
    state: Mutex<QueueState>,
    work: Condvar,
    end: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// The queues on which a thread works or is about to, each with the jobs that wait for it.
    queues: HashMap<QueueKey, VecDeque<(u64, Job)>>,
    /// The first job of each new queue, for the next idle thread.
    ready: VecDeque<(QueueKey, Job)>,
    idle: usize,
    /// The requests without an answer, oldest first.
    waiting: BTreeMap<u64, PendingRequest>,
    next: u64,
    requests_by_user: HashMap<u32, usize>,
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
        thread::Builder::new()
            .name("attr-watch".to_string())
            .spawn(move || watched.expire_requests())?;
        Ok(SerialQueues(shared))
    }

    /// Queues `work` in `queue` for `user`. A thread does it and passes its result to `answer` with
    /// `reply`, or its error to `reply`.
    pub(crate) fn submit<R: FailableReply, T>(
        &self,
        queue: String,
        user: u32,
        reply: R,
        work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
        answer: impl FnOnce(R, T) + Send + 'static,
    ) {
        // Either the result or the timeout takes the reply, whichever comes first.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let take =
            |reply: &Mutex<Option<R>>| reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let refused = reply.clone();
        let refuse = move |errno| {
            if let Some(reply) = take(&refused) {
                reply.fail(errno);
            }
        };
        let state = &mut *self.0.state();
        let requests = state.requests_by_user.entry(user).or_default();
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
            // The request has timed out already.
            if reply.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                return;
            }
            let result = catch_panic(work);
            drop(shared.state().remove_answered(number));
            if let Some(reply) = take(&reply) {
                let _ = catch_panic(|| {
                    match result {
                        Ok(result) => answer(reply, result),
                        Err(errno) => reply.fail(errno),
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
        let spawned =
            thread::Builder::new().name("attr".to_string()).spawn(move || shared.run_jobs());
        if spawned.is_err() {
            // The system has no thread left.
            state.ready.pop_back();
            state.queues.remove(&queue);
            state.remove_answered(number);
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
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the ready jobs, each with those that follow in its queue, until there is no work for a
    /// while.
    fn run_jobs(&self) {
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

    /// Answers requests with `EIO` when they time out.
    fn expire_requests(&self) {
        let mut state = self.state();
        while !state.has_ended {
            let now = Instant::now();
            // While no request waits, a new one can't time out earlier than this.
            let first = state.waiting.first_key_value();
            let (number, due) =
                first.map_or((0, now + REPLY_TIMEOUT), |(number, first)| (*number, first.deadline));
            if due <= now {
                let (late, unbegun) = state.remove_timed_out(number);
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

impl QueueState {
    /// Removes a request that timed out, and its job if no thread has begun it: a blocked queue
    /// keeps no jobs of requests that already have an answer.
    fn remove_timed_out(&mut self, number: u64) -> (Option<PendingRequest>, Option<Job>) {
        let late = self.remove_answered(number);
        let queue = late.as_ref().and_then(|late| self.queues.get_mut(&late.queue));
        // The requests of one queue time out in the order of their arrival.
        let unbegun = queue.and_then(|queue| queue.pop_front_if(|(first, _)| *first == number));
        (late, unbegun.map(|(_, job)| job))
    }

    /// Removes a request that has an answer.
    fn remove_answered(&mut self, number: u64) -> Option<PendingRequest> {
        let answered = self.waiting.remove(&number)?;
        let (_, user) = &answered.queue;
        if let Some(requests) = self.requests_by_user.get_mut(user) {
            *requests -= 1;
            if *requests == 0 {
                self.requests_by_user.remove(user);
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

    struct TestReply(Sender<Result<u32, i32>>);

    impl FailableReply for TestReply {
        fn fail(self, errno: Errno) {
            self.0.send(Err(errno.code())).unwrap();
        }
    }

    fn submit(
        queues: &SerialQueues,
        queue: &str,
        user: u32,
        work: impl FnOnce() -> u32 + Send + 'static,
    ) -> Receiver<Result<u32, i32>> {
        let (sender, receiver) = channel();
        let answer = |reply: TestReply, number| reply.0.send(Ok(number)).unwrap();
        queues.submit(queue.to_string(), user, TestReply(sender), move || Ok(work()), answer);
        receiver
    }

    #[test]
    fn a_blocked_queue_delays_no_other_and_its_requests_time_out() {
        let queues = SerialQueues::start().unwrap();
        let (release, blocked) = channel::<()>();
        let stuck = submit(&queues, "stuck", 1, move || blocked.recv().map_or(1, |()| 2));
        let queued: Vec<_> = (0..100).map(|n| submit(&queues, "stuck", 1, move || n)).collect();
        for n in 0..100 {
            assert_eq!(submit(&queues, &format!("queue {n}"), 2, move || n).recv().unwrap(), Ok(n));
        }
        // The job stays blocked meanwhile.
        assert_eq!(stuck.recv().unwrap(), Err(Errno::EIO.code()));
        queued.iter().for_each(|queued| assert_eq!(queued.recv().unwrap(), Err(Errno::EIO.code())));
        // The jobs of requests that timed out are dropped while the queue is still blocked.
        assert!(queues.0.state().queues.values().all(VecDeque::is_empty));
        drop(release);
        assert_eq!(submit(&queues, "stuck", 1, || 3).recv().unwrap(), Ok(3));
        assert!(
            queues.0.state().waiting.is_empty() && queues.0.state().requests_by_user.is_empty()
        );
    }

    /// Many requests of one user to an attribute once delayed those of all other users to it.
    #[test]
    fn requests_of_one_user_to_an_attribute_delay_no_other_user() {
        let queues = SerialQueues::start().unwrap();
        let (release, blocked) = channel::<()>();
        let first = submit(&queues, "owners", 1, move || blocked.recv().map_or(1, |()| 2));
        let queued = submit(&queues, "owners", 1, || 3);
        assert_eq!(submit(&queues, "owners", 2, || 4).recv().unwrap(), Ok(4));
        assert!(queued.try_recv().is_err());
        drop(release);
        assert_eq!((first.recv().unwrap(), queued.recv().unwrap()), (Ok(1), Ok(3)));
    }

    #[test]
    fn a_user_with_too_many_waiting_requests_gets_an_error_and_others_do_not() {
        let queues = SerialQueues::start().unwrap();
        let (release, blocked) = channel::<()>();
        let stuck = submit(&queues, "stuck", 1, move || blocked.recv().map_or(1, |()| 2));
        let waiting: Vec<_> =
            (1..MAX_REQUESTS_PER_USER).map(|_| submit(&queues, "stuck", 1, || 3)).collect();
        assert_eq!(submit(&queues, "other", 1, || 3).recv().unwrap(), Err(Errno::EAGAIN.code()));
        assert_eq!(submit(&queues, "other", 2, || 3).recv().unwrap(), Ok(3));
        drop(release);
        assert_eq!(stuck.recv().unwrap(), Ok(1));
        waiting.iter().for_each(|waiting| assert_eq!(waiting.recv().unwrap(), Ok(3)));
        assert_eq!(submit(&queues, "other", 1, || 3).recv().unwrap(), Ok(3));
    }

    #[test]
    fn a_job_that_panics_gets_an_error_and_its_queue_continues() {
        let queues = SerialQueues::start().unwrap();
        for _ in 0..40 {
            let panicked = submit(&queues, "queue", 1, || panic!("a panic in foreign code"));
            assert_eq!(panicked.recv().unwrap(), Err(Errno::EIO.code()));
        }
        assert_eq!(submit(&queues, "queue", 1, || 3).recv().unwrap(), Ok(3));
    }
}

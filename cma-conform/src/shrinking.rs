//! Makes a script shorter and simpler, as long as it shows the same: first by delta debugging
//! (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002) over the
//! lives of chunks and over single events, then over its sizes. The order of the attempts is fixed,
//! so the result depends on the allocator alone, unless the time ends.

use crate::script::{Event, Op, Script};
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Request};
use std::collections::BTreeSet;
use std::time::Instant;

/// The calls that an attempt counts at least: starting it is work, too.
const LEAST: usize = 60;

/// Each number of lives up to this one is left out together.
const EACH_NUMBER: usize = 32;

/// The simplest script that was found, by attempts of about `calls` calls and before `end`, of
/// those that show the same as `script`.
pub(crate) fn shrink(
    script: Script,
    calls: usize,
    end: Instant,
    shows_it: impl FnMut(&Script) -> bool,
) -> Script {
    let mut shrinker = Shrinker { script, calls, end, shows_it };
    loop {
        let before = shrinker.script.clone();
        shrinker.use_one_thread();
        shrinker.leave_out_lives();
        shrinker.leave_out();
        shrinker.simplify();
        if shrinker.script == before || shrinker.calls == 0 {
            return shrinker.script;
        }
    }
}

struct Shrinker<F> {
    script: Script,
    /// The calls that are left.
    calls: usize,
    end: Instant,
    shows_it: F,
}

impl<F: FnMut(&Script) -> bool> Shrinker<F> {
    /// Replaces the script by `other`, if that is another one and shows it.
    fn attempt(&mut self, other: Script) -> bool {
        if Instant::now() >= self.end {
            self.calls = 0;
        }
        if self.calls == 0 || other == self.script {
            return false;
        }
        self.calls = self.calls.saturating_sub(other.events().len().max(LEAST));
        let shows_it = (self.shows_it)(&other);
        if shows_it {
            self.script = other;
        }
        shows_it
    }

    fn use_one_thread(&mut self) {
        let events = self.script.events().iter();
        let other = events.map(|event| Event { thread: 0, ..*event });
        let other = Script::new(other.collect::<Vec<_>>());
        self.attempt(other);
    }

    /// Leaves out lives of chunks, the last ones first: half of them, a quarter, and so on, and
    /// then every number down to single ones. With a chunk its free goes: what happens at every
    /// seventh chunk still does when seven are left out.
    fn leave_out_lives(&mut self) {
        let mut size = self.script.lives().len().div_ceil(2);
        while size > 0 {
            let mut end = self.script.lives().len();
            while let Some(start) = end.checked_sub(size) {
                let left_out: BTreeSet<usize> =
                    self.script.lives()[start..end].iter().copied().collect();
                let is_kept = |event: &&Event| match event.op {
                    Op::Free(id) => !left_out.contains(&id),
                    _ => !left_out.contains(&event.id),
                };
                let kept = self.script.events().iter().filter(is_kept).copied();
                self.attempt(Script::new(kept.collect::<Vec<_>>()));
                end = start;
            }
            size = if size > EACH_NUMBER { size / 2 } else { size - 1 };
        }
    }

    /// Leaves out events: half of them, a quarter, and so on to single ones.
    fn leave_out(&mut self) {
        let mut size = self.script.events().len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.script.events().len() {
                let events = self.script.events().iter().enumerate();
                let kept = events.filter(|(n, _)| !(at..at + size).contains(n));
                let other = Script::new(kept.map(|(_, event)| *event).collect::<Vec<_>>());
                if !self.attempt(other) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    /// Makes the sizes of each event smaller, and its limits fewer.
    fn simplify(&mut self) {
        for n in 0..self.script.events().len() {
            while let Some(event) = self.script.events().get(n).copied() {
                let mut simpler = simpler(&event.op).into_iter();
                if !simpler.any(|op| self.attempt(with(&self.script, n, op))) {
                    break;
                }
            }
        }
    }
}

/// The script with `op` as event `at`. The ranges of a region that moves move with it.
fn with(script: &Script, at: usize, op: Op) -> Script {
    let mut events = script.events().to_vec();
    let before = events[at];
    events[at].op = op;
    if let (Op::New(old), Op::New(new)) = (before.op, op) {
        let moved = |range: PageRange| {
            let first = range.first_page().wrapping_sub(old.first_page());
            let first = first.wrapping_add(new.first_page());
            let range_moved = PageRange::from_pages(first, range.pages().get());
            range_moved.within(PageRange::ADDRESS_SPACE).then_some(range_moved)
        };
        for event in events.iter_mut().filter(|event| event.allocator == before.allocator) {
            match &mut event.op {
                Op::Adopt(range) => *range = moved(*range).unwrap_or(*range),
                Op::Allocate(request) | Op::Fit(request) => {
                    let window = request.window();
                    if window != PageRange::ADDRESS_SPACE {
                        let limited =
                            moved(window).and_then(|it| request.limited(it, request.boundary()));
                        *request = limited.unwrap_or(*request);
                    }
                }
                _ => {}
            }
        }
    }
    Script::new(events)
}

/// What is simpler than `op`, the simplest first.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::New(region) => {
            let (first, pages) = (region.first_page(), region.pages().get());
            let sizes = fewer(pages).into_iter().map(|pages| PageRange::from_pages(first, pages));
            let starts = [0, 16, 0x4_0000].into_iter().take_while(|start| *start < first);
            let moved = starts.map(|start| PageRange::from_pages(start, pages));
            moved.chain(sizes).map(Op::New).collect()
        }
        Op::Allocate(request) => simpler_requests(request).into_iter().map(Op::Allocate).collect(),
        Op::Fit(request) => simpler_requests(request).into_iter().map(Op::Fit).collect(),
        Op::Adopt(range) => {
            let first = range.first_page();
            let sizes = fewer(range.pages().get()).into_iter();
            sizes.map(|pages| Op::Adopt(PageRange::from_pages(first, pages))).collect()
        }
        Op::Free(_) | Op::Drop => Vec::new(),
    }
}

/// Fewer pages: small powers of two, half, and one less.
fn fewer(pages: u64) -> Vec<u64> {
    let mut fewer: Vec<u64> = [1, 2, 4, 8, 16, 64].to_vec();
    fewer.extend([pages / 2, pages - pages / 4, pages.saturating_sub(1)]);
    fewer.retain(|few| (1..pages).contains(few));
    fewer.sort_unstable();
    fewer.dedup();
    fewer
}

fn simpler_requests(request: &Request) -> Vec<Request> {
    let with = |pages: u64, alignment: u64, window, boundary, asker| {
        let alignment = Alignment::new(alignment)?;
        Request::new(Pages::new(pages), alignment, asker)?.limited(window, boundary)
    };
    let (pages, alignment) = (request.pages().get(), request.alignment().bytes());
    let (window, boundary, asker) = (request.window(), request.boundary(), request.asker());
    let mut simpler = vec![
        with(pages, alignment, PageRange::ADDRESS_SPACE, Boundary::NONE, asker),
        with(pages, alignment, window, Boundary::NONE, asker),
        with(pages, alignment, PageRange::ADDRESS_SPACE, boundary, asker),
        with(pages, alignment, window, boundary, Asker::NOBODY),
        with(pages, 0, window, boundary, asker),
        with(pages, alignment / 2, window, boundary, asker),
    ];
    simpler.extend(
        fewer(pages).into_iter().map(|pages| with(pages, alignment, window, boundary, asker)),
    );
    simpler.into_iter().flatten().filter(|other| other != request).collect()
}

#[cfg(test)]
mod tests {
    use super::{Event, Op, Script, shrink};
    use cma_api::{Alignment, Asker, PageRange, Pages, Request};
    use std::time::{Duration, Instant};

    /// A new allocator, and then as many chunks as `lives`, each of which is freed at once.
    fn chunks(lives: usize) -> Script {
        let request = Request::new(Pages::new(1), Alignment::PAGE, Asker::NOBODY).unwrap();
        let new = Op::New(PageRange::from_pages(0, 1));
        let ops = (0..lives).flat_map(|n| [Op::Allocate(request), Op::Free(2 * n + 1)]);
        let events = [new].into_iter().chain(ops).enumerate();
        Script::new(events.map(|(id, op)| Event { id, allocator: 0, thread: 0, op }))
    }

    fn frees(script: &Script) -> usize {
        script.events().iter().filter(|event| matches!(event.op, Op::Free(_))).count()
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn what_happens_at_every_nth_chunk_is_shown_with_n() {
        for n in [1, 2, 3, 4, 7, 16] {
            let shows_it = |script: &Script| frees(script) > 0 && frees(script).is_multiple_of(n);
            let shortest = shrink(chunks(5 * n), 100_000, far(), shows_it);
            assert_eq!((frees(&shortest), shortest.events().len()), (n, 2 * n + 1));
        }
    }

    #[test]
    fn the_calls_that_are_kept_are_the_first() {
        let shortest = shrink(chunks(40), 100_000, far(), |script| frees(script) >= 5);
        assert_eq!(shortest, chunks(5));
    }

    #[test]
    fn at_the_end_of_the_time_or_of_the_calls_the_best_so_far_is_the_result() {
        assert_eq!(shrink(chunks(40), 100_000, Instant::now(), |_| true), chunks(40));
        let shorter = shrink(chunks(40), 100, far(), |script| frees(script) >= 5);
        assert!((5..40).contains(&frees(&shorter)), "{shorter:?}");
    }
}

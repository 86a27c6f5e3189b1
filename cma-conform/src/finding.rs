//! A broken guarantee, as it is reported.

use crate::placing::Placing;
use crate::tape::{Answer, is_kept};
use crate::violation::Call;
use cma_api::{Boundary, PageRange, Request};
use std::fmt::{self, Write as _};
use std::path::Path;

/// What a child process showed.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// The kind of the violation.
    pub(crate) kind: String,
    /// It, in words.
    pub(crate) what: String,
    /// The call that did not return.
    pub(crate) in_progress: Option<Call>,
    /// Whether another thread than that of the calls shows it.
    pub(crate) is_elsewhere: bool,
}

impl Sight {
    /// Whether both are the same violation: of the same kind, and in the same kind of call.
    pub(crate) fn is_like(&self, other: &Sight) -> bool {
        let name = |sight: &Sight| sight.in_progress.map(name);
        self.kind == other.kind && name(self) == name(other)
    }
}

/// A call as it was made, with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The allocator, counted from 0.
    pub allocator: u64,
    /// The thread, counted from 0.
    pub thread: u64,
    /// The region of the allocator.
    pub region: PageRange,
    /// The call.
    pub call: Call,
    /// Its answer.
    pub answer: Answer,
}

/// A broken guarantee with the calls that show it.
#[derive(Clone, Debug)]
pub struct Finding {
    guarantee: &'static str,
    seen: Sight,
    calls: Vec<Recorded>,
    is_shortened: bool,
}

/// The most last calls that are shown.
const SHOWN: usize = 40;

/// The most calls of a test to paste.
const LONGEST_TEST: usize = 12;

impl Finding {
    pub(crate) fn new(
        guarantee: &'static str,
        seen: Sight,
        calls: Vec<Recorded>,
        is_shortened: bool,
    ) -> Finding {
        Finding { guarantee, seen, calls, is_shortened }
    }

    /// The guarantee.
    pub fn guarantee(&self) -> &'static str {
        self.guarantee
    }

    /// The kind of the violation: the name of a [`Violation`](crate::Violation), or `Crashed`,
    /// `Exited`, `KilledItsParent` or `OutOfTime`.
    pub fn kind(&self) -> &str {
        &self.seen.kind
    }

    /// The calls that show it. The last one caused it, or what the allocator reports after it is
    /// wrong.
    pub fn calls(&self) -> &[Recorded] {
        &self.calls
    }

    /// Whether the calls alone show it, on new allocators, and were shortened. Otherwise they are
    /// those before it in the guarantee's run.
    pub fn is_shortened(&self) -> bool {
        self.is_shortened
    }

    /// The number of calls other than those that make an allocator.
    pub fn len(&self) -> usize {
        self.calls.iter().filter(|call| call.call != Call::New).count()
    }

    /// Whether making an allocator shows it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The violation in a sentence, with the call that did not return.
    pub fn what(&self) -> String {
        let Sight { what, in_progress, kind, is_elsewhere } = &self.seen;
        match in_progress {
            _ if *is_elsewhere => format!("on another thread: {what}"),
            // The text has the call.
            None => what.clone(),
            Some(_) if kind == "Hangs" => what.clone(),
            Some(Call::New) => format!("{what} in new"),
            Some(call) if is_kept(*call) => format!("{what} in call {}: {call}", self.number()),
            Some(call) if self.is_empty() => format!("{what} in {call}, after new"),
            Some(call) => format!("{what} in {call}, after call {}", self.number()),
        }
    }

    /// The number of the last call.
    fn number(&self) -> usize {
        if self.is_alone() { self.len() } else { self.calls.len() }
    }

    /// Whether all calls are those of one allocator, and of one thread.
    fn is_alone(&self) -> bool {
        self.calls.iter().all(|call| (call.allocator, call.thread) == (0, 0))
    }

    /// Each call with its answer, as a line.
    pub fn lines(&self) -> Vec<String> {
        let is_alone = self.is_alone();
        let mut thread = 0;
        let mut lines = Vec::new();
        for call in &self.calls {
            if is_alone && call.call == Call::New {
                continue;
            }
            let mut line = String::new();
            if !is_alone {
                let _ = write!(line, "allocator {}: ", call.allocator + 1);
            }
            let _ = match call.call {
                Call::New => write!(line, "new {}", call.region),
                call => write!(line, "{call}"),
            };
            match call.answer {
                Answer::Range(range) => drop(write!(line, " -> {range}")),
                Answer::Refused => line.push_str(match call.call {
                    Call::Allocate(_) => " -> no room",
                    Call::Fit(_) => " -> none",
                    _ => " -> refused",
                }),
                Answer::Nothing => line.push_str(" -> did not return"),
                Answer::Done => {}
            }
            if call.thread != thread {
                line.push_str(" (on another thread)");
                thread = call.thread;
            }
            lines.push(line);
        }
        lines
    }

    /// A test with these calls, to paste into a crate that uses `cma-testkit`; `None` if there are
    /// many calls, or the calls alone don't show it.
    pub fn test(&self, library: &Path, params: &str, placing: Placing) -> Option<String> {
        let region = self.calls.first()?.region;
        let has_own_end = ["FitChangedSomething", "ParameterAccepted", "ParameterNotNamed"];
        if !self.is_shortened
            || !self.is_alone()
            || self.seen.is_elsewhere
            || self.len() > LONGEST_TEST
            || has_own_end.contains(&self.kind())
        {
            return None;
        }
        let mut body = String::new();
        for (n, call) in self.calls.iter().enumerate() {
            let line = match call.call {
                Call::Allocate(request) => {
                    let made = format!("allocator.allocate(&{})?", code_of(&request)?);
                    match (n..self.calls.len()).any(|later| self.placed_by(later) == Some(n)) {
                        true => format!("let chunk_{n} = {made}.unwrap();"),
                        false => format!("{made};"),
                    }
                }
                Call::Fit(request) => format!("allocator.fit(&{})?;", code_of(&request)?),
                Call::Adopt(range) => format!("allocator.adopt({})?;", code_of_range(range)),
                Call::Free(range) => match self.placed_by(n) {
                    Some(n) => format!("allocator.free(chunk_{n}.first_page())?;"),
                    None => format!("allocator.free({:#x})?;", range.first_page()),
                },
                _ => continue,
            };
            let _ = writeln!(body, "        {line}");
        }
        if self.kind() == "NotAsNew" {
            body.push_str(
                "        assert_eq!(allocator.largest_request(), \
                 allocator.largest_request_when_new());\n",
            );
        }
        let allocator = if body.is_empty() { "_" } else { "allocator" };
        let used = ["alignment", "load", "request"]
            .into_iter()
            .filter(|name| *name == "load" || body.contains(&format!("{name}(")));
        let used = used.collect::<Vec<_>>().join(", ");
        let units = match body.contains("Boundary::") {
            true => "{Boundary, PageRange}",
            false => "PageRange",
        };
        Some(format!(
            "#[test]\n\
             fn {}_in_{}() {{\n    \
                 use cma_testkit::cma_api::{units};\n    \
                 use cma_testkit::{{Placing, Subject, {used}}};\n    \
                 let algorithm = load({:?}.as_ref());\n    \
                 let subject = Subject {{ algorithm, params: {params:?}, placing: Placing::{placing:?} }};\n    \
                 let outcome = subject.on({}, |{allocator}| {{\n\
             {body}        \
                     Ok(())\n    \
                 }});\n    \
                 outcome.unwrap();\n\
             }}\n",
            self.guarantee,
            match self.len() {
                1 => "1_call".to_string(),
                calls => format!("{calls}_calls"),
            },
            library.display().to_string(),
            code_of_range(region),
        ))
    }
}

impl Finding {
    /// The call that placed the chunk that call `at` frees.
    fn placed_by(&self, at: usize) -> Option<usize> {
        let Call::Free(range) = self.calls.get(at)?.call else { return None };
        let places = |call: &Recorded| {
            matches!(call.call, Call::Allocate(_)) && call.answer == Answer::Range(range)
        };
        self.calls[..at].iter().rposition(places)
    }
}

fn code_of_range(range: PageRange) -> String {
    format!("PageRange::from_pages({:#x}, {})", range.first_page(), range.pages().get())
}

/// The request, in Rust; `None` for one of a particular requester.
fn code_of(request: &Request) -> Option<String> {
    if request.asker().0 != 0 {
        return None;
    }
    let log2 = request.alignment().bytes().ilog2();
    let plain = format!("request({}, alignment({log2}))", request.pages().get());
    if !request.is_limited() {
        return Some(plain);
    }
    let window = match request.window() {
        PageRange::ADDRESS_SPACE => "PageRange::ADDRESS_SPACE".to_string(),
        window => code_of_range(window),
    };
    let boundary = match request.boundary() {
        Boundary::NONE => "Boundary::NONE".to_string(),
        boundary => format!("Boundary::new({:#x}).unwrap()", boundary.bytes()?),
    };
    Some(format!("{plain}.limited({window}, {boundary}).unwrap()"))
}

impl fmt::Display for Finding {
    /// The guarantee, the violation, and the calls, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee.replace('_', " "), self.what())?;
        if let (true, Some(call)) = (self.is_alone(), self.calls.first()) {
            write!(f, "\n    region {}", call.region)?;
        }
        let lines = self.lines();
        let hidden = lines.len().saturating_sub(SHOWN);
        if hidden > 0 {
            write!(f, "\n    ({hidden} calls before)")?;
        }
        for (n, line) in lines.iter().enumerate().skip(hidden) {
            write!(f, "\n{:5}. {line}", n + 1)?;
        }
        Ok(())
    }
}

/// The name of a call.
fn name(call: Call) -> String {
    call.to_string().split(' ').next().unwrap_or_default().to_string()
}

//! One line of the kernel's log of events, as an event of the contiguous memory allocator.

/// The longest line of a recording or log, in bytes: events of other kinds may be long.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// An event of the kernel's contiguous memory allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The line, counted from 1.
    pub line: u64,
    /// The kernel's time in microseconds.
    pub time_us: u64,
    /// The name of the thread, as the kernel has it.
    pub task: &'a [u8],
    /// Its number.
    pub pid: u32,
    /// The area. Kernels before 5.11 do not name it.
    pub area: Option<&'a [u8]>,
    /// What happened.
    pub what: What,
}

/// What an event says. Places and sizes are in pages of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request begins (`cma_alloc_start`, `cma_alloc_at_start`).
    Start {
        /// Its pages.
        pages: u64,
        /// Its alignment: a power of two, in pages.
        align_order: u32,
        /// The page at which it has to lie.
        at: Option<u64>,
    },
    /// The pages from `first` on were free and could not be emptied; the search goes on behind the
    /// next multiple of the alignment (`cma_alloc_busy_retry`).
    Busy {
        /// The first page.
        first: u64,
    },
    /// A request ends (`cma_alloc_finish`, `cma_alloc_at_finish`, and `cma_alloc` before 5.11).
    Finish {
        /// Its pages.
        pages: u64,
        /// Its alignment: a power of two, in pages.
        align_order: u32,
        /// The first page of its chunk; `None` if it was refused.
        first: Option<u64>,
    },
    /// Pages are free again (`cma_release`). Their bits are cleared before the event, so another
    /// processor may have allocated them by then.
    Release {
        /// The first page.
        first: u64,
        /// Their number.
        pages: u64,
    },
}

/// The reason why a line with an event can't be read: what stands at `column`, in bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) column: usize,
    pub(super) expected: &'static str,
}

/// Names of events, which are followed by a colon.
const NAMES: [(&[u8], Kind); 7] = [
    (b"cma_alloc_start:", Kind::Start),
    (b"cma_alloc_at_start:", Kind::Start),
    (b"cma_alloc_busy_retry:", Kind::Busy),
    (b"cma_alloc_finish:", Kind::Finish),
    (b"cma_alloc_at_finish:", Kind::Finish),
    (b"cma_alloc:", Kind::Finish),
    (b"cma_release:", Kind::Release),
];

#[derive(Clone, Copy)]
enum Kind {
    Start,
    Busy,
    Finish,
    Release,
}

/// The event in `text`, which is line number `line`; `None` for any other line.
pub(super) fn parse(text: &[u8], line: u64) -> Result<Option<Event<'_>>, Fault> {
    let Some((head, kind, fields)) = split(text) else { return Ok(None) };
    let (who, clock) = match head.iter().rposition(|byte| *byte == b' ') {
        Some(blank) => (&head[..blank], &head[blank + 1..]),
        None => return Ok(None),
    };
    let Some(time_us) = microseconds(clock) else {
        if !clock.is_empty() && clock.iter().all(u8::is_ascii_digit) {
            let expected = "a time in seconds, with a point: set the trace_clock to local, global \
                            or mono";
            return Err(Fault { column: head.len() - clock.len(), expected });
        }
        return Ok(None);
    };
    let (task, pid) = task(who).ok_or(Fault {
        column: 0,
        expected: "a thread's name, its number, and the processor, before the time",
    })?;
    let fields = Fields { text, start: text.len() - fields.len() };
    let area = fields.name();
    Ok(Some(Event { line, time_us, task, pid, area, what: fields.what(kind)? }))
}

/// What stands before the time's colon, the event, and its fields.
fn split(text: &[u8]) -> Option<(&[u8], Kind, &[u8])> {
    let starts = text.windows(4).enumerate().filter(|(_, window)| *window == b"cma_");
    for (start, _) in starts {
        let rest = &text[start..];
        let Some((name, kind)) = NAMES.iter().find(|(name, _)| rest.starts_with(name)) else {
            continue;
        };
        let before = &text[..start];
        // perf writes the group of the event, and before it a period if it is asked for that.
        let before = before.strip_suffix(b"cma:").unwrap_or(before).trim_ascii_end();
        let period = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let before = before[..before.len() - period].trim_ascii_end();
        if let Some(head) = before.strip_suffix(b":") {
            return Some((head, *kind, &rest[name.len()..]));
        }
    }
    None
}

/// A time of seconds and at least three decimals, of which microseconds are used.
pub(super) fn microseconds(clock: &[u8]) -> Option<u64> {
    let point = clock.iter().position(|byte| *byte == b'.')?;
    let (seconds, decimals) = (&clock[..point], &clock[point + 1..]);
    if !(3..=9).contains(&decimals.len()) {
        return None;
    }
    let micros = (0..6).try_fold(0, |micros, n| {
        let digit = *decimals.get(n).unwrap_or(&b'0');
        digit.is_ascii_digit().then(|| micros * 10 + u64::from(digit - b'0'))
    })?;
    number(seconds, 10)?.checked_mul(1_000_000)?.checked_add(micros)
}

/// The thread's name and number in what stands before the time: `NAME-PID [CPU] FLAGS` as the
/// kernel and trace-cmd write it, with the process's number in parentheses if that is recorded, or
/// `NAME PID[/TID] [CPU]` as perf does, without a processor if that was not asked for.
fn task(who: &[u8]) -> Option<(&[u8], u32)> {
    let mut who = who.trim_ascii();
    if let Some(end) = who.iter().rposition(|byte| *byte == b']') {
        let start = who[..end].iter().rposition(|byte| *byte == b'[')?;
        number(&who[start + 1..end], 10)?;
        who = who[..start].trim_ascii_end();
    }
    if let Some(inside) = who.strip_suffix(b")") {
        let start = inside.iter().rposition(|byte| *byte == b'(')?;
        who = who[..start].trim_ascii_end();
    }
    let digits = |text: &[u8]| text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, pid) = who.split_at(who.len() - digits(who));
    let pid = u32::try_from(number(pid, 10)?).ok()?;
    let name = match before.split_last()? {
        (b'-' | b' ', name) => name,
        (b'/', process) => {
            let process = &process[..process.len() - digits(process)];
            process.strip_suffix(b" ")?
        }
        _ => return None,
    };
    let name = name.trim_ascii();
    (!name.is_empty()).then_some((name, pid))
}

/// The number that `digits` are in `base`.
pub(super) fn number(digits: &[u8], base: u32) -> Option<u64> {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let add = |number: u64, byte| {
        number.checked_mul(u64::from(base))?.checked_add(u64::from(digit(byte)?))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// The fields of an event, `KEY=VALUE`, from `start` on.
struct Fields<'a> {
    text: &'a [u8],
    start: usize,
}

impl<'a> Fields<'a> {
    /// The name of the area: everything up to the next field.
    fn name(&self) -> Option<&'a [u8]> {
        let rest = self.text[self.start..].trim_ascii().strip_prefix(b"name=")?;
        let next: [&[u8]; 3] = [b" pfn=", b" count=", b" request_count="];
        let is_end = |at: &usize| next.iter().any(|field| rest[*at..].starts_with(field));
        let end = (0..rest.len()).find(is_end).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    }

    /// The value of `key`, if the event has it, with its column.
    fn value(&self, key: &[u8]) -> Option<(usize, &'a [u8])> {
        // A name may contain anything, and it comes first.
        let begin = self.start + self.name().map_or(0, <[u8]>::len);
        let rest = &self.text[begin..];
        let at = (1..rest.len()).find(|at| {
            rest[at - 1] == b' '
                && rest[*at..].strip_prefix(key).is_some_and(|r| r.starts_with(b"="))
        })?;
        let value = &rest[at + key.len() + 1..];
        let end = value.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b',');
        Some((begin + at + key.len() + 1, &value[..end.unwrap_or(value.len())]))
    }

    fn fault(&self, at: Option<(usize, &[u8])>, expected: &'static str) -> Fault {
        Fault { column: at.map_or(self.text.len(), |(column, _)| column), expected }
    }

    /// The number of `key` in `base`, which may be written with `0x`.
    fn number(&self, key: &[u8], base: u32, expected: &'static str) -> Result<u64, Fault> {
        let found = self.value(key);
        let digits = found.map(|(_, value)| value.strip_prefix(b"0x").unwrap_or(value));
        digits.and_then(|digits| number(digits, base)).ok_or_else(|| self.fault(found, expected))
    }

    fn first(&self) -> Result<u64, Fault> {
        self.number(b"pfn", 16, "pfn= and a page's number in hexadecimal")
    }

    fn pages(&self) -> Result<u64, Fault> {
        let key: &[u8] =
            if self.value(b"request_count").is_some() { b"request_count" } else { b"count" };
        let expected = "count= and a number of pages, 1 or more";
        let pages = self.number(key, 10, expected)?;
        if pages == 0 { Err(self.fault(self.value(key), expected)) } else { Ok(pages) }
    }

    fn align_order(&self) -> Result<u32, Fault> {
        let expected = "align= and a power of two, as its exponent";
        if self.value(b"align").is_none() {
            return Ok(0);
        }
        let order = self.number(b"align", 10, expected)?;
        u32::try_from(order)
            .ok()
            .filter(|order| *order < 52)
            .ok_or_else(|| self.fault(self.value(b"align"), expected))
    }

    /// Whether the request of a finish was refused. The number of a page alone does not say: after
    /// a busy try it is that of the try. Kernels before 5.17 give no error, but no page either.
    fn refused(&self) -> bool {
        if let Some((_, error)) = self.value(b"errorno") {
            return error != b"0";
        }
        let is_null = |(_, page): (usize, &[u8])| {
            let page = page.strip_suffix(b"(null)").unwrap_or(page);
            page.strip_prefix(b"0x").unwrap_or(page).iter().all(|digit| *digit == b'0')
        };
        self.value(b"page").is_some_and(is_null)
    }

    fn what(&self, kind: Kind) -> Result<What, Fault> {
        Ok(match kind {
            Kind::Start => What::Start {
                pages: self.pages()?,
                align_order: self.align_order()?,
                at: self.value(b"pfn").map(|_| self.first()).transpose()?,
            },
            Kind::Busy => What::Busy { first: self.first()? },
            Kind::Finish => {
                let first = self.first()?;
                // What the kernel gives for no page; on a 32-bit system it has half the digits.
                let none = [u64::MAX, u64::from(u32::MAX)].contains(&first);
                What::Finish {
                    pages: self.pages()?,
                    align_order: self.align_order()?,
                    first: Some(first).filter(|_| !none && !self.refused()),
                }
            }
            Kind::Release => What::Release { first: self.first()?, pages: self.pages()? },
        })
    }
}

#[cfg(test)]
mod tests;

//! The kernel's log, as far as it describes areas: where they are, and which of their pages were
//! free when a request was refused.

use super::error::ImportError;
use super::event::{LONGEST_LINE, microseconds, number};
use crate::format::excerpt;
use crate::read::ReadError;
use crate::read::input::with_lines;
use crate::read::lines::Fields;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

/// The most areas that a log reserves. Kernels have up to 64.
const MAX_AREAS: usize = 1 << 10;

/// The most free ranges in all lists of a log, and the most lists.
const MAX_RANGES: usize = 1 << 20;

/// What the kernel's log says of its areas.
///
/// A refused request leaves two lines. The first names the area, but the kernel suppresses it when
/// there are many:
///
/// ```text
/// cma: __cma_alloc: reserved: alloc failed, req-size: 2025 pages, ret: -12
/// cma: number of available pages: 4@572+7@585=> 11 free of 16384 total pages
/// ```
///
/// The second has the free ranges: `4@572` are 4 pages from page 572 of the area on. It is printed
/// by kernels that are built with `CONFIG_CMA_DEBUG`, or from 5.13 on by all. An area that counts
/// several pages as one (`order_per_bit`, as that for huge pages does) prints numbers that
/// contradict each other, and is refused.
#[derive(Clone, Debug, Default)]
pub struct KernelLog {
    lists: Vec<FreeList>,
    /// The free ranges in all lists; a list without any counts as one.
    ranges: usize,
    /// Where areas were reserved: size and start in bytes.
    reserved: Vec<(u64, u64)>,
}

/// The free pages of an area at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeList {
    /// The area; `None` if its name was suppressed.
    pub area: Option<String>,
    /// The kernel's time in microseconds, if the line has it.
    pub time_us: Option<u64>,
    /// The free pages, counted from the start of the area, in rising order.
    pub free: Vec<Range<u64>>,
    /// The pages of the area.
    pub total: u64,
    /// The line of the log, counted from 1.
    pub line: u64,
}

impl KernelLog {
    /// Reads the kernel's log, as `dmesg` prints it, from text or from text compressed by gzip; or
    /// the line with the free pages alone.
    ///
    /// # Errors
    ///
    /// [`ImportError`], also when no line has the free pages of an area.
    pub fn read(input: impl Read) -> Result<KernelLog, ImportError> {
        with_lines(input, LONGEST_LINE, |lines| {
            let mut log = KernelLog::default();
            let mut name = None;
            while let Some(fields) = lines.next()? {
                log.take(&fields, &mut name)?;
            }
            if log.lists.is_empty() { Err(ImportError::NoFreeList) } else { Ok(log) }
        })
    }

    fn take(&mut self, fields: &Fields<'_>, name: &mut Option<String>) -> Result<(), ImportError> {
        if let Some(refused) = refused_area(fields.text) {
            *name = refused;
        } else if let Some(list) = free_list(fields, name.take())? {
            let ranges = self.ranges + list.free.len().max(1);
            if ranges > MAX_RANGES {
                return Err(ImportError::LongLog { line: fields.line });
            }
            self.ranges = ranges;
            self.lists.push(list);
        } else if let Some(reserved) = reserved(fields.text)
            && self.reserved.len() < MAX_AREAS
        {
            self.reserved.push(reserved);
        }
        Ok(())
    }

    /// All lists, in the order of the log.
    pub fn lists(&self) -> &[FreeList] {
        &self.lists
    }

    /// The first of `lists` of each area. Lists without a name are left out if others have one.
    pub(super) fn of_each_area<'a>(lists: impl Iterator<Item = &'a FreeList>) -> Vec<&'a FreeList> {
        let mut found: BTreeMap<&Option<String>, &FreeList> = BTreeMap::new();
        for list in lists {
            found.entry(&list.area).or_insert(list);
        }
        if found.len() > 1 {
            found.remove(&None);
        }
        found.into_values().collect()
    }

    /// The start of the area of `bytes` bytes, if the log says where it was reserved and there is
    /// one of that size.
    pub fn start_of(&self, bytes: u64) -> Option<u64> {
        let mut starts = self.reserved.iter().filter(|(size, _)| *size == bytes);
        let (_, start) = starts.next()?;
        starts.all(|(_, other)| other == start).then_some(*start)
    }
}

/// Whether the line reports a refused request; and of which area, if it says so.
fn refused_area(text: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let before = &text[..text.find("alloc failed, req-size:")?];
    let function = before.find("cma_alloc: ")?;
    let name = before[function..].strip_prefix("cma_alloc: ")?.trim_end();
    Some(name.strip_suffix(':').map(String::from))
}

/// Size and start of an area, from the line that the kernel writes when it reserves one: `cma:
/// Reserved 64 MiB at 0x7ac00000`, or `created CMA memory pool at 0x7ac00000, size 64 MiB` for one
/// of the device tree.
fn reserved(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (size, start) = if let Some((_, rest)) = text.split_once("cma: Reserved ") {
        rest.split_once(" MiB at 0x")?
    } else {
        let (_, rest) = text.split_once("created CMA memory pool at 0x")?;
        let (start, rest) = rest.split_once(", size ")?;
        (rest.split_once(" MiB")?.0, start)
    };
    let digits = start.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    let start = u64::from_str_radix(digits, 16).ok()?;
    Some((size.trim().parse::<u64>().ok()?.checked_mul(1 << 20)?, start))
}

/// What stands before the free pages.
const AVAILABLE: &[u8] = b"number of available pages:";

/// The free pages in the line, if it has them.
fn free_list(fields: &Fields<'_>, area: Option<String>) -> Result<Option<FreeList>, ImportError> {
    let text = fields.text;
    let Some(found) = text.windows(AVAILABLE.len()).position(|window| window == AVAILABLE) else {
        return Ok(None);
    };
    let mut cursor = Cursor { fields, at: found + AVAILABLE.len() };
    cursor.blanks();
    let (mut free, mut sum, mut end) = (Vec::new(), 0_u64, 0_u64);
    while !cursor.skip(b"=>") {
        if !free.is_empty() && !cursor.skip(b"+") {
            return Err(cursor.fault(cursor.at, "+ and the next free range, or =>"));
        }
        let place = cursor.at;
        let count = cursor.number("a free range: PAGES@FIRST")?;
        if !cursor.skip(b"@") {
            return Err(cursor.fault(cursor.at, "@ and the first page of the free range"));
        }
        let first = cursor.number("the first page of the free range")?;
        let behind = free.is_empty() || first > end;
        let Some(past) = first.checked_add(count).filter(|_| behind && count > 0) else {
            let expected = "a free range behind the one before, with a taken page between them";
            return Err(cursor.fault(place, expected));
        };
        end = past;
        sum = sum.saturating_add(count);
        free.push(first..end);
    }
    cursor.blanks();
    let place = cursor.at;
    let stated = cursor.number("the number of free pages")?;
    if stated != sum {
        return Err(cursor.fault(place, "the sum of the free ranges"));
    }
    if !cursor.skip(b" free of ") {
        return Err(cursor.fault(cursor.at, "\"free of\" and the number of all pages"));
    }
    let place = cursor.at;
    let total = cursor.number("the number of all pages")?;
    if total < end || total == 0 {
        return Err(cursor.fault(place, "a number of all pages that holds the free ranges"));
    }
    Ok(Some(FreeList { area, time_us: kernel_time(text), free, total, line: fields.line }))
}

/// The time at the start of a line of the kernel's log, `[   12.075769]`.
fn kernel_time(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    // The raw log has the level before the time.
    let text = match text.strip_prefix(b"<") {
        Some(rest) => &rest[rest.iter().position(|byte| *byte == b'>')? + 1..],
        None => text,
    };
    let inside = text.strip_prefix(b"[")?;
    let end = inside.iter().position(|byte| *byte == b']')?;
    microseconds(inside[..end].trim_ascii())
}

/// A place in a line.
struct Cursor<'a> {
    fields: &'a Fields<'a>,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.fields.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().iter().take_while(|byte| **byte == b' ').count();
    }

    fn skip(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn number(&mut self, expected: &'static str) -> Result<u64, ImportError> {
        let start = self.at;
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = number(&self.rest()[..digits], 10);
        self.at += digits;
        number.ok_or_else(|| self.fault(start, expected))
    }

    fn fault(&self, at: usize, expected: &'static str) -> ImportError {
        let found = self.fields.text[at..].split(|byte| *byte == b' ').next().unwrap_or_default();
        ReadError::Field { line: self.fields.line, column: at + 1, expected, found: excerpt(found) }
            .into()
    }
}

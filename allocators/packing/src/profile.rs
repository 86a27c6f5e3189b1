//! Profiles: what recordings of a program teach, as a file.

use crate::rule::{NUMBERS, Rule};
use crate::sizes::Sizes;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The first line of a profile, with the version of its form.
pub const HEADER: &str = "# cma-packing-profile 1";

/// The most bytes of a profile. Those that are written have less than 4 KiB.
const MOST_BYTES: u64 = 1 << 16;

/// The shares of all sizes together.
const WHOLE: f64 = 1000.0;

/// By how much the sum of the shares may differ: half of one for each class of sizes.
const ROUNDED: f64 = 32.0;

/// The most requests of a beginning.
const MOST_REQUESTS: u64 = 1 << 40;

/// The most beginnings of a profile.
const MOST_BEGINNINGS: usize = 64;

/// What recordings of a program teach: the numbers that suit it, and by what it is known again.
///
/// As text, by lines: [`HEADER`]; then `KEY = NUMBER` for each number of the rule, and `after
/// REQUESTS = PAGES:SHARE PAGES:SHARE ...` for each [`Beginning`], ascending: the shares of the
/// classes of [`Sizes`] in thousandths, each by any size of its class. Empty lines and those that
/// begin with `#` are comments.
///
/// ```
/// use cma_packing::{Beginning, Profile, Rule, Sizes};
/// let mut sizes = Sizes::default();
/// [3, 100, 100].into_iter().for_each(|pages| sizes.count(pages));
/// let rule = Rule { steepness: 1.5, ..Rule::default() };
/// let profile = Profile { rule, beginnings: vec![Beginning { requests: 3, sizes }] };
/// let text = profile.to_string();
/// assert!(text.starts_with("# cma-packing-profile 1\n"));
/// assert!(text.ends_with("after 3 = 1:15 96:985\n"));
/// assert_eq!(text.parse::<Profile>()?.to_string(), text);
/// # Ok::<(), cma_packing::ProfileError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The numbers of the rule.
    pub rule: Rule,
    /// The requests by which the program is known again: at least one entry, with ascending
    /// numbers of requests. The last one is a whole recording.
    pub beginnings: Vec<Beginning>,
}

/// The first requests of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// How many they are.
    pub requests: u64,
    /// They, by size.
    pub sizes: Sizes,
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The line, counted from 1; `None` if something is missing.
    pub line: Option<usize>,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for ProfileError {}

impl Profile {
    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with the file, where, and what to do. It names the file.
    pub fn read(path: &Path) -> Result<Profile, String> {
        let text = read_text(path)
            .map_err(|error| format!("the profile {} can't be read: {error}", path.display()))?;
        text.parse().map_err(|error: ProfileError| {
            format!("{}: {error}; `cma size --learn` writes a profile", path.display())
        })
    }

    /// The parameter that names the file `path`.
    ///
    /// # Errors
    ///
    /// What the path contains that a parameter can't.
    pub fn parameter(path: &Path) -> Result<String, String> {
        let text = path.to_str().ok_or("the path is not UTF-8")?;
        if let Some(found) = text.chars().find(|c| matches!(c, ',' | '(' | ')') || c.is_control()) {
            return Err(format!("a parameter can't contain {found:?}"));
        }
        if text.trim() != text {
            return Err("a parameter can't begin or end with a space".to_string());
        }
        Ok(format!("profile={text}"))
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(text)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        writeln!(f, "# The numbers of the rule.")?;
        let mut rule = self.rule;
        for number in NUMBERS {
            writeln!(f, "{} = {}", number.key, (number.of)(&mut rule))?;
        }
        writeln!(f, "# They are in use while requests are like those of the recordings: after so")?;
        writeln!(
            f,
            "# many requests, the share of their pages in thousandths, as PAGES:SHARE, for"
        )?;
        writeln!(f, "# those of that size up to the next size.")?;
        self.beginnings.iter().try_for_each(|beginning| writeln!(f, "{beginning}"))
    }
}

impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} =", self.requests)?;
        let thousandths = self.sizes.shares().map(|(size, share)| (size, (share * WHOLE).round()));
        let shown = thousandths.filter(|(_, share)| *share > 0.0);
        shown.into_iter().try_for_each(|(size, share)| write!(f, " {size}:{share}"))
    }
}

impl std::str::FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let mut lines = (1..).zip(text.lines());
        let first = lines.next().map_or("", |(_, line)| line.trim_end());
        if first != HEADER {
            let reason = format!("expected \"{HEADER}\", found \"{}\"", shortened(first));
            return Err(ProfileError { line: Some(1), reason });
        }
        let mut read = Reading::default();
        for (line, text) in lines {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                read.line(text).map_err(|reason| ProfileError { line: Some(line), reason })?;
            }
        }
        read.finish().map_err(|reason| ProfileError { line: None, reason })
    }
}

/// The parts of a profile that have been read.
#[derive(Default)]
struct Reading {
    numbers: [Option<f64>; NUMBERS.len()],
    beginnings: Vec<Beginning>,
}

impl Reading {
    fn line(&mut self, text: &str) -> Result<(), String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("expected KEY = VALUE, found \"{}\"", shortened(text)));
        };
        let (key, value) = (key.trim(), value.trim());
        if let Some(requests) = key.strip_prefix("after ") {
            return self.beginning(requests.trim_start(), value);
        }
        let Some(at) = NUMBERS.iter().position(|number| number.key == key) else {
            let known = NUMBERS.map(|number| number.key).join(", ");
            let key = shortened(key);
            return Err(format!("unknown key \"{key}\"; a profile has {known}, after REQUESTS"));
        };
        let number = decimal(value)
            .ok_or_else(|| format!("\"{key}\" takes a number, found \"{}\"", shortened(value)))?;
        if let Some(fault) = NUMBERS[at].fault(number) {
            return Err(format!("\"{key}\" {fault}"));
        }
        match self.numbers[at].replace(number) {
            None => Ok(()),
            Some(_) => Err(format!("\"{key}\" is given twice")),
        }
    }

    fn beginning(&mut self, requests: &str, shares: &str) -> Result<(), String> {
        let last = self.beginnings.last().map_or(0, |beginning| beginning.requests);
        let number =
            requests.parse().ok().filter(|number| (last + 1..=MOST_REQUESTS).contains(number));
        let Some(requests) = number else {
            let found = shortened(requests);
            return Err(format!("\"after\" takes more than {last} requests, found \"{found}\""));
        };
        if self.beginnings.len() == MOST_BEGINNINGS {
            return Err(format!("a profile has up to {MOST_BEGINNINGS} lines \"after\""));
        }
        let mut sizes = Sizes::default();
        for share in shares.split_whitespace() {
            let pair = share.split_once(':').and_then(|(pages, share)| {
                let pages = pages.parse().ok().filter(|pages| (1..1 << 31).contains(pages))?;
                Some((pages, decimal(share).filter(|share| (0.0..=WHOLE).contains(share))?))
            });
            let (pages, share) = pair.ok_or_else(|| {
                let found = shortened(share);
                format!("expected PAGES:SHARE with a share of up to {WHOLE}, found \"{found}\"")
            })?;
            sizes.add(pages, share);
        }
        let all = sizes.total();
        if (all - WHOLE).abs() > ROUNDED {
            return Err(format!("the shares add up to {all}, not to {WHOLE}"));
        }
        self.beginnings.push(Beginning { requests, sizes });
        Ok(())
    }

    fn finish(self) -> Result<Profile, String> {
        let mut rule = Rule::default();
        for (value, number) in self.numbers.iter().zip(NUMBERS) {
            *(number.of)(&mut rule) = value.ok_or_else(|| missing(number.key))?;
        }
        if self.beginnings.is_empty() {
            return Err(missing("after REQUESTS"));
        }
        Ok(Profile { rule, beginnings: self.beginnings })
    }
}

/// A number of digits with at most one point: without a sign, and finite.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

fn missing(key: &str) -> String {
    format!("\"{key}\" is missing")
}

/// The first characters of a text that may be of any length, without control characters.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;

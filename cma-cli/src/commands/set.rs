//! `cma set`: writes to an attribute, and says why when that is refused.

use super::mounted::{Mounted, name, said_of_writing};
use crate::failure::{Failure, Outcome};
use crate::notice::Notice;
use crate::options::Set;
use std::fs::File;
use std::io::{self, Write};

pub(crate) fn run(what: &Set) -> Result<Outcome, Failure> {
    let mounted = Mounted::find(&what.server)?;
    let file = mounted.attribute(&what.path)?;
    let before = mounted.refusals(&file).last().map_or(0, |(number, _)| *number);
    let reason = match File::options().write(true).open(&file) {
        Err(error) => said_of_writing(&file, &error),
        Ok(mut open) => match write(&mut open, &what.value) {
            Ok(()) => return Ok(Outcome::Done),
            // A file has only a number to answer with. The server knows more.
            Err(error) => {
                match our_reason(mounted.refusals(&file), before, name(&error).as_deref()) {
                    Reason::Ours(reason) => reason,
                    Reason::Unknown => said_of_writing(&file, &error),
                    Reason::OneOfSeveral => {
                        let said = said_of_writing(&file, &error);
                        format!(
                            "{said}; other writes failed at the same time, `cma get errors` has all reasons"
                        )
                    }
                }
            }
        },
    };
    Notice::error(&format!("{}: {reason}", what.path)).report();
    Ok(Outcome::Refused)
}

/// Writes `value` in one piece: each piece would be a text of its own.
fn write(file: &mut File, value: &str) -> io::Result<()> {
    let text = format!("{value}\n");
    let taken = file.write(text.as_bytes())?;
    if taken < text.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

/// Why a write was refused, as far as that can be told.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    Ours(String),
    /// Several writers failed in the same way, and which reason is whose isn't known.
    OneOfSeveral,
    /// The server has none, or not any more.
    Unknown,
}

/// Looks up in `refusals`, which may be several writers', the reason of a write of ours that ended
/// in `errno` after number `before`.
fn our_reason(refusals: Vec<(u64, Option<String>)>, before: u64, errno: Option<&str>) -> Reason {
    // The server keeps the last few. If it kept all since, ours is among them.
    let has_all = refusals.iter().any(|(number, _)| *number == before + 1);
    let is_ours =
        |reason: &String| errno.is_none_or(|errno| reason.starts_with(&format!("{errno}: ")));
    let later = refusals.into_iter().filter(|(number, _)| *number > before);
    let mut reasons: Vec<String> = later.filter_map(|(_, reason)| reason).filter(is_ours).collect();
    reasons.dedup();
    match (reasons.pop(), reasons.is_empty()) {
        (None, _) => Reason::Unknown,
        (Some(only), true) if has_all => Reason::Ours(only),
        _ => Reason::OneOfSeveral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(refusals: &[(u64, Option<&str>)], errno: Option<&str>) -> Reason {
        let owned = refusals.iter().map(|(number, reason)| (*number, reason.map(str::to_string)));
        our_reason(owned.collect(), 4, errno)
    }

    #[test]
    fn a_writer_is_never_told_the_mistake_of_another() {
        let ours = Reason::Ours("EINVAL: ours".to_string());
        let (old, other_file) = ((4, Some("EINVAL: old")), (6, None));
        assert_eq!(found(&[old, (5, Some("EINVAL: ours")), other_file], Some("EINVAL")), ours);
        assert_eq!(
            found(&[old, (5, Some("EBUSY: theirs")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        // The same mistake of two.
        assert_eq!(
            found(&[(5, Some("EINVAL: ours")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        let two = [(5, Some("EINVAL: ours")), (6, Some("EINVAL: theirs"))];
        assert_eq!(found(&two, Some("EINVAL")), Reason::OneOfSeveral);
        assert_eq!(found(&two, None), Reason::OneOfSeveral);
        // Number 5 is forgotten, and may have been ours.
        assert_eq!(found(&[(6, Some("EINVAL: theirs"))], Some("EINVAL")), Reason::OneOfSeveral);
        assert_eq!(found(&[old, other_file], Some("EINVAL")), Reason::Unknown);
        assert_eq!(found(&[], None), Reason::Unknown);
    }
}

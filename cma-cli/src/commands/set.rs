//! `cma set`: writes to an attribute, and reports the server's reason when it refuses.

use super::server_mount::{ServerMount, errno_name, write_error};
use crate::notice::Notice;
use crate::options::SetArgs;
use crate::outcome::{CommandError, Outcome};
use std::fs::File;
use std::io::{self, Write};

pub(crate) fn run(args: &SetArgs) -> Result<Outcome, CommandError> {
    let mount = ServerMount::find(&args.server)?;
    let file = mount.attribute(&args.path)?;
    let before = mount.refusals(&file).last().map_or(0, |(number, _)| *number);
    let reason = match File::options().write(true).open(&file) {
        Err(error) => write_error(&file, &error),
        Ok(mut open) => match write(&mut open, &args.value) {
            Ok(()) => return Ok(Outcome::Done),
            // The write returns a number only. The server's attribute `errors` has the reason.
            Err(error) => {
                let errno = errno_name(&error);
                match reason_of_write(mount.refusals(&file), before, errno.as_deref()) {
                    WriteReason::Found(reason) => reason,
                    WriteReason::Unknown => write_error(&file, &error),
                    WriteReason::Ambiguous => {
                        let reason = write_error(&file, &error);
                        format!(
                            "{reason}; other writes failed at the same time, \
                            `cma get errors` has all reasons"
                        )
                    }
                }
            }
        },
    };
    Notice::error(&format!("{}: {reason}", args.path)).report();
    Ok(Outcome::Refused)
}

/// Writes `value` in one call: the server takes each write for a whole text.
fn write(file: &mut File, value: &str) -> io::Result<()> {
    let text = format!("{value}\n");
    let written = file.write(text.as_bytes())?;
    if written < text.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

/// The result of a search for the reason of a refused write.
#[derive(Debug, PartialEq, Eq)]
enum WriteReason {
    Found(String),
    /// Writes of several processes failed with the same number.
    Ambiguous,
    /// The server has no such reason, or has dropped it.
    Unknown,
}

/// Finds the reason of this process's write among `refusals`, which include those of other
/// processes. The write failed with `errno`; `before` was the last refusal's number before it.
fn reason_of_write(
    refusals: Vec<(u64, Option<String>)>,
    before: u64,
    errno: Option<&str>,
) -> WriteReason {
    // The server keeps the latest refusals. If it has all since `before`, this write's is one.
    let has_all = refusals.iter().any(|(number, _)| *number == before + 1);
    let may_be_ours =
        |reason: &String| errno.is_none_or(|errno| reason.starts_with(&format!("{errno}: ")));
    let later = refusals.into_iter().filter(|(number, _)| *number > before);
    let mut reasons: Vec<String> =
        later.filter_map(|(_, reason)| reason).filter(may_be_ours).collect();
    reasons.dedup();
    match (reasons.pop(), reasons.is_empty()) {
        (None, _) => WriteReason::Unknown,
        (Some(only), true) if has_all => WriteReason::Found(only),
        _ => WriteReason::Ambiguous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(refusals: &[(u64, Option<&str>)], errno: Option<&str>) -> WriteReason {
        let owned = refusals.iter().map(|(number, reason)| (*number, reason.map(str::to_string)));
        reason_of_write(owned.collect(), 4, errno)
    }

    #[test]
    fn a_refused_write_is_never_reported_with_another_ones_reason() {
        let ours = WriteReason::Found("EINVAL: ours".to_string());
        let (old, other_file) = ((4, Some("EINVAL: old")), (6, None));
        assert_eq!(found(&[old, (5, Some("EINVAL: ours")), other_file], Some("EINVAL")), ours);
        assert_eq!(
            found(&[old, (5, Some("EBUSY: theirs")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        // Two writers with the same error.
        assert_eq!(
            found(&[(5, Some("EINVAL: ours")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        let two = [(5, Some("EINVAL: ours")), (6, Some("EINVAL: theirs"))];
        assert_eq!(found(&two, Some("EINVAL")), WriteReason::Ambiguous);
        assert_eq!(found(&two, None), WriteReason::Ambiguous);
        // The server dropped number 5, which may have been this write's.
        assert_eq!(found(&[(6, Some("EINVAL: theirs"))], Some("EINVAL")), WriteReason::Ambiguous);
        assert_eq!(found(&[old, other_file], Some("EINVAL")), WriteReason::Unknown);
        assert_eq!(found(&[], None), WriteReason::Unknown);
    }
}

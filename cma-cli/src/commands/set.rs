//! `cma set`: writes to an attribute, and reports the server's reason when it refuses.

use super::running;
use crate::notice::Notice;
use crate::options::SetArgs;
use crate::outcome::{CommandError, Outcome};
use cma_running::Error;

pub(crate) fn run(args: &SetArgs) -> Result<Outcome, CommandError> {
    match running::mounted(args.mount.as_ref())?.write(&args.path, &args.value) {
        Err(error @ Error::NotWritten { .. }) => {
            Notice::error(&error.to_string()).report();
            Ok(Outcome::Refused)
        }
        written => {
            written?;
            Ok(Outcome::Done)
        }
    }
}

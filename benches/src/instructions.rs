//! Instructions of a workload, counted by callgrind: the same on every run, whatever else the
//! machine does.

use crate::workload::Workload;
use std::path::Path;
use std::process::{Command, Stdio};

/// Instructions per pair of operations of `contestant` on `workload`, in a run of the program
/// `rounds` under callgrind.
///
/// # Errors
///
/// valgrind can't be started, or the program failed under it.
pub fn per_pair(rounds: &Path, workload: &Workload, contestant: &str) -> Result<f64, String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg("--toggle-collect=*run_measured*").arg(rounds);
    command.args([&*workload.name, "--rounds", "1", "--contestants", contestant]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("valgrind can't be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted = collected(&text).filter(|_| output.status.success());
    let instructions = counted.ok_or_else(|| {
        let last = text.lines().next_back().unwrap_or("no output");
        format!("callgrind counted nothing ({}): {last}", output.status)
    })?;
    Ok(instructions / (workload.measured.len() as f64 / 2.0))
}

/// The number in callgrind's last lines, `==1234== Collected : 56789`.
fn collected(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    line.and_then(|(_, number)| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_callgrinds_output() {
        let text = "==7== \n==7== Events    : Ir\n==7== Collected : 390123456\n==7== \n";
        assert_eq!(collected(text), Some(390_123_456.0));
        assert_eq!(collected("==7== Collected : \n"), None);
        assert_eq!(collected("valgrind: rounds: No such file"), None);
    }
}

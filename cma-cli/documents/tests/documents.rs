//! The manual pages and completions of the program `cma`, read by the programs that will read them.

use cma_documents::{Document, completions, manual_pages};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The page of a command, or of the program.
fn page(name: &str) -> String {
    let pages = manual_pages(cma_cli::grammar()).unwrap();
    let page = pages.into_iter().find(|page| page.path == format!("man1/{name}.1"));
    let page = page.unwrap_or_else(|| panic!("no page {name}"));
    String::from_utf8(page.content).unwrap()
}

/// The documents as files, with their paths.
fn written(folder: &Path, documents: Vec<Document>) -> Vec<PathBuf> {
    let write = |document: Document| {
        let file = folder.join(document.path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, document.content).unwrap();
        file
    };
    documents.into_iter().map(write).collect()
}

/// Says on standard error that a test did not run, past the harness's capture.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn every_command_has_a_page_with_each_of_its_options() {
    let mut grammar = cma_cli::grammar().disable_help_subcommand(true);
    grammar.build();
    let commands: Vec<_> = grammar.get_subcommands().collect();
    assert_eq!(manual_pages(cma_cli::grammar()).unwrap().len(), 1 + commands.len());
    for command in commands {
        let page = page(&format!("cma-{}", command.get_name()));
        for option in command.get_arguments() {
            let Some(long) = option.get_long() else { continue };
            let heading = format!("\n\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
            let short = format!(", {}", heading.trim_start());
            let is_described = page.contains(&heading) || page.contains(&short);
            assert_eq!(is_described, !option.is_hide_set(), "{} --{long}", command.get_name());
        }
    }
}

#[test]
fn the_page_of_the_program_names_every_command_and_its_exit_status() {
    let page = page("cma");
    for command in cma_cli::grammar().get_subcommands() {
        assert!(page.contains(&format!("\ncma\\-{}(1)\n", command.get_name())));
    }
    assert!(page.contains(".SH \"EXIT STATUS\"\n.PP\n0 success"), "{page}");
    assert!(page.contains(".SH EXAMPLES\n.PP\n.EX\n  cma "), "{page}");
}

#[test]
fn man_reads_every_page_without_a_warning() {
    if !has("man") {
        return skip("no man; the manual pages were not read by it");
    }
    let folder = tempfile::tempdir().unwrap();
    for page in written(folder.path(), manual_pages(cma_cli::grammar()).unwrap()) {
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", "-Z"]).arg(&page);
        let output = man.env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8").output().unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
    }
}

#[test]
fn bash_completes_commands_and_the_options_that_a_command_uses() {
    if !has("bash") {
        return skip("no bash; its completions were not tried");
    }
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path(), completions(cma_cli::grammar()));
    let completed = |words: &[&str]| {
        let script = r#"
            source "$1"; shift
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            "$(complete -p cma | sed 's/.*-F \([^ ]*\).*/\1/')" cma "${@: -1}" "${@: -2:1}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash"]).arg(&files[0]).arg("cma").args(words);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(completed(&["ex"]).split_whitespace().collect::<Vec<_>>(), ["export", "exec"]);
    let options = completed(&["get", "--"]);
    assert!(options.contains("--mount") && !options.contains("--banks"), "{options}");
}

#[test]
fn zsh_and_fish_read_their_completions() {
    let folder = tempfile::tempdir().unwrap();
    let files = written(folder.path(), completions(cma_cli::grammar()));
    for (shell, file) in ["zsh", "fish"].into_iter().zip(&files[1..]) {
        if !has(shell) {
            skip(&format!("no {shell}; its completions were not read"));
            continue;
        }
        let output = Command::new(shell).arg("-n").arg(file).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{shell}: {errors}");
    }
}

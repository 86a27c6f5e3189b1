//! What a package has beside the program `cma`: a manual page for it and for each of its commands,
//! and completions of its command line for shells. All is made of the program's own grammar
//! ([`cma_cli::grammar`]), so none of it can tell something else than `--help`.

mod page;

use clap::Command;
use clap_complete::Shell;
use std::io;

/// A file to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path below the folder of the documents: `man1/NAME.1` or `completions/NAME`, with the
    /// name by which a shell finds it.
    pub path: String,
    /// What it contains.
    pub content: Vec<u8>,
}

/// The manual pages of a program and of its commands.
///
/// # Errors
///
/// None is known: pages are written into memory.
pub fn manual_pages(grammar: Command) -> io::Result<Vec<Document>> {
    // The page of a command is its help.
    let mut program = grammar.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let mut commands = vec![&program];
    commands.extend(program.get_subcommands().filter(|command| !command.is_hide_set()));
    commands.into_iter().map(|command| page::write(command, &source)).collect()
}

/// The completions for bash, zsh and fish.
pub fn completions(mut grammar: Command) -> Vec<Document> {
    grammar.build();
    let mut visible = without_hidden(&grammar);
    let name = grammar.get_name();
    let files = [
        (Shell::Bash, format!("{name}.bash")),
        (Shell::Zsh, format!("_{name}")),
        (Shell::Fish, format!("{name}.fish")),
    ];
    let complete = |(shell, file): (Shell, String)| {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut visible, name, &mut content);
        Document { path: format!("completions/{file}"), content }
    };
    files.into_iter().map(complete).collect()
}

/// The command without hidden arguments: the completions for bash would offer them. Of a command
/// that is built, so it has the arguments that clap adds.
fn without_hidden(command: &Command) -> Command {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let about = command.get_about().cloned().unwrap_or_default();
    // clap takes names that live as long as the program. There are some two dozen.
    let name: &'static str = command.get_name().to_string().leak();
    Command::new(name)
        .about(about)
        // Of the option for it; no completion has it.
        .version("")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(visible.map(|argument| argument.clone().global(false)))
        .subcommands(command.get_subcommands().map(without_hidden))
}

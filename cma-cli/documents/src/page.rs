//! A manual page: the parts that clap knows, and the text after the options, which clap doesn't
//! divide into sections.

use crate::Document;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

/// The page of a command that is built.
pub(crate) fn write(command: &Command, source: &str) -> io::Result<Document> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
    let man = Man::new(command.clone());
    // clap_mangen writes no empty date. A date would differ from build to build.
    let mut content =
        format!(".TH {name} 1 \"\" \"{source}\" \"Contiguous memory\"\n").into_bytes();
    man.render_name_section(&mut content)?;
    man.render_synopsis_section(&mut content)?;
    man.render_description_section(&mut content)?;
    man.render_options_section(&mut content)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut content)?;
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    for Section { title, parts } in sections(&after) {
        let mut roff = Roff::new();
        roff.control("SH", [title]);
        parts.iter().for_each(|part| part.write(&mut roff));
        roff.to_writer(&mut content)?;
    }
    if let Some((program, _)) = name.split_once('-') {
        let mut roff = Roff::new();
        roff.control("SH", ["SEE ALSO"]).text([bold(program), roman("(1)")]);
        roff.to_writer(&mut content)?;
    }
    Ok(Document { path: format!("man1/{name}.1"), content })
}

#[derive(Debug, PartialEq, Eq)]
struct Section<'a> {
    title: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// A paragraph, which is filled.
    Text(&'a str),
    /// Lines that stay as they are, as of a command or a table.
    Lines(Vec<&'a str>),
}

impl Part<'_> {
    fn write(&self, roff: &mut Roff) {
        match self {
            Part::Text(text) => {
                roff.control("PP", []).text([roman(*text)]);
            }
            Part::Lines(lines) => {
                roff.control("PP", []).control("EX", []);
                for line in lines {
                    roff.text([roman(*line)]);
                }
                roff.control("EE", []);
            }
        }
    }
}

/// The sections of the text after a command's options. There a paragraph is a line, indented lines
/// stay as they are, and an introduction by a word says what follows.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut title = NOTES;
    for line in text.lines() {
        let mut part = None;
        if line.trim().is_empty() {
            title = NOTES;
        } else if let "Example:" | "Examples:" = line {
            title = "EXAMPLES";
        } else if let Some(status) = line.strip_prefix("Exit status: ") {
            title = "EXIT STATUS";
            part = Some(Part::Text(status));
        } else if line.starts_with(' ') {
            part = Some(Part::Lines(vec![line]));
        } else {
            part = Some(Part::Text(line));
        }
        let Some(part) = part else { continue };
        let at = sections.iter().position(|section| section.title == title);
        let at = at.unwrap_or_else(|| {
            sections.push(Section { title, parts: Vec::new() });
            sections.len() - 1
        });
        let parts = &mut sections[at].parts;
        match (parts.last_mut(), part) {
            (Some(Part::Lines(lines)), Part::Lines(more)) => lines.extend(more),
            (_, part) => parts.push(part),
        }
    }
    sections
}

const NOTES: &str = "NOTES";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_and_exit_status_are_sections_and_indented_lines_stay_lines() {
        let text = "\
One paragraph, however long.

Commands:
  l  list
  q  quit

Exit status: 0 success.

Examples:
  cma one
  cma two";
        let expected = [
            (
                "NOTES",
                vec![
                    Part::Text("One paragraph, however long."),
                    Part::Text("Commands:"),
                    Part::Lines(vec!["  l  list", "  q  quit"]),
                ],
            ),
            ("EXIT STATUS", vec![Part::Text("0 success.")]),
            ("EXAMPLES", vec![Part::Lines(vec!["  cma one", "  cma two"])]),
        ];
        let expected = expected.map(|(title, parts)| Section { title, parts });
        assert_eq!(sections(text), expected);
    }
}

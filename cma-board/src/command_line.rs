//! Regions as parameters of a kernel's command line.
//!
//! | parameter | of | says |
//! | --- | --- | --- |
//! | `cma=size[@start[-end]]` | Linux since 3.5 | the region for all devices; `end` limits where it may lie, and without it the start is fixed |
//! | `hugetlb_cma=size`, `hugetlb_cma=node:size,...` | Linux since 5.7 | regions for huge pages of 1 GiB, one for all nodes of memory or one for each |
//! | `cma=name=size...;...`, `cma.map=rules` | the fourth version of the patch series of 2010 | regions and map in full |
//!
//! Other parameters are ignored, and so is what follows ` -- `, which is for the first process. The
//! last of several parameters of a name counts, as in the kernel. Sources:
//! `Documentation/admin-guide/kernel-parameters.txt`, `kernel/dma/contiguous.c` and
//! `mm/hugetlb_cma.c` of Linux.
//!
//! The region of `cma=size` is called `cma`, and the map has the rule `*=cma`. Those of
//! `hugetlb_cma=` are called `hugetlb` or `hugetlb0`, `hugetlb1` and so on, are aligned to 1 GiB,
//! and serve the device `hugetlb`.

use crate::board::{Board, BoardRegion};
use crate::note::{BoardError, Note, Origin};
use crate::read_board::{ReadBoard, TracedText};
use cma_framework::config::{
    Bytes, Growth, Map, Place, Span, SyntaxError, parse_regions, parse_size,
};
use std::iter;

/// The name of the region that `cma=size` describes.
const DEFAULT_REGION: &str = "cma";

/// The name of the region of `hugetlb_cma=size`, and of the device that it serves. With the number
/// of a node behind it, it is the region of that node, as in the kernel's own names.
const HUGETLB: &str = "hugetlb";

/// The size of a huge page that `hugetlb_cma=` is for, with base pages of 4 KiB.
const HUGETLB_PAGE: u64 = 1 << 30;

/// The most nodes that a kernel can have.
const MAX_NODES: u64 = 1024;

/// Whether `text` has a parameter that [`read`] reads.
pub fn is_command_line(text: &str) -> bool {
    words(text).any(|word| word.parameter(text).is_some())
}

/// Reads a kernel's command line, such as the content of `/proc/cmdline`. It has no banks and no
/// name.
///
/// # Errors
///
/// The first mistake in one of the parameters that it reads, with its position.
pub fn read(text: &str) -> Result<ReadBoard, BoardError> {
    let mut notes = Vec::new();
    let mut last: [Option<Word>; 3] = [None, None, None];
    for word in words(text) {
        let Some(parameter) = word.parameter(text) else { continue };
        if let Some(earlier) = last[parameter as usize].replace(word) {
            let message = "a later parameter of this name replaces this one";
            notes.push(Note::new(message).at(Origin::Text(earlier.span())));
        }
    }
    let [cma, map, hugetlb] = last;
    if cma.is_none() && map.is_none() && hugetlb.is_none() {
        let note = Note::new("none of its words is cma=, hugetlb_cma= or cma.map=");
        let remedy = "name a kernel's command line; a board in TOML is a file that ends in .toml";
        return Err(note.with_remedy(remedy).into());
    }
    let mut regions = TracedText::default();
    let mut rules = TracedText::default();
    let mut rule = |text: String, origin: Origin| {
        if !rules.text().is_empty() {
            rules.connect(";");
        }
        rules.push(&text, origin);
    };
    if let Some(word) = &hugetlb
        && let Some(names) = read_hugetlb(text, word, &mut regions, &mut notes)?
    {
        rule(format!("{HUGETLB}={names}"), Origin::Text(word.span()));
    }
    if let Some(word) = &cma {
        let value = &text[word.value.clone()];
        if value.contains('=') || value.trim().is_empty() {
            if !regions.text().is_empty() && !value.trim().is_empty() {
                regions.connect(";");
            }
            regions.push(value, Origin::Text(word.value.clone()));
        } else if read_cma(text, word, &mut regions, &mut notes)? {
            rule(format!("*={DEFAULT_REGION}"), Origin::Text(word.span()));
        }
    }
    if let Some(word) = map {
        rules = TracedText::default();
        rules.push(&text[word.value.clone()], Origin::Text(word.value.clone()));
    } else if rules.text().is_empty() && !regions.text().is_empty() {
        let note = Note::new("no rule says which device may use which region");
        notes.push(note.with_remedy("add cma.map=, as in cma.map=*=b1,b2"));
    }
    let parsed = parse_regions(regions.text()).map_err(|error| regions.error(&error))?;
    let board = Board {
        regions: parsed.iter().map(|parsed| BoardRegion::from(&parsed.spec)).collect(),
        map: Map::parse(rules.text()).map_err(|error| rules.error(&error))?,
        ..Board::default()
    };
    Ok(ReadBoard {
        board,
        notes,
        withheld: Vec::new(),
        regions,
        map: rules,
        memory: TracedText::default(),
    })
}

/// Reads `size[@start[-end]]`. Returns whether there is a region.
fn read_cma(
    text: &str,
    word: &Word,
    regions: &mut TracedText,
    notes: &mut Vec<Note>,
) -> Result<bool, BoardError> {
    let mut numbers = Numbers { text, rest: word.value.clone() };
    let (size, size_at) = numbers.next()?;
    let start = numbers.eat('@').then(|| numbers.next()).transpose()?;
    let end = match start {
        Some(_) => numbers.eat('-').then(|| numbers.next()).transpose()?,
        None => None,
    };
    numbers.end("expected cma=size, cma=size@start or cma=size@start-end")?;
    if size == 0 {
        notes.push(Note::new("a size of 0 means no region").at(Origin::Text(word.span())));
        return Ok(false);
    }
    if !regions.text().is_empty() {
        regions.connect(";");
    }
    regions.push(DEFAULT_REGION, Origin::Text(word.key.clone()));
    regions.connect("=");
    regions.push(&text[size_at.clone()], Origin::Text(size_at));
    let Some((start, start_at)) = start else { return Ok(true) };
    regions.connect("@");
    match end {
        // The kernel takes both as a fixed start.
        None if start == 0 => {
            regions.push(&format!("0-{}", Bytes(size)), Origin::Text(start_at));
        }
        Some((end, _)) if start != 0 && start.checked_add(size) == Some(end) => {
            regions.push(&text[start_at.clone()], Origin::Text(start_at));
        }
        None => regions.push(&text[start_at.clone()], Origin::Text(start_at)),
        Some((_, end_at)) => {
            let window = start_at.start..end_at.end;
            regions.push(&text[window.clone()], Origin::Text(window));
        }
    }
    Ok(true)
}

/// Reads `size` or `node:size,...`. Returns the names of the regions as a map has them, if there
/// are any.
fn read_hugetlb(
    text: &str,
    word: &Word,
    regions: &mut TracedText,
    notes: &mut Vec<Note>,
) -> Result<Option<String>, BoardError> {
    let mut numbers = Numbers { text, rest: word.value.clone() };
    let mut names: Vec<String> = Vec::new();
    loop {
        let (first, first_at) = numbers.next()?;
        let item_start = first_at.start;
        let (name, size, size_at) = if numbers.eat(':') {
            if first >= MAX_NODES {
                let note = Note::new(format!("there is no node {first}: they end at 1023"));
                return Err(note.at(Origin::Text(first_at)).into());
            }
            let (size, size_at) = numbers.next()?;
            (format!("{HUGETLB}{first}"), size, size_at)
        } else {
            if !names.is_empty() {
                let note = Note::new("expected node:size, as in hugetlb_cma=0:1G,1:1G");
                return Err(note.at(Origin::Text(first_at)).into());
            }
            (HUGETLB.to_string(), first, first_at)
        };
        let per_node = name != HUGETLB;
        let whole = size.checked_next_multiple_of(HUGETLB_PAGE).ok_or_else(|| {
            Note::new(SyntaxError::SizeTooLarge.to_string()).at(Origin::Text(size_at.clone()))
        })?;
        if size < HUGETLB_PAGE {
            let message = "a kernel gives no memory for less than one huge page of 1G";
            notes.push(Note::new(message).at(Origin::Text(size_at)));
        } else {
            if whole != size {
                let message = format!("the size is rounded up to {}", Bytes(whole));
                notes.push(Note::new(message).at(Origin::Text(size_at.clone())));
            }
            if names.contains(&name) {
                let note = Note::new(format!("node {first} is given twice"));
                return Err(note.at(Origin::Text(item_start..size_at.end)).into());
            }
            if !regions.text().is_empty() {
                regions.connect(";");
            }
            regions.push(&name, Origin::Text(word.key.clone()));
            regions.connect("=");
            match whole == size {
                true => regions.push(&text[size_at.clone()], Origin::Text(size_at)),
                false => regions.push(&Bytes(whole).to_string(), Origin::Text(size_at)),
            }
            regions.connect(&format!("/{}", Bytes(HUGETLB_PAGE)));
            names.push(name);
        }
        if !(per_node && numbers.eat(',')) {
            break;
        }
    }
    numbers.end("expected hugetlb_cma=size or hugetlb_cma=node:size,...")?;
    Ok((!names.is_empty()).then(|| names.join(",")))
}

/// The board as the parameters of today's Linux, and notes about what they can't express.
pub fn write(board: &Board) -> (String, Vec<Note>) {
    let mut notes = Vec::new();
    let mut words = Vec::new();
    let mut written = Vec::new();
    let default = default_region(board);
    if let Some(region) = default {
        let size = Bytes(region.size);
        words.push(match region.place {
            Place::Anywhere => format!("cma={size}"),
            Place::At(start) => format!("cma={size}@{start}"),
            Place::Within(window) => format!("cma={size}@{window}"),
        });
        written.push(region.name.as_str());
        for (unsaid, what) in [
            (region.alignment.is_some(), "its alignment"),
            (region.allocator.is_some(), "its allocator"),
            (region.name != DEFAULT_REGION, "its name"),
        ] {
            if unsaid {
                notes.push(Note::new(format!("region \"{}\": cma= can't say {what}", region.name)));
            }
        }
    }
    let others = board.regions.iter().filter(|region| Some(*region) != default);
    let hugetlb: Vec<_> = others.filter_map(hugetlb_node).collect();
    let mut huge_pages: Vec<&str> = Vec::new();
    if !hugetlb.is_empty() {
        let node = |(node, region): (Option<u64>, &BoardRegion)| match node {
            Some(node) => format!("{node}:{}", Bytes(region.size)),
            None => Bytes(region.size).to_string(),
        };
        // The form without a node can't be combined with others.
        let (plain, by_node): (Vec<_>, Vec<_>) =
            hugetlb.iter().partition(|(node, _)| node.is_none());
        let chosen = if by_node.is_empty() { plain } else { by_node };
        huge_pages = chosen.iter().map(|(_, region)| region.name.as_str()).collect();
        written.extend(&huge_pages);
        words.push(format!(
            "hugetlb_cma={}",
            chosen.into_iter().map(node).collect::<Vec<_>>().join(",")
        ));
    }
    for region in board.regions.iter().filter(|region| !written.contains(&region.name.as_str())) {
        let message = format!(
            "region \"{}\" is left out: a kernel's command line has one region for all devices and those of huge pages",
            region.name
        );
        notes.push(Note::new(message));
    }
    // The rules that a reader takes from the words, in its order.
    let of_hugetlb =
        (!huge_pages.is_empty()).then(|| format!("{HUGETLB}={}", huge_pages.join(",")));
    let of_default = default.map(|region| format!("*={}", region.name));
    let implied: Vec<String> = of_hugetlb.into_iter().chain(of_default).collect();
    let rules: Vec<String> = board.map.rules().map(|rule| rule.to_string()).collect();
    for rule in rules.iter().filter(|rule| !implied.contains(rule)) {
        notes.push(Note::new(format!(
            "rule \"{rule}\" is left out: a kernel's command line has no map"
        )));
    }
    // A board has the rule of its default region, or one that begins as it does.
    for rule in implied.iter().filter(|rule| rule.starts_with(HUGETLB) && !rules.contains(rule)) {
        notes
            .push(Note::new(format!("rule \"{rule}\" is not in the map, and a kernel acts by it")));
    }
    let kept: Vec<&String> = rules.iter().filter(|rule| implied.contains(rule)).collect();
    if kept.len() > 1 && !kept.into_iter().eq(&implied) {
        notes.push(Note::new("the order of the rules is left out: a kernel knows hugetlb first"));
    }
    notes.extend(unsaid_of_board(board));
    (words.join(" "), notes)
}

/// The board as the parameters of the fourth version of the patch series, and notes about what they
/// can't express.
pub fn write_v4(board: &Board) -> (String, Vec<Note>) {
    let mut notes = Vec::new();
    let regions: Vec<_> = board
        .regions
        .iter()
        .map(|region| {
            let mut spec = region.spec();
            if let Place::Within(window) = spec.place {
                let message = format!(
                    "region \"{}\": its window {window} is left out: version 4 has no windows",
                    spec.name
                );
                notes.push(Note::new(message));
                spec.place = Place::Anywhere;
            }
            spec.to_string()
        })
        .collect();
    let rules: Vec<_> = board
        .map
        .rules()
        .map(|rule| {
            let text = rule.to_string();
            if text.contains('|') {
                let message =
                    format!("rule \"{text}\": the groups are written as lists, tried in order");
                notes.push(Note::new(message));
            }
            text.replace('|', ",")
        })
        .collect();
    let words = [("cma", regions.join(";")), ("cma.map", rules.join(";"))];
    let words = words.into_iter().filter(|(_, value)| !value.is_empty());
    let words: Vec<_> = words
        .filter_map(|(key, value)| {
            if value.contains(|c: char| c == '"' || c.is_control()) {
                notes.push(Note::new(format!(
                    "{key}= is left out: its value contains a quotation mark or a control character"
                )));
                return None;
            }
            let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
            Some(format!("{key}={quote}{value}{quote}"))
        })
        .collect();
    notes.extend(unsaid_of_board(board));
    (words.join(" "), notes)
}

/// What no command line says.
fn unsaid_of_board(board: &Board) -> impl Iterator<Item = Note> {
    let name =
        board.name.as_ref().map(|name| format!("the name \"{}\" is left out", name.escape_debug()));
    let banks = (!board.banks.is_empty()).then(|| {
        format!(
            "the banks {} are left out: a kernel gets them from the firmware",
            board.banks_text()
        )
    });
    let growth = (board.growth == Growth::Down)
        .then(|| "that banks are filled from their ends is left out".to_string());
    let memory = board.memory.as_ref().map(|memory| format!("the memory \"{memory}\" is left out"));
    let no_map = board.regions.iter().filter(|region| region.no_map);
    let no_map = no_map.map(|region| format!("region \"{}\": no-map is left out", region.name));
    let all: Vec<_> =
        iter::empty().chain(name).chain(banks).chain(growth).chain(memory).chain(no_map).collect();
    all.into_iter().map(Note::new)
}

/// The region that serves every device that no other rule serves: the first of the rule `*`.
fn default_region(board: &Board) -> Option<&BoardRegion> {
    let mut regions =
        board.map.rules().filter_map(|rule| rule.to_string().strip_prefix("*=").map(String::from));
    let list = regions.next()?;
    let first = list.split([',', '|']).next()?;
    board.regions.iter().find(|region| region.name == first)
}

/// The node of a region that `hugetlb_cma=` describes, `None` for all nodes.
fn hugetlb_node(region: &BoardRegion) -> Option<(Option<u64>, &BoardRegion)> {
    let node = match region.name.strip_prefix(HUGETLB)? {
        "" => None,
        node => Some(
            node.parse()
                .ok()
                .filter(|number: &u64| *number < MAX_NODES && number.to_string() == node)?,
        ),
    };
    let plain = region.place == Place::Anywhere
        && region.alignment == Some(HUGETLB_PAGE)
        && region.allocator.is_none()
        && region.size.is_multiple_of(HUGETLB_PAGE);
    plain.then_some((node, region))
}

/// The parameters that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Cma,
    Map,
    HugetlbCma,
}

/// A word with a value.
struct Word {
    key: Span,
    /// Without its quotation marks.
    value: Span,
}

impl Word {
    fn span(&self) -> Span {
        self.key.start..self.value.end
    }

    /// The kernel takes `-` and `_` in a name as the same.
    fn parameter(&self, text: &str) -> Option<Parameter> {
        match text[self.key.clone()].replace('-', "_").as_str() {
            "cma" => Some(Parameter::Cma),
            "cma.map" => Some(Parameter::Map),
            "hugetlb_cma" => Some(Parameter::HugetlbCma),
            _ => None,
        }
    }
}

/// The words of a command line that have a value, up to ` -- `. A value, or a word, may stand in
/// quotation marks, and then contain spaces (`next_arg` in the kernel's `lib/cmdline.c`).
fn words(text: &str) -> impl Iterator<Item = Word> {
    let mut at = 0;
    let mut ended = false;
    iter::from_fn(move || {
        while !ended {
            at += text[at..].len() - text[at..].trim_start().len();
            let mut quoted = false;
            let rest = &text[at..];
            let length = rest.find(|c: char| {
                quoted ^= c == '"';
                c.is_whitespace() && !quoted
            });
            let length = length.unwrap_or(rest.len());
            let word = at..at + length;
            at = word.end;
            ended = word.is_empty() || &text[word.clone()] == "--";
            if !ended && let Some(equals) = text[word.clone()].find('=') {
                let equals = word.start + equals;
                let opened = usize::from(text[word.clone()].starts_with('"'));
                let key = word.start + opened..equals;
                let value = equals + 1..word.end;
                let unquoted = text[value.clone()].trim_matches('"');
                let lead =
                    text[value.clone()].len() - text[value.clone()].trim_start_matches('"').len();
                let start = value.start + lead.min(value.len() - unquoted.len());
                return Some(Word { key, value: start..start + unquoted.len() });
            }
        }
        None
    })
}

/// The numbers of a value.
struct Numbers<'t> {
    text: &'t str,
    rest: Span,
}

impl Numbers<'_> {
    fn next(&mut self) -> Result<(u64, Span), BoardError> {
        match parse_size(&self.text[self.rest.clone()]) {
            Ok((number, length)) => {
                let at = self.rest.start..self.rest.start + length;
                self.rest.start = at.end;
                Ok((number, at))
            }
            Err((error, length)) => {
                let at = self.rest.start..self.rest.start + length;
                Err(Note::new(error.to_string()).at(Origin::Text(at)).into())
            }
        }
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.text[self.rest.clone()].starts_with(expected);
        self.rest.start += if found { expected.len_utf8() } else { 0 };
        found
    }

    fn end(&self, expected: &str) -> Result<(), BoardError> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(Note::new(expected).at(Origin::Text(self.rest.clone())).into()),
        }
    }
}

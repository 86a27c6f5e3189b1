//! A board as options of the program `cma`.

use crate::board::Board;
use crate::note::Note;
use cma_framework::config::Growth;

/// The board as `--banks`, `--cma`, `--map` and `--memory`, quoted for a shell, and notes about
/// what the options can't express.
pub fn write(board: &Board) -> (String, Vec<Note>) {
    let memory = board.memory.as_ref().map(ToString::to_string).unwrap_or_default();
    let options = [
        ("--banks", board.banks_text()),
        ("--cma", board.regions_text()),
        ("--map", board.map_text()),
        ("--memory", memory),
    ];
    // An empty text of regions or rules replaces those of the default board, too.
    let given =
        |(option, text): &(&str, String)| !text.is_empty() || matches!(*option, "--cma" | "--map");
    let options = options.iter().filter(|option| given(option));
    let quoted =
        options.map(|(option, text)| format!("{option} '{}'", text.replace('\'', r"'\''")));
    let text = quoted.collect::<Vec<_>>().join(" ");
    let mut notes = Vec::new();
    if let Some(name) = &board.name {
        notes.push(Note::new(format!("the name \"{}\" is left out", name.escape_debug())));
    }
    if board.banks.is_empty() {
        let note =
            Note::new("there are no banks: the options are for the banks of the default board");
        notes.push(note.with_remedy("give --banks"));
    }
    if board.growth == Growth::Down {
        notes.push(Note::new("that banks are filled from their ends is left out"));
    }
    notes.extend(
        board
            .regions
            .iter()
            .filter(|region| region.no_map)
            .map(|region| Note::new(format!("region \"{}\": no-map is left out", region.name))),
    );
    (text, notes)
}

//! What a picture shows, in words.

use crate::history::History;
use crate::layout::Layout;
use crate::text;

/// The allocator and its refusals, in a line.
pub fn summary(history: &History<'_>) -> String {
    let trace = history.trace();
    let refused = text::counted(history.refused().len(), "request");
    let recorded = match trace.refused() {
        0 => String::new(),
        count => format!(" ({} when recorded)", text::grouped(count)),
    };
    text::plain(&format!("{}: {refused} refused{recorded}", history.allocator()))
}

/// `operation` with the layout after it, in words: what is free, and what keeps it apart.
pub(crate) fn described(history: &History<'_>, operation: usize, layout: &Layout) -> String {
    let time = text::time(history.trace().operations()[operation].time_us);
    let at = format!("{time} (operation {})", text::grouped(operation as u64 + 1));
    let moment = match layout.request() {
        Some(request) => {
            format!(
                "First refusal at {at}: {} for {}",
                text::bytes(request.bytes),
                request.requester
            )
        }
        None => format!("Worst fragmentation at {at}"),
    };
    format!("{moment}. {}", free_in_words(layout))
}

/// The most devices that [`free_in_words`] names, if there are others.
const MOST_NAMED: usize = 4;

/// The free ranges of `layout`, and the chunks between them.
pub(crate) fn free_in_words(layout: &Layout) -> String {
    let Some(largest) = layout.largest_hole() else { return "Nothing is free.".to_string() };
    let count = layout.holes().len();
    let free = text::bytes(layout.free_bytes());
    if count == 1 {
        return format!("{free} free in one range.");
    }
    let in_words = |name: &str, count: usize, bytes: u64| {
        format!("{name} {} ({})", text::counted(count, "chunk"), text::bytes(bytes))
    };
    let separators = layout.separators();
    let named = if separators.len() <= MOST_NAMED + 1 { separators.len() } else { MOST_NAMED };
    let (named, others) = separators.split_at(named);
    let mut list: Vec<String> = named.iter().map(|it| in_words(it.0, it.1, it.2)).collect();
    if !others.is_empty() {
        let name = text::counted(others.len(), "other device");
        let (count, bytes) = others.iter().fold((0, 0), |sum, it| (sum.0 + it.1, sum.1 + it.2));
        list.push(in_words(&name, count, bytes));
    }
    format!(
        "{free} free in {}, the largest {}; between them: {}.",
        text::counted(count, "range"),
        text::bytes(largest.bytes()),
        list.join(", ")
    )
}

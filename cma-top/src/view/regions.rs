//! The regions as bars, and the selected one in many cells.

use super::Look;
use crate::cells::{Cell, cell_pages, cells};
use crate::owners;
use crate::units::{self, fit, left, right};
use cma_framework::{PAGE_SIZE, PageRange};
use cma_running::{ChunkState, RegionState};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The figures behind a bar: their heads and widths.
const FIGURES: [(&str, usize); 7] = [
    ("used", 4),
    ("free", 6),
    ("largest", 7),
    ("req/s", 5),
    ("ref/s", 5),
    ("freed/s", 7),
    ("wait", 4),
];

/// The longest name of an allocator that is shown, in columns.
const ALLOCATOR: usize = 12;

/// The regions, one a line.
pub(super) fn bars(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect) {
    let regions = look.model.regions();
    let rows = usize::from(area.height) - 1;
    let selected = look.model.selected();
    // The selected one is in the middle, unless that would leave lines empty.
    let first = selected.saturating_sub(rows / 2).min(regions.len().saturating_sub(rows));
    let widths = Widths::of(area.width, regions);
    let more = look.theme.more();
    let mut head = format!("  {} {}", left("region", widths.name, more), " ".repeat(widths.bar));
    for (title, width) in FIGURES {
        head.push(' ');
        head.push_str(&right(title, width, more));
    }
    head.push_str(" allocator");
    let head = Span::styled(fit(&head, area.width.into(), more), look.theme.head());
    frame.render_widget(Line::from(head), Rect { height: 1, ..area });
    for (n, region) in regions.iter().enumerate().skip(first).take(rows) {
        let y = area.y + 1 + (n - first) as u16;
        let line = bar(look, region, &widths, n == selected);
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
    if regions.is_empty() && rows > 0 {
        let none = Line::from("  there is no region");
        frame.render_widget(none, Rect { y: area.y + 1, height: 1, ..area });
    }
}

/// The widths of the columns that depend on the screen.
struct Widths {
    name: usize,
    bar: usize,
    allocator: usize,
}

impl Widths {
    fn of(width: u16, regions: &[RegionState]) -> Widths {
        let width = usize::from(width);
        let widest = |text: &dyn Fn(&RegionState) -> String| {
            regions.iter().map(|region| Span::raw(text(region)).width()).max().unwrap_or(0)
        };
        let name = widest(&|region| region.to_string()).clamp(8, (width / 8).max(8));
        let allocator = widest(&|region| region.allocator.to_string()).clamp(9, ALLOCATOR);
        let figures: usize = FIGURES.iter().map(|(_, width)| width + 1).sum();
        Widths { name, allocator, bar: width - 2 - name - 1 - figures - 1 - allocator }
    }
}

fn bar(look: &Look<'_>, region: &RegionState, widths: &Widths, selected: bool) -> Line<'static> {
    let Look { model, theme } = look;
    let more = theme.more();
    let style = if selected { theme.head() } else { Style::new() };
    let marker = if selected { theme.marker() } else { "  " };
    let name = left(&region.to_string(), widths.name, more);
    let mut spans = vec![Span::styled(format!("{marker}{name} "), style)];
    match (&region.problem, &region.books) {
        (Some(problem), _) => {
            spans.push(Span::styled(left(problem, widths.bar, more), theme.problem()));
        }
        (None, Some(books)) => {
            spans.extend(drawn(look, region.range, &books.chunks, 0..widths.bar, widths.bar));
        }
        (None, None) => {
            let text = left("its books can't be read", widths.bar, more);
            spans.push(Span::styled(text, theme.problem()));
        }
    }
    let figures = match &region.books {
        Some(books) => {
            let size = region.range.bytes();
            let rates = model.meter.of(region);
            let rate = |rate: Option<f64>| rate.map_or("-".to_string(), units::rate);
            [
                units::percent(size.saturating_sub(books.free_bytes), size),
                units::size(books.free_bytes),
                units::size(books.largest_free_bytes),
                rate(rates.map(|rates| rates.requests)),
                rate(rates.map(|rates| rates.refused)),
                rate(rates.map(|rates| rates.freed)),
                books.waiters.len().to_string(),
            ]
        }
        None => [const { String::new() }; 7].map(|_| "-".to_string()),
    };
    let has_refusals = model.meter.of(region).is_some_and(|rates| rates.refused > 0.0);
    let has_waiters = region.books.as_ref().is_some_and(|books| !books.waiters.is_empty());
    for (text, (title, width)) in figures.iter().zip(FIGURES) {
        let is_bad = title == "ref/s" && has_refusals || title == "wait" && has_waiters;
        let style = if is_bad { theme.problem() } else { style };
        spans.push(Span::styled(format!(" {}", right(text, width, more)), style));
    }
    let allocator = fit(&region.allocator.to_string(), widths.allocator, more);
    spans.push(Span::styled(format!(" {allocator}"), style));
    Line::from(spans)
}

/// The selected region, from its lowest address at the top left on.
pub(super) fn map(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Look { model, theme } = look;
    let Some(region) = model.regions().get(model.selected()) else { return };
    let range = region.range;
    let last = range.end_page().saturating_sub(1).saturating_mul(PAGE_SIZE);
    let label = format!("{last:#x}").len();
    let rows = usize::from(area.height) - 1;
    let columns = usize::from(area.width) - label - 1;
    let count = rows * columns;
    let cell = range.bytes() / count.max(1) as u64;
    let glyph = |fill| theme.glyph(fill);
    use crate::cells::Fill::{Free, Full, Partly};
    let peak = region
        .books
        .as_ref()
        .map_or(String::new(), |books| format!(", peak {}", units::size(books.high_water_bytes)));
    let head = format!(
        "{region}: {} at {}{peak}, cell {}: {} used {} partly {} free",
        units::size(range.bytes()),
        range.start(),
        if cell < PAGE_SIZE { "<4K".to_string() } else { units::size(cell) },
        glyph(Full),
        glyph(Partly),
        glyph(Free),
    );
    frame.render_widget(look.head(&head, area.width), Rect { height: 1, ..area });
    let Some(books) = &region.books else { return };
    if count == 0 {
        return;
    }
    let all = cells(range, &books.chunks, count);
    for (row, cells) in all.chunks(columns).enumerate() {
        let start = cell_pages(range, row * columns, count).0.saturating_mul(PAGE_SIZE);
        let mut spans =
            vec![Span::styled(format!("{:>label$} ", format!("{start:#x}")), theme.dim())];
        spans.extend(runs(look, cells, &books.chunks));
        let y = area.y + 1 + row as u16;
        frame.render_widget(Line::from(spans), Rect { y, height: 1, ..area });
    }
}

/// The cells `shown` of `range` in `count` cells.
fn drawn(
    look: &Look<'_>,
    range: PageRange,
    chunks: &[ChunkState],
    shown: std::ops::Range<usize>,
    count: usize,
) -> Vec<Span<'static>> {
    runs(look, &cells(range, chunks, count)[shown], chunks)
}

/// Cells as text: each run of cells of one style is a span.
fn runs(look: &Look<'_>, cells: &[Cell], chunks: &[ChunkState]) -> Vec<Span<'static>> {
    let style = |cell: &Cell| match cell.chunk {
        Some(index) => look.theme.owner(look.model.colour(&owners::device(&chunks[index]))),
        None => look.theme.dim(),
    };
    let mut spans: Vec<Span<'static>> = Vec::new();
    for cell in cells {
        let (glyph, style) = (look.theme.glyph(cell.fill), style(cell));
        match spans.last_mut().filter(|last| last.style == style) {
            Some(last) => last.content.to_mut().push_str(glyph),
            None => spans.push(Span::styled(glyph.to_string(), style)),
        }
    }
    spans
}

//! The screen, drawn from the model alone.
//!
//! From the top: a line with the source and its health, a line of totals, the regions as bars, the
//! selected region in many cells, its owners and waiters side by side, its last refusals, the keys.

mod lists;
mod regions;

use crate::model::Model;
use crate::rates::Rates;
use crate::theme::Theme;
use crate::units::{self, fit, left};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use std::time::{Duration, Instant};

/// The smallest screen.
const SMALLEST: (u16, u16) = (80, 24);

/// The lines that are always there: title, totals, keys, and the heads of four lists.
const FIXED: u16 = 7;

/// The width from which on there is always room for waiters.
const WIDE: u16 = 110;

/// The time after which a state that was not read again is reported.
const LATE: Duration = Duration::from_secs(3);

/// The most lines for refusals: a region keeps no more.
const MOST_REFUSALS: u16 = 16;

/// What all parts of the screen need.
#[derive(Clone, Copy)]
struct Look<'m> {
    model: &'m Model,
    theme: Theme,
}

impl Look<'_> {
    /// The head of a list, with a rule to the end of the line.
    fn head(&self, text: &str, width: u16) -> Line<'static> {
        let width = usize::from(width);
        let text = fit(text, width.saturating_sub(1), self.theme.more());
        let used = Span::raw(text.as_str()).width() + 1;
        let rule = self.theme.rule().repeat(width.saturating_sub(used));
        Line::from(vec![
            Span::styled(text, self.theme.head()),
            Span::styled(format!(" {rule}"), self.theme.dim()),
        ])
    }
}

/// Draws the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme, now: Instant) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(frame, area);
    }
    let look = Look { model, theme };
    let mut lines = Lines { area, next: area.y };
    lines.put(frame, title(&look, now, area.width));
    lines.put(frame, totals(&look));
    let heights = Heights::of(area.height - FIXED, model.regions().len() as u16);
    regions::bars(&look, frame, lines.take(heights.regions + 1));
    regions::map(&look, frame, lines.take(heights.map + 1));
    let middle = lines.take(heights.middle + 1);
    let waiters = match middle.width {
        // On a narrow screen the owners need the place of waiters that are not there.
        ..WIDE if !lists::has_waiters(&look) => 0,
        width => (width * 2 / 5).min(70),
    };
    let gap = waiters.min(1);
    let (owners, waiters) = (
        Rect { width: middle.width - waiters - gap, ..middle },
        Rect { x: middle.right() - waiters, width: waiters, ..middle },
    );
    lists::owners(&look, frame, owners);
    if waiters.width > 0 {
        lists::waiters(&look, frame, waiters);
    }
    lists::refusals(&look, frame, lines.take(heights.refusals + 1));
    lines.put(frame, keys(&look));
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = SMALLEST;
    let texts = [
        format!(
            "{}x{} is too small: enlarge the terminal to {width}x{height}",
            area.width, area.height
        ),
        "q quit".to_string(),
    ];
    let mut y = area.y;
    for text in texts {
        // In as many lines as it takes.
        let text: Vec<char> = text.chars().collect();
        for part in text.chunks(usize::from(area.width.max(1))) {
            if y < area.bottom() {
                let line = Line::from(part.iter().collect::<String>());
                frame.render_widget(line, Rect { y, height: 1, ..area });
                y += 1;
            }
        }
    }
}

/// The heights of the lists, without their heads.
#[derive(Debug, PartialEq, Eq)]
struct Heights {
    regions: u16,
    map: u16,
    middle: u16,
    refusals: u16,
}

impl Heights {
    /// Shares `lines` among the lists: first as on the smallest screen, then what there is more.
    /// What the regions do not need is left to the owners.
    fn of(lines: u16, regions: u16) -> Heights {
        let more = lines.saturating_sub(SMALLEST.1 - FIXED);
        let share = |least: u16, percent: u16| least + more * percent / 100;
        let regions = regions.clamp(1, share(5, 25));
        let (map, refusals) = (share(3, 35), share(3, 20).min(MOST_REFUSALS));
        Heights { regions, map, refusals, middle: lines - regions - map - refusals }
    }
}

/// The lines of an area, from the top.
struct Lines {
    area: Rect,
    next: u16,
}

impl Lines {
    fn take(&mut self, height: u16) -> Rect {
        let y = self.next;
        self.next += height;
        Rect { y, height, ..self.area }
    }

    fn put(&mut self, frame: &mut Frame<'_>, line: Line<'_>) {
        frame.render_widget(line, self.take(1));
    }
}

/// The source, and whether what is shown is its present state.
fn title(look: &Look<'_>, now: Instant, width: u16) -> Line<'static> {
    let Look { model, theme } = look;
    let late = now.saturating_duration_since(model.read_at);
    let (health, style) = if let Some(gone) = &model.gone {
        let since = units::time(now.saturating_duration_since(gone.since));
        // The title has the path.
        let path = format!("{}: ", model.title);
        let reason = gone.reason.strip_prefix(&path).unwrap_or(&gone.reason);
        (format!("GONE for {since}: {reason}"), theme.problem())
    } else if model.paused {
        ("PAUSED".to_string(), theme.head().add_modifier(Modifier::REVERSED))
    } else if model.sample.as_ref().is_some_and(|sample| sample.ended) {
        ("end of the trace".to_string(), theme.head())
    } else if late >= LATE {
        (format!("no answer for {}", units::time(late)), theme.problem())
    } else {
        (String::new(), Style::new())
    };
    let mut rest = model.sample.as_ref().map_or(String::new(), |sample| sample.pace.clone());
    let regions = model.regions().len();
    if regions > 1 {
        rest.push_str(&format!("  region {} of {regions}", model.selected() + 1));
    }
    let width = usize::from(width);
    let name = fit(&model.title, (width / 2).saturating_sub(9), theme.more());
    let mut spans = vec![Span::styled("cma top", theme.head()), Span::raw(format!("  {name}"))];
    for (text, style) in [(health, style), (rest, theme.dim())] {
        let used: usize = spans.iter().map(Span::width).sum();
        let room = width.saturating_sub(used + 2);
        if !text.is_empty() && room > 0 {
            spans.push(Span::raw("  "));
            spans.push(Span::styled(fit(&text, room, theme.more()), style));
        }
    }
    Line::from(spans)
}

/// The sums over all regions.
fn totals(look: &Look<'_>) -> Line<'static> {
    let Look { model, theme } = look;
    let regions = model.regions();
    let books = || regions.iter().filter_map(|region| region.books.as_ref());
    let size: u64 = regions.iter().fold(0, |sum, region| sum.saturating_add(region.range.bytes()));
    let free = books().fold(0_u64, |sum, books| sum.saturating_add(books.free_bytes));
    let chunks: usize = books().map(|books| books.chunks.len()).sum();
    let waiting: usize = books().map(|books| books.waiters.len()).sum();
    let measured: Vec<Rates> = regions.iter().filter_map(|region| model.meter.of(region)).collect();
    let is_measured = !measured.is_empty();
    let rates: Rates = measured.into_iter().sum();
    let per_second = |rate| if is_measured { units::rate(rate) } else { "-".to_string() };
    let mut spans = Vec::new();
    let mut figure = |before: &str, value: String, behind: &str, style: Style| {
        spans.push(Span::raw(before.to_string()));
        spans.push(Span::styled(value, style.add_modifier(Modifier::BOLD)));
        spans.push(Span::raw(format!("{behind}  ")));
    };
    let plain = Style::new();
    let bad = |is_bad: bool| if is_bad { theme.problem() } else { plain };
    figure("", units::size(free), &format!(" of {} free", units::size(size)), plain);
    figure("", chunks.to_string(), " chunks", plain);
    figure("", waiting.to_string(), " wait", bad(waiting > 0));
    figure("req/s ", per_second(rates.requests), "", plain);
    figure("ref/s ", per_second(rates.refused), "", bad(rates.refused > 0.0));
    figure("freed/s ", per_second(rates.freed), "", plain);
    Line::from(spans)
}

fn keys(look: &Look<'_>) -> Line<'static> {
    let Look { model, theme } = look;
    let arrows = if theme.unicode { "↑↓" } else { "j k" };
    let mut keys = vec![
        ("q", "quit".to_string()),
        (arrows, "region".to_string()),
        ("a", if model.all { "one" } else { "all" }.to_string()),
        ("s", format!("sort: {}", model.order.name())),
        ("g", format!("by {}", model.group.name())),
    ];
    if model.paused {
        keys.extend([("space", "go on".to_string()), ("n", "step".to_string())]);
    } else {
        keys.extend([("space", "pause".to_string()), ("+ -", "pace".to_string())]);
    }
    let spans = keys.into_iter().flat_map(|(key, what)| {
        [Span::styled(key.to_string(), theme.head()), Span::raw(format!(" {what}  "))]
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// A line of cells: each text in its width, with a blank between.
fn row(cells: &[(String, usize, Style)], more: char) -> Line<'static> {
    let mut spans = Vec::new();
    for (text, width, style) in cells {
        spans.push(Span::styled(left(text, *width, more), *style));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests;

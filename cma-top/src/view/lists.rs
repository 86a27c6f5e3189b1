//! Owners, requests that wait, and the last refusals.

use super::{Look, row};
use crate::owners::{Group, Owner, owners as all_owners};
use crate::units::{self, right};
use cma_running::{FailureState, RegionState, WaiterState};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

/// The regions that the lists are about.
fn of(look: &Look<'_>) -> String {
    let model = look.model;
    match model.in_detail() {
        _ if model.all => "all regions".to_string(),
        [region, ..] => region.to_string(),
        [] => "no region".to_string(),
    }
}

/// Draws `head` and `lines`, as many as fit. The head says how many do not.
fn list(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect, head: &str, lines: Vec<Line<'_>>) {
    let hidden = lines.len().saturating_sub(usize::from(area.height) - 1);
    let head = if hidden > 0 { format!("{head}, {hidden} more") } else { head.to_string() };
    frame.render_widget(look.head(&head, area.width), Rect { height: 1, ..area });
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

/// Whether a request waits for a region that the lists are about.
pub(super) fn has_waiters(look: &Look<'_>) -> bool {
    let mut books = look.model.in_detail().iter().filter_map(|region| region.books.as_ref());
    books.any(|books| !books.waiters.is_empty())
}

pub(super) fn owners(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Look { model, theme } = look;
    let more = theme.more();
    let owners = all_owners(model.in_detail().iter(), model.group, model.order);
    let whole: u64 = owners.iter().map(|owner| owner.bytes).sum();
    let width = usize::from(area.width);
    // Bytes, share, chunks and age, with a blank behind each.
    let figures = 7 + 5 + 7 + 6;
    let name = ((width - figures - 2) * 3 / 5).min(40);
    let other = width - figures - name - 1;
    let line = |owner: &Owner| {
        let style = match model.group {
            Group::Device => theme.owner(model.colour(&owner.name)),
            Group::Process => Style::new(),
        };
        let plain = Style::new();
        row(
            &[
                (right(&units::size(owner.bytes), 6, more), 6, plain),
                (right(&units::percent(owner.bytes, whole), 4, more), 4, plain),
                (right(&owner.chunks.to_string(), 6, more), 6, plain),
                (right(&owner.oldest.map_or("-".to_string(), units::time), 5, more), 5, plain),
                (owner.name.clone(), name, style),
                (owner.other.clone(), other, plain),
            ],
            more,
        )
    };
    let head = format!(" bytes    % chunks   age {} in {}", model.group.name(), of(look));
    let lines = owners.iter().map(line).collect();
    list(look, frame, area, &head, lines);
}

pub(super) fn waiters(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect) {
    let more = look.theme.more();
    let plain = Style::new();
    let width = usize::from(area.width);
    let name = (width - 14) * 3 / 5;
    let line = |waiter: &WaiterState| {
        let process = waiter
            .process
            .as_ref()
            .map_or("-".to_string(), |process| format!("{}[{}]", process.name, process.pid));
        row(
            &[
                (right(&units::time(waiter.waited), 5, more), 5, plain),
                (right(&units::size(waiter.request.size.0), 6, more), 6, plain),
                (requester(waiter.requester.as_ref()), name, plain),
                (process, width - 14 - name - 1, plain),
            ],
            more,
        )
    };
    let waiters = look.model.in_detail().iter().flat_map(|region| &region.books);
    let lines: Vec<_> = waiters.flat_map(|books| &books.waiters).map(line).collect();
    let head = format!(" time  bytes waiting for {}", of(look));
    list(look, frame, area, &head, lines);
}

pub(super) fn refusals(look: &Look<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Look { model, theme } = look;
    let more = theme.more();
    let plain = Style::new();
    let width = usize::from(area.width);
    let of_region = |region| move |failure| (region, failure);
    let mut refusals: Vec<(&RegionState, &FailureState)> = model
        .in_detail()
        .iter()
        .flat_map(|region| {
            let books = region.books.iter();
            books.flat_map(|books| books.failures.iter().rev()).map(of_region(region))
        })
        .collect();
    refusals.sort_by_key(|(_, failure)| failure.age);
    let line = |(region, failure): &(&RegionState, &FailureState)| {
        let region_width = if model.all { 10 } else { 0 };
        let name = (width / 5).min(30);
        let mut cells = vec![
            (right(&units::time(failure.age), 5, more), 5, plain),
            (right(&units::size(failure.request.size.0), 6, more), 6, plain),
            (requester(failure.requester.as_ref()), name, plain),
        ];
        let mut used = 5 + 6 + name + 3;
        if model.all {
            cells.push((region.to_string(), region_width, plain));
            used += region_width + 1;
        }
        cells.push((failure.reason.clone() + &asked_for(failure), width - used, plain));
        row(&cells, more)
    };
    let lines: Vec<_> = refusals.iter().map(line).collect();
    let head = format!("  age  bytes last refusals in {}", of(look));
    // The newest first: those that do not fit are the oldest.
    list(look, frame, area, &head, lines);
}

/// Device and type.
fn requester(requester: Option<&cma_running::Requester>) -> String {
    requester.map_or("-".to_string(), ToString::to_string)
}

/// The alignment of a refused request, if it is more than a page, and its limits.
fn asked_for(failure: &FailureState) -> String {
    let request = &failure.request;
    let aligned = match request.alignment.0 {
        0..=4096 => String::new(),
        alignment => format!("; aligned {}", units::size(alignment)),
    };
    // The text of a request is its size and alignment, and its limits behind blanks.
    match request.to_string().split_once(' ') {
        Some((_, limits)) => format!("{aligned}; {limits}"),
        None => aligned,
    }
}

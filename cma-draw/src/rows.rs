//! The picture of regions at one moment: addresses in rows, as lines of a text.

use crate::colour::Colour;
use crate::devices::DeviceColours;
use crate::geometry::{Rect, Scale};
use crate::layout::{Layout, Placed};
use crate::page::Page;
use crate::scene::{Anchor, ChunkMap, Item, Scene};
use crate::style::{SizeError, Style};
use crate::text;
use crate::words::free_in_words;
use cma_framework::PageRange;

/// Regions at one moment, a panel for each of `layouts`. Rows of one width divide a region, from
/// its lowest address at the upper left; chunks have the colours of their devices, and chunks and
/// free ranges that are wide enough their names and sizes.
///
/// Regions of one size are on one scale. `title` stands at the top.
///
/// # Errors
///
/// [`SizeError::Panels`].
pub fn rows(layouts: &[Layout], title: &str, style: &Style) -> Result<Scene, SizeError> {
    let below = "Addresses from the start of the region, row by row from the upper left.";
    let mut page = Page::new(style, title, below);
    let weights = layouts.iter().flat_map(|layout| {
        layout.devices().into_iter().map(|(device, _, bytes)| (device, u128::from(bytes)))
    });
    let devices = DeviceColours::by_weight(weights);
    page.legend(devices.legend().chain([(free(&page), "free".to_string())]));
    let panels = layouts.len().max(1) as f64;
    let left = f64::from(page.scene.height) - page.y - 4.0;
    let each = left / panels;
    let least = LEAST_ROW + (CAPTION_LINES + 2) as f64 * page.line();
    if each < least {
        let least_height = (page.y + 4.0 + panels * least).ceil() as u32;
        return Err(SizeError::Panels { panels: layouts.len(), least_height });
    }
    let top = page.y;
    for (index, layout) in layouts.iter().enumerate() {
        let above = index as f64;
        page.y = top + above * each;
        panel(&mut page, layout, &devices, top + (above + 1.0) * each);
    }
    Ok(page.scene)
}

/// The least height of a row.
const LEAST_ROW: f64 = 16.0;

/// The height of a row that is usual, with the space below it.
const USUAL_ROW: f64 = 30.0;

/// The space below a row.
const GAP: f64 = 4.0;

/// The most lines of text below a panel's title.
const CAPTION_LINES: usize = 3;

/// The colour of free ranges.
fn free(page: &Page) -> Colour {
    page.theme.alarm().over(page.theme.paper(), 0.2)
}

/// A row: a part of the region, and where it is drawn.
struct Row {
    part: PageRange,
    rect: Rect,
}

impl Row {
    /// Where the part of `range` that is in this row is drawn.
    fn place(&self, range: PageRange) -> Option<Rect> {
        let part = range.common(self.part)?;
        let Rect { x, y, height, .. } = self.rect;
        let scale = Scale {
            start: self.part.start().get(),
            span: self.part.bytes(),
            from: x,
            to: self.rect.right(),
        };
        let left = scale.place(part.start().get());
        // The end of the address space is no address.
        let right = x + (left - x) + self.rect.width * share(part.bytes(), self.part.bytes());
        Some(Rect::new(left, y, right.min(self.rect.right()) - left, height))
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn panel(page: &mut Page, layout: &Layout, devices: &DeviceColours, bottom: f64) {
    let (ink, letters) = (page.theme.ink(), page.letters);
    page.y += 4.0;
    page.paragraph(&text::plain(&layout.heading()), letters + 1.5, ink, 1);
    let mut words = free_in_words(layout);
    if let Some(request) = layout.request() {
        let bytes = text::bytes(request.bytes);
        words = format!("Refused: {bytes} for {}. {words}", request.requester);
    }
    page.paragraph(&text::plain(&words), letters, page.theme.pale_ink(), CAPTION_LINES);
    page.y += 6.0;
    let rows = divided(page, layout, bottom);
    let holes = layout.holes();
    for (index, row) in rows.iter().enumerate() {
        page.scene.rect(row.rect, free(page));
        let chunks: Vec<(&Placed, Rect)> = in_row(layout.chunks(), row, |chunk| chunk.range)
            .filter_map(|chunk| row.place(chunk.range).map(|rect| (chunk, rect)))
            .collect();
        let drawn = chunks.iter().map(|(chunk, rect)| (*rect, devices.colour(&chunk.device)));
        let label = |index: usize| {
            let (chunk, _) = chunks[index];
            text::plain(&format!("{}: {}", text::bytes(chunk.range.bytes()), chunk.detail))
        };
        let map = ChunkMap::new(row.rect).with(drawn, label);
        page.scene.items.push(Item::Chunks(Box::new(map)));
        page.scene.frame(&row.rect, page.theme.pale_ink());
        for (chunk, rect) in &chunks {
            if is_widest(&rows, index, chunk.range, rect) {
                let colour = devices.colour(&chunk.device).ink();
                let size = text::bytes(chunk.range.bytes());
                let long = format!("{} {size}", text::plain(&chunk.device));
                label_in(page, rect, colour, &[&long, &size]);
            }
        }
        for hole in in_row(&holes, row, |hole| *hole) {
            let Some(rect) = row.place(*hole) else { continue };
            if is_widest(&rows, index, *hole, &rect) {
                let size = text::bytes(hole.bytes());
                let long = format!("free {size}");
                label_in(page, &rect, page.theme.alarm(), &[&long, &size]);
            }
        }
        let offset = row.part.start().get() - layout.range().start().get();
        let at = (row.rect.x - 6.0, row.rect.y + row.rect.height / 2.0 + letters * 0.35);
        let pale = page.theme.pale_ink();
        page.scene.text(at, Anchor::End, letters, pale, text::bytes(offset));
    }
}

/// The chunks or holes of a row, from all, which ascend.
fn in_row<'l, T>(
    all: &'l [T],
    row: &Row,
    range: impl Fn(&T) -> PageRange,
) -> impl Iterator<Item = &'l T> {
    let first = all.partition_point(|it| range(it).end_page() <= row.part.first_page());
    let end = row.part.end_page();
    all[first..].iter().take_while(move |it| range(it).first_page() < end)
}

/// The rows of a region, in the space that is left.
fn divided(page: &Page, layout: &Layout, bottom: f64) -> Vec<Row> {
    let label = text::width("888 MiB", page.letters) + 8.0;
    let (x, width) = (page.left() + label, page.right() - page.left() - label);
    let space = bottom - page.y - 4.0;
    let pages = layout.range().pages().get();
    let count = (space / (USUAL_ROW + GAP)).floor().max(1.0) as u64;
    let each = round_pages(pages.div_ceil(count));
    let count = pages.div_ceil(each);
    let height = ((space / count as f64) - GAP).clamp(4.0, 64.0).floor();
    let first = layout.range().first_page();
    (0..count)
        .map(|row| {
            let part = PageRange::from_pages(first + row * each, each.min(pages - row * each));
            let y = (page.y + row as f64 * (height + GAP)).floor();
            // The last row may be shorter.
            let width = (width * share(part.bytes(), each * 4096)).max(1.0);
            Row { part, rect: Rect::new(x.floor(), y, width.floor(), height) }
        })
        .collect()
}

/// The least of 1, 2, 3, 4, 6, 8, 12 and so on that is `pages` or more, so that the addresses of
/// rows are round. No region has so many pages that there is none.
fn round_pages(pages: u64) -> u64 {
    let above = pages.next_power_of_two();
    let between = above / 4 * 3;
    if between >= pages { between } else { above }
}

/// Whether no other row has a wider part of `range`, and no earlier one an equally wide one.
fn is_widest(rows: &[Row], index: usize, range: PageRange, rect: &Rect) -> bool {
    let width = |row: &Row| row.place(range).map_or(0.0, |rect| rect.width);
    let before = index.checked_sub(1).is_none_or(|it| width(&rows[it]) < rect.width - 0.5);
    let after = rows.get(index + 1).is_none_or(|row| width(row) <= rect.width + 0.5);
    before && after
}

/// The first of `texts` that fits into `rect`, in its middle.
fn label_in(page: &mut Page, rect: &Rect, colour: Colour, texts: &[&str]) {
    let size = page.letters.min(rect.height - 2.0);
    if size < 8.0 {
        return;
    }
    let fits = |it: &&&str| text::width(it, size) + 6.0 <= rect.width;
    if let Some(words) = texts.iter().find(fits) {
        let at = (rect.x + rect.width / 2.0, rect.y + rect.height / 2.0 + size * 0.35);
        page.scene.text(at, Anchor::Middle, size, colour, *words);
    }
}

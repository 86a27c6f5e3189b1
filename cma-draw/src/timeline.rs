//! The picture of addresses over time.

use crate::colour::Colour;
use crate::curve::{Curve, between};
use crate::devices::DeviceColours;
use crate::geometry::{Rect, Scale, byte_steps, decimal_steps, time_steps};
use crate::history::{History, Life};
use crate::layout::Layout;
use crate::page::{MARGIN, Page};
use crate::scene::{Anchor, ChunkMap, Item, Scene};
use crate::style::{Axis, SizeError, Style};
use crate::text;
use crate::words::{described, summary};
use cma_framework::PageRange;
use cma_trace::Trace;

mod moment;

/// Addresses over time: a panel for each of `histories`, which are of one trace and one region, all
/// on the same scales.
///
/// In a panel each chunk is a rectangle in the colour of its device. Above it are marks where
/// requests were refused. Below it are live bytes, free bytes and the largest free range. A dashed
/// line is at the moment that shows most ([`History::telling_moment`]), with the free ranges of
/// that moment on it. Beside the panel that moment is a strip, with the sizes of free ranges and,
/// where a request was refused, the size of that.
///
/// # Errors
///
/// [`SizeError::Panels`].
pub fn timeline(histories: &[History<'_>], style: &Style) -> Result<Scene, SizeError> {
    let Some(first) = histories.first() else {
        return Ok(Page::new(style, "no allocator", "").scene);
    };
    let trace = first.trace();
    let source = if trace.source().is_empty() { "a trace" } else { trace.source() };
    let figures = trace.figures();
    let below = format!(
        "{} in {}, at most {} live; addresses from the start of a region of {}, over {}",
        text::counted(trace.operations().len(), "operation"),
        text::time(duration(trace)),
        text::bytes(figures.peak_live_bytes),
        text::bytes(first.range().bytes()),
        match style.axis {
            Axis::Time => "time",
            Axis::Operations => "operations",
        },
    );
    let mut page = Page::new(style, source, &below);
    let devices = DeviceColours::of_trace(trace);
    let marks =
        [(page.theme.alarm(), "refused requests, free ranges at the dashed line".to_string())];
    page.legend(devices.legend().chain(marks));
    let frames = frames(&page, histories)?;
    for (history, frame) in histories.iter().zip(frames) {
        page.y = frame.y;
        Panel::new(&mut page, history, &devices, style.axis, frame).draw();
    }
    Ok(page.scene)
}

/// The least height of map and curves of a panel.
const LEAST_PLOTS: f64 = 130.0;

/// The space between map and curves, in which the labels at their ends are apart.
const BETWEEN_PLOTS: f64 = 14.0;

/// The most lines of text above a panel.
const CAPTION_LINES: usize = 5;

/// The places of the panels in what is left of the page.
fn frames(page: &Page, histories: &[History<'_>]) -> Result<Vec<Rect>, SizeError> {
    let (panels, lines) = (histories.len() as f64, (CAPTION_LINES + 3) as f64);
    let left = f64::from(page.scene.height) - page.y - 4.0;
    let each = left / panels;
    let least = LEAST_PLOTS + lines * page.line();
    if each < least {
        let least_height = (page.y + 4.0 + panels * least).ceil() as u32;
        return Err(SizeError::Panels { panels: histories.len(), least_height });
    }
    let width = page.right() - page.left();
    let frame = |y| Rect::new(page.left(), y, width, each);
    Ok(std::iter::successors(Some(page.y), |y| Some(y + each))
        .take(histories.len())
        .map(frame)
        .collect())
}

/// The recorded time from the first to the last operation, in microseconds.
fn duration(trace: &Trace) -> u64 {
    match trace.operations() {
        [first, .., last] => last.time_us - first.time_us,
        _ => 0,
    }
}

struct Panel<'p, 't> {
    page: &'p mut Page,
    history: &'p History<'t>,
    devices: &'p DeviceColours,
    axis: Axis,
    frame: Rect,
}

/// The places of a panel's parts.
struct Places {
    /// The marks of refused requests.
    lane: Rect,
    map: Rect,
    strip: Rect,
    curves: Rect,
}

impl<'p, 't> Panel<'p, 't> {
    fn new(
        page: &'p mut Page,
        history: &'p History<'t>,
        devices: &'p DeviceColours,
        axis: Axis,
        frame: Rect,
    ) -> Self {
        Panel { page, history, devices, axis, frame }
    }

    fn draw(mut self) {
        let moment = self.history.telling_moment();
        let layout = moment.map(|operation| self.history.layout_at(operation));
        self.caption(moment, layout.as_ref());
        let places = self.places();
        let time = self.time(&places.map);
        let address = self.address(&places.map);
        let ink = self.page.theme.pale_ink();
        self.page.scene.rect(places.map, self.page.theme.free());
        self.chunks(&places.map, &time, &address);
        self.refused(&places.lane, &time);
        self.curves(&places.curves, &time);
        if let (Some(operation), Some(layout)) = (moment, &layout) {
            let x = time.place(self.position(operation));
            self.at_moment(&places, x, layout, &address);
            self.strip(&places.strip, operation, layout, &address);
        }
        for plot in [places.map, places.curves] {
            self.page.scene.frame(&plot, ink);
        }
        self.address_labels(&places.map, &address);
        self.time_labels(&places, &time);
    }

    /// The allocator with its figures, and the moment in words.
    fn caption(&mut self, moment: Option<usize>, layout: Option<&Layout>) {
        let (ink, letters) = (self.page.theme.ink(), self.page.letters);
        self.page.y += 4.0;
        self.page.paragraph(&summary(self.history), letters + 1.5, ink, 1);
        if let (Some(operation), Some(layout)) = (moment, layout) {
            let words = described(self.history, operation, layout);
            let pale = self.page.theme.pale_ink();
            self.page.paragraph(&text::plain(&words), letters, pale, CAPTION_LINES - 1);
        }
    }

    fn places(&self) -> Places {
        let letters = self.page.letters;
        let label = text::width("888 MiB", letters);
        let left = self.frame.x + label + 8.0;
        let strip_width = (self.frame.width * 0.05).clamp(22.0, 64.0);
        let beside = (strip_width + 14.0 + label).max(text::width("largest free", letters) + 16.0);
        let right = self.frame.right() - beside - 12.0;
        let (top, bottom) = (self.page.y + 6.0, self.frame.bottom() - self.page.line() - 8.0);
        let lane_height = 9.0;
        let plots = bottom - top - lane_height - 2.0 - BETWEEN_PLOTS;
        let (map_height, curves_height) = ((plots * 0.7).floor(), (plots * 0.3).floor());
        let left = left.ceil();
        let width = (right - left).floor();
        let map_top = (top + lane_height + 2.0).ceil();
        let map = Rect::new(left, map_top, width, map_height);
        Places {
            lane: Rect::new(left, map_top - 2.0 - lane_height, width, lane_height),
            map,
            strip: Rect::new(map.right() + 12.0, map_top, strip_width.floor(), map_height),
            curves: Rect::new(left, map.bottom() + BETWEEN_PLOTS, width, curves_height),
        }
    }

    /// The axis of time. It goes on a little after the last operation, so that what that allocated
    /// can be seen.
    fn time(&self, map: &Rect) -> Scale {
        let trace = self.history.trace();
        let (start, span) = match self.axis {
            Axis::Time => {
                let duration = duration(trace);
                let start = trace.operations().first().map_or(0, |first| first.time_us);
                (start, duration.saturating_add((duration / 100).max(1)))
            }
            Axis::Operations => (0, trace.operations().len() as u64),
        };
        Scale { start, span: span.max(1), from: map.x, to: map.right() }
    }

    fn address(&self, map: &Rect) -> Scale {
        let span = self.history.range().bytes();
        Scale { start: 0, span, from: map.bottom(), to: map.y }
    }

    /// The place of an operation on the axis of time.
    fn position(&self, operation: usize) -> u64 {
        match self.axis {
            Axis::Time => self.history.trace().operations()[operation].time_us,
            Axis::Operations => operation as u64,
        }
    }

    fn chunks(&mut self, map: &Rect, time: &Scale, address: &Scale) {
        let history = self.history;
        let requesters = history.trace().requesters();
        let colours: Vec<Colour> =
            requesters.iter().map(|it| self.devices.colour(&it.device)).collect();
        let rect = |life: &Life| {
            let until = life.until.map(|until| self.position(until));
            let (x, right) =
                (time.place(self.position(life.from)), until.map_or(time.to, |it| time.place(it)));
            let (low, high) = ends(life.range, history.range(), address);
            let rect = Rect::new(x, high, right - x, low - high);
            (rect, colours[usize::from(life.requester)])
        };
        let label = |index: usize| {
            let life = &history.chunks()[index];
            let start = life.range.start().get() - history.range().start().get();
            let from = history.trace().operations()[life.from].time_us;
            let until = match life.until {
                Some(until) => text::time(history.trace().operations()[until].time_us),
                None => "the end".to_string(),
            };
            text::plain(&format!(
                "{}: {} at {} from the start, {} to {until}",
                requesters[usize::from(life.requester)],
                text::bytes(life.range.bytes()),
                text::bytes(start),
                text::time(from),
            ))
        };
        let map = ChunkMap::new(*map).with(history.chunks().iter().map(rect), label);
        self.page.scene.items.push(Item::Chunks(Box::new(map)));
    }

    /// Marks where requests were refused, side by side or as one.
    fn refused(&mut self, lane: &Rect, time: &Scale) {
        const MARK: f64 = 2.0;
        let alarm = self.page.theme.alarm();
        let mut marks: Vec<(f64, f64)> = Vec::new();
        for operation in self.history.refused() {
            let x = time.place(self.position(*operation)).min(lane.right() - MARK);
            match marks.last_mut() {
                Some((_, end)) if x < *end + 1.0 => *end = end.max(x + MARK),
                _ => marks.push((x, x + MARK)),
            }
        }
        for (x, end) in marks {
            self.page.scene.rect(Rect::new(x, lane.y, end - x, lane.height), alarm);
        }
    }

    fn curves(&mut self, plot: &Rect, time: &Scale) {
        let theme = self.page.theme;
        let region = self.history.range().bytes();
        let bytes = Scale { start: 0, span: region, from: plot.bottom(), to: plot.y };
        self.page.scene.rect(*plot, theme.free());
        let levels = self.history.levels();
        let at = |index: usize| self.position(index);
        let curve = |value: &dyn Fn(usize) -> u64, before: u64| {
            Curve::new((0..levels.len()).map(|i| (time.place(at(i)), value(i))), before, time)
        };
        let live = curve(&|i| region - levels[i].free_bytes, 0);
        let free = curve(&|i| levels[i].free_bytes, region);
        let largest = curve(&|i| levels[i].largest_free_bytes, region);
        let shade = theme.alarm().over(theme.free(), 0.25);
        self.page
            .scene
            .items
            .push(Item::Area { points: between(&free, &largest, &bytes), fill: shade });
        // The most important one is drawn last, over the others.
        let drawn = [
            (&live, theme.ink(), "live"),
            (&free, theme.pale_ink(), "free"),
            (&largest, theme.alarm(), "largest free"),
        ];
        let (size, line) = (self.page.letters, self.page.line());
        let (x, mut y) = (plot.right() + 12.0, plot.y + size);
        let mut entry = |page: &mut Page, height: f64, colour: Colour, ink: Colour, name| {
            page.scene.rect(Rect::new(x, y - size * 0.35 - height / 2.0, 10.0, height), colour);
            page.scene.text((x + 15.0, y), Anchor::Start, size, ink, name);
            y += line;
        };
        for (curve, colour, name) in drawn {
            let points = curve.points(&bytes);
            self.page.scene.items.push(Item::Line { points, colour, width: 1.2, dashed: false });
            entry(self.page, 2.0, colour, colour, name);
        }
        entry(self.page, size * 0.8, shade, theme.pale_ink(), "other free");
        self.byte_labels(plot, &bytes, line * 1.2);
    }

    fn address_labels(&mut self, map: &Rect, address: &Scale) {
        let apart = (self.page.line() * 1.6).max(30.0);
        self.byte_labels(map, address, apart);
    }

    fn byte_labels(&mut self, plot: &Rect, bytes: &Scale, apart: f64) {
        let (size, ink) = (self.page.letters, self.page.theme.pale_ink());
        let step = bytes.step(|_| apart, byte_steps());
        for value in bytes.ticks(step) {
            let y = bytes.place(value);
            self.page.scene.line(&[(plot.x - 4.0, y), (plot.x, y)], ink);
            let at = (plot.x - 7.0, y + size * 0.35);
            self.page.scene.text(at, Anchor::End, size, ink, text::byte_label(value, step));
        }
    }

    fn time_labels(&mut self, places: &Places, time: &Scale) {
        let (size, ink) = (self.page.letters, self.page.theme.pale_ink());
        let end = time.start.saturating_add(time.span);
        let label = |value, step| match self.axis {
            Axis::Time => text::time_label(value, step, end),
            Axis::Operations => text::grouped(value),
        };
        let needed = |step| text::width(&label(end, step), size) + 14.0;
        let step = match self.axis {
            Axis::Time => time.step(needed, time_steps()),
            Axis::Operations => time.step(needed, decimal_steps()),
        };
        let bottom = places.curves.bottom();
        for value in time.ticks(step) {
            let x = time.place(value);
            self.page.scene.line(&[(x, bottom), (x, bottom + 4.0)], ink);
            self.page.scene.line(&[(x, places.map.bottom()), (x, places.map.bottom() + 4.0)], ink);
            let at = (x, bottom + 4.0 + size);
            self.page.scene.text(at, Anchor::Middle, size, ink, label(value, step));
        }
        let name = match self.axis {
            Axis::Time => "time",
            Axis::Operations => "operation",
        };
        let beside = text::width(&label(end, step), size) / 2.0 + 8.0;
        let at = (places.map.right() + beside.max(12.0 + MARGIN), bottom + 4.0 + size);
        self.page.scene.text(at, Anchor::Start, size, ink, name);
        if !self.history.refused().is_empty() {
            // Above a label of the map's upper end.
            let at = (places.lane.x - 7.0, places.lane.bottom() - 5.0);
            self.page.scene.text(at, Anchor::End, size, self.page.theme.alarm(), "refused");
        }
    }
}

/// The lower and the upper end of `range` on the axis.
fn ends(range: PageRange, region: PageRange, address: &Scale) -> (f64, f64) {
    let start = range.start().get() - region.start().get();
    (address.place(start), address.place(start + range.bytes()))
}

//! The telling moment of a panel: a line in its plots, and the region beside them.

use super::{Panel, Places, ends};
use crate::geometry::{Rect, Scale};
use crate::layout::Layout;
use crate::scene::{Anchor, ChunkMap, Item};
use crate::text;

impl Panel<'_, '_> {
    /// The telling moment in the plots: a dashed line, and on it the free ranges.
    pub(super) fn at_moment(&mut self, places: &Places, x: f64, layout: &Layout, address: &Scale) {
        let alarm = self.page.theme.alarm();
        for plot in [&places.map, &places.curves] {
            self.page.scene.items.push(Item::Line {
                points: vec![(x, plot.y), (x, plot.bottom())],
                colour: alarm,
                width: 1.2,
                dashed: true,
            });
        }
        let left = (x - 1.5).clamp(places.map.x, places.map.right() - 3.0);
        for (low, high) in joined(layout, address) {
            self.page.scene.rect(Rect::new(left, high, 3.0, low - high), alarm);
        }
    }

    /// The region at the telling moment, beside the map on the same scale.
    pub(super) fn strip(
        &mut self,
        strip: &Rect,
        operation: usize,
        layout: &Layout,
        address: &Scale,
    ) {
        let theme = self.page.theme;
        let alarm = theme.alarm();
        self.page.scene.rect(*strip, alarm.over(theme.paper(), 0.22));
        let chunks = layout.chunks().iter().map(|chunk| {
            let (low, high) = ends(chunk.range, layout.range(), address);
            let rect = Rect::new(strip.x, high, strip.width, low - high);
            (rect, self.devices.colour(&chunk.device))
        });
        let label = |index: usize| {
            let chunk = &layout.chunks()[index];
            text::plain(&format!("{}: {}", text::bytes(chunk.range.bytes()), chunk.detail))
        };
        let map = ChunkMap::new(*strip).with(chunks, label);
        self.page.scene.items.push(Item::Chunks(Box::new(map)));
        self.page.scene.frame(strip, alarm);
        let (at, size) = ((strip.x, strip.y - 5.0), self.page.letters);
        let time = text::time(self.history.trace().operations()[operation].time_us);
        let room = self.frame.right() - strip.x;
        let heading = text::fitted(&format!("at {time}"), size, room);
        self.page.scene.text(at, Anchor::Start, size, alarm, heading);
        let mut labels = strip.right() + 4.0;
        if let (Some(request), Some(hole)) = (layout.request(), layout.largest_hole()) {
            let from = address.place(hole.start().get() - layout.range().start().get());
            let height = address.place(0) - address.place(request.bytes);
            // Inside the strip: the request may be larger than all that is above the hole.
            let y = (from - height).max(strip.y);
            let bar = Rect::new(strip.right() + 3.0, y, 4.0, height.max(1.0));
            self.page.scene.rect(bar, alarm);
            labels += 6.0;
        }
        self.hole_labels(labels, layout, address);
    }

    /// The sizes of free ranges beside the strip, the largest first, as far as there is room.
    fn hole_labels(&mut self, x: f64, layout: &Layout, address: &Scale) {
        let (size, line) = (self.page.letters, self.page.line());
        let mut holes = layout.holes();
        holes.sort_by_key(|hole| (std::cmp::Reverse(hole.pages()), hole.first_page()));
        let mut taken: Vec<f64> = Vec::new();
        // There is no room for more in any picture.
        for hole in holes.into_iter().take(200) {
            let (low, high) = ends(hole, layout.range(), address);
            let y = f64::midpoint(low, high);
            if taken.iter().all(|other| (other - y).abs() >= line) {
                taken.push(y);
                let at = (x, (y + size * 0.35).max(address.to + size * 0.8));
                let alarm = self.page.theme.alarm();
                self.page.scene.text(at, Anchor::Start, size, alarm, text::bytes(hole.bytes()));
            }
        }
    }
}

/// The free ranges of `layout` on the axis. Those that are less than half a pixel apart are one, so
/// their number is bounded.
fn joined(layout: &Layout, address: &Scale) -> Vec<(f64, f64)> {
    let mut joined: Vec<(f64, f64)> = Vec::new();
    for hole in layout.holes() {
        let (low, high) = ends(hole, layout.range(), address);
        match joined.last_mut() {
            Some((_, last)) if *last - low < 0.5 => *last = high,
            _ if low - high >= 0.5 => joined.push((low, high)),
            _ => {}
        }
    }
    joined
}

//! A picture as a list of shapes, before it has a format.

use crate::colour::Colour;
use crate::geometry::Rect;
use crate::raster::Raster;

/// A picture: what is drawn, in this order, on a background.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// What the picture shows, in a line.
    pub title: String,
    /// The colour of the background.
    pub paper: Colour,
    /// The shapes; later ones cover earlier ones.
    pub items: Vec<Item>,
}

/// A shape.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A filled rectangle.
    Rect {
        /// Its place.
        rect: Rect,
        /// Its colour.
        fill: Colour,
    },
    /// A line through points.
    Line {
        /// The points, x and y in pixels.
        points: Vec<(f64, f64)>,
        /// Its colour.
        colour: Colour,
        /// Its width in pixels.
        width: f64,
        /// Whether it is dashed.
        dashed: bool,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<(f64, f64)>,
        /// Its colour.
        fill: Colour,
    },
    /// A line of text.
    Text {
        /// The place of its anchor on its base line.
        at: (f64, f64),
        /// What the place is of the text.
        anchor: Anchor,
        /// The height of the letters' box in pixels.
        size: f64,
        /// Its colour.
        colour: Colour,
        /// The text.
        text: String,
    },
    /// Chunks.
    Chunks(Box<ChunkMap>),
}

/// Which part of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// Chunks in a rectangle. Each is either one of [`chunks`](Self::chunks) or added up in
/// [`merged`](Self::merged).
#[derive(Clone, Debug)]
pub struct ChunkMap {
    /// The rectangle.
    pub area: Rect,
    /// Chunks that are a pixel and more in both directions, at most [`MOST_CHUNKS`].
    pub chunks: Vec<DrawnChunk>,
    /// All others. The grid covers the rectangle.
    pub merged: Raster,
}

/// A chunk as a rectangle.
#[derive(Clone, Debug)]
pub struct DrawnChunk {
    /// Its place in the picture.
    pub rect: Rect,
    /// Its colour.
    pub colour: Colour,
    /// What it is, for those that are large enough to point at.
    pub label: Option<String>,
}

/// The most chunks of a map that are rectangles of their own. The largest are; this bounds a file's
/// size.
pub const MOST_CHUNKS: usize = 12_000;

/// The least width and height in pixels of a chunk that has a label, and an outline.
const LEAST_OUTLINED: f64 = 4.0;

/// The most chunks of a map that have labels.
const MOST_LABELS: usize = 1_500;

impl ChunkMap {
    /// An empty map of the pixels of `area`.
    pub(crate) fn new(area: Rect) -> ChunkMap {
        let cells = |length: f64| length.round().max(1.0) as usize;
        let merged = Raster::new(cells(area.width), cells(area.height));
        ChunkMap { area, chunks: Vec::new(), merged }
    }

    /// Adds chunks. `label` describes a chunk by its index in `chunks`.
    pub(crate) fn with(
        mut self,
        chunks: impl IntoIterator<Item = (Rect, Colour)>,
        label: impl Fn(usize) -> String,
    ) -> ChunkMap {
        let mut large = Vec::new();
        for (index, (rect, colour)) in chunks.into_iter().enumerate() {
            if rect.width >= 1.0 && rect.height >= 1.0 {
                large.push((index, rect, colour));
            } else {
                self.merge(&rect, colour);
            }
        }
        large.sort_by(|(m, a, _), (n, b, _)| b.area().total_cmp(&a.area()).then(m.cmp(n)));
        for (index, rect, colour) in large {
            if self.chunks.len() == MOST_CHUNKS {
                self.merge(&rect, colour);
                continue;
            }
            let labelled = self.chunks.len() < MOST_LABELS && is_outlined(&rect);
            let label = labelled.then(|| label(index));
            self.chunks.push(DrawnChunk { rect, colour, label });
        }
        self
    }

    /// All chunks in one grid, exact to a part of a pixel.
    pub(crate) fn flat(&self) -> Raster {
        let mut all = self.merged.clone();
        for chunk in &self.chunks {
            all.add(&self.in_cells(&chunk.rect), chunk.colour);
        }
        all
    }

    /// The chunks that have outlines, so that neighbours of one colour can be told apart.
    pub(crate) fn outlined(&self) -> impl Iterator<Item = &DrawnChunk> {
        self.chunks.iter().filter(|chunk| is_outlined(&chunk.rect))
    }

    fn merge(&mut self, rect: &Rect, colour: Colour) {
        let cells = self.in_cells(rect);
        self.merged.add(&cells, colour);
    }

    fn in_cells(&self, rect: &Rect) -> Rect {
        let across = self.merged.columns() as f64 / self.area.width.max(f64::MIN_POSITIVE);
        let down = self.merged.rows() as f64 / self.area.height.max(f64::MIN_POSITIVE);
        Rect::new(
            (rect.x - self.area.x) * across,
            (rect.y - self.area.y) * down,
            rect.width * across,
            rect.height * down,
        )
    }
}

fn is_outlined(rect: &Rect) -> bool {
    rect.width >= LEAST_OUTLINED && rect.height >= LEAST_OUTLINED
}

impl Scene {
    pub(crate) fn rect(&mut self, rect: Rect, fill: Colour) {
        self.items.push(Item::Rect { rect, fill });
    }

    /// A line of one pixel.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], colour: Colour) {
        self.items.push(Item::Line { points: points.to_vec(), colour, width: 1.0, dashed: false });
    }

    /// The outline of a rectangle.
    pub(crate) fn frame(&mut self, rect: &Rect, colour: Colour) {
        let (x, y, right, bottom) = (rect.x, rect.y, rect.right(), rect.bottom());
        self.line(&[(x, y), (right, y), (right, bottom), (x, bottom), (x, y)], colour);
    }

    pub(crate) fn text(
        &mut self,
        at: (f64, f64),
        anchor: Anchor,
        size: f64,
        colour: Colour,
        text: impl Into<String>,
    ) {
        self.items.push(Item::Text { at, anchor, size, colour, text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_beyond_the_most_are_added_up_the_smallest_first() {
        let chunks = (0..2 * MOST_CHUNKS).map(|index| {
            let (x, y) = ((index % 200) as f64 * 2.0, (index / 200) as f64);
            let width = if index < MOST_CHUNKS { 1.0 } else { 2.0 };
            (Rect::new(x, y, width, 1.0), Colour::hex(0))
        });
        let map = ChunkMap::new(Rect::new(0.0, 0.0, 400.0, 120.0)).with(chunks, |_| String::new());
        assert_eq!(map.chunks.len(), MOST_CHUNKS);
        assert!(map.chunks.iter().all(|chunk| chunk.rect.width > 1.5));
        assert!((map.merged.covered() - MOST_CHUNKS as f64).abs() < 1.0);
    }
}

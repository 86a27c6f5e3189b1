//! Chunks that are smaller than a pixel, added up in cells.

use crate::colour::Colour;
use crate::geometry::Rect;

/// A grid of cells that holds, for each, how much of it chunks of which colour cover.
#[derive(Clone, Debug)]
pub struct Raster {
    columns: usize,
    cells: Vec<Cell>,
}

/// What chunks cover of a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The covered share: 1 is the whole cell.
    covered: f32,
    /// The colours of the covered share, weighted by it.
    colours: [f32; 3],
    /// For which share of the cell's width a chunk that is thinner than a row was there, or a
    /// larger number if there were several.
    thin: f32,
}

/// A cell is not painted if less of it is covered: that is an error of rounding.
const LEAST: f32 = 1e-6;

/// The least opacity of a cell through which a chunk passes that is thinner than a row. Such a
/// chunk would otherwise be invisible, and it may be what keeps two free ranges apart.
const LEAST_OPACITY: f32 = 0.5;

impl Raster {
    /// An empty grid.
    pub(crate) fn new(columns: usize, rows: usize) -> Raster {
        Raster { columns, cells: vec![Cell::default(); columns * rows] }
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The sum of the covered area, in cells.
    pub fn covered(&self) -> f64 {
        self.cells.iter().map(|cell| f64::from(cell.covered)).sum()
    }

    /// Adds a chunk. `chunk` is in cells, and what lies outside the grid is left out.
    pub(crate) fn add(&mut self, chunk: &Rect, colour: Colour) {
        let shares = [colour.red, colour.green, colour.blue].map(f32::from);
        let (columns, rows) = (self.columns, self.rows());
        let is_thin = chunk.height < 1.0;
        for (row, height) in covered(chunk.y, chunk.bottom(), rows) {
            for (column, width) in covered(chunk.x, chunk.right(), columns) {
                let cell = &mut self.cells[row * columns + column];
                let area = (height * width) as f32;
                cell.covered += area;
                for (sum, share) in cell.colours.iter_mut().zip(shares) {
                    *sum += area * share;
                }
                if is_thin {
                    let width = width as f32;
                    cell.thin += width;
                }
            }
        }
    }

    /// The pixels row by row, each as red, green, blue and opacity.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = [u8; 4]> + '_ {
        self.cells.iter().map(Cell::pixel)
    }

    /// Whether no cell is painted.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| cell.covered < LEAST)
    }
}

impl Cell {
    fn pixel(&self) -> [u8; 4] {
        if self.covered < LEAST {
            return [0; 4];
        }
        let opacity = self.covered.max(LEAST_OPACITY * self.thin.min(1.0)).min(1.0);
        let byte = |value: f32| value.round() as u8;
        let [red, green, blue] = self.colours.map(|sum| byte(sum / self.covered));
        [red, green, blue, byte(opacity * 255.0)]
    }
}

/// The cells between `from` and `to`, each with the covered share of its length.
fn covered(from: f64, to: f64, cells: usize) -> impl Iterator<Item = (usize, f64)> {
    let (from, to) = (from.max(0.0), to.min(cells as f64));
    let (first, end) = (from.floor() as usize, to.ceil().max(0.0) as usize);
    (first..end).map(move |cell| {
        let start = cell as f64;
        (cell, (to.min(start + 1.0) - from.max(start)).max(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_covered_cells_add_up_to_the_areas_of_the_chunks(
            chunks in proptest::collection::vec(
                (0.0..40.0, 0.0..20.0, 0.0..9.0, 0.0..9.0), 0..20,
            ),
        ) {
            let mut raster = Raster::new(50, 30);
            let mut areas = 0.0;
            for (x, y, width, height) in chunks {
                let chunk = Rect::new(x, y, width, height);
                raster.add(&chunk, Colour::hex(0x12_34_56));
                areas += chunk.area();
            }
            prop_assert!((raster.covered() - areas).abs() <= 1e-3 * areas.max(1.0));
        }
    }

    #[test]
    fn a_thin_chunk_can_be_seen_for_as_long_as_it_lives() {
        let mut raster = Raster::new(3, 1);
        raster.add(&Rect::new(1.0, 0.4, 1.0, 0.001), Colour::hex(0));
        raster.add(&Rect::new(2.0, 0.4, 0.01, 0.001), Colour::hex(0));
        let opacities: Vec<u8> = raster.pixels().map(|pixel| pixel[3]).collect();
        assert_eq!(opacities[0], 0);
        assert!(opacities[1] > 100, "{opacities:?}");
        assert!(opacities[2] < 10, "{opacities:?}");
    }
}

//! A scene as PNG: painted with tiny-skia, texts from the outlines of the embedded font.

use crate::colour::Colour;
use crate::geometry::Rect;
use crate::scene::{Anchor, ChunkMap, Item, Scene};
use crate::text;
use std::io::{self, Write};
use tiny_skia::{
    FillRule, Paint, Path, PathBuilder, Pixmap, PremultipliedColorU8, Stroke, StrokeDash, Transform,
};
use ttf_parser::OutlineBuilder;

/// Writes `scene` as PNG.
pub(crate) fn write(scene: &Scene, out: &mut dyn Write) -> io::Result<()> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "the picture has no pixels");
    let mut canvas = Pixmap::new(scene.width, scene.height).ok_or_else(too_large)?;
    let Colour { red, green, blue } = scene.paper;
    canvas.fill(tiny_skia::Color::from_rgba8(red, green, blue, u8::MAX));
    for item in &scene.items {
        paint(item, &mut canvas);
    }
    // The background is opaque, so every pixel is.
    let pixels: Vec<u8> =
        canvas.pixels().iter().flat_map(|it| [it.red(), it.green(), it.blue()]).collect();
    let mut encoder = png::Encoder::new(out, scene.width, scene.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}

/// Pixels of red, green, blue and opacity as PNG.
pub(crate) fn encoded(columns: usize, rows: usize, pixels: &[u8]) -> io::Result<Vec<u8>> {
    let side = |cells: usize| u32::try_from(cells).map_err(io::Error::other);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(columns)?, side(rows)?);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

fn paint(item: &Item, canvas: &mut Pixmap) {
    match item {
        Item::Rect { rect, fill } => fill_path(canvas, rect_path(rect), *fill),
        Item::Area { points, fill } => fill_path(canvas, points_path(points, true), *fill),
        Item::Line { points, colour, width, dashed } => {
            let dash = if *dashed { StrokeDash::new(vec![5.0, 4.0], 0.0) } else { None };
            stroke(canvas, points_path(points, false), *colour, *width as f32, dash);
        }
        Item::Text { at, anchor, size, colour, text } => {
            let before = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => text::width(text, *size) / 2.0,
                Anchor::End => text::width(text, *size),
            };
            fill_path(canvas, text_path(text, *size, (at.0 - before, at.1)), *colour);
        }
        Item::Chunks(map) => paint_chunks(map, canvas),
    }
}

/// All chunks as pixels, each as far as they cover it: neighbours have no gap between them. The
/// pixels of a map are those of the picture.
fn paint_chunks(map: &ChunkMap, canvas: &mut Pixmap) {
    let flat = map.flat();
    let (left, top) = (map.area.x.round() as usize, map.area.y.round() as usize);
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    for (index, [red, green, blue, opacity]) in flat.pixels().enumerate() {
        let (x, y) = (left + index % flat.columns(), top + index / flat.columns());
        if opacity == 0 || x >= width || y >= height {
            continue;
        }
        let pixel = &mut canvas.pixels_mut()[y * width + x];
        let below = Colour { red: pixel.red(), green: pixel.green(), blue: pixel.blue() };
        let mixed = Colour { red, green, blue }.over(below, f64::from(opacity) / 255.0);
        let opaque = PremultipliedColorU8::from_rgba(mixed.red, mixed.green, mixed.blue, u8::MAX);
        *pixel = opaque.unwrap_or(*pixel);
    }
    for chunk in map.outlined() {
        stroke(canvas, rect_path(&chunk.rect), chunk.colour.outline(), 0.6, None);
    }
}

fn fill_path(canvas: &mut Pixmap, path: Option<Path>, colour: Colour) {
    if let Some(path) = path {
        let (paint, unmoved) = (paint_of(colour), Transform::identity());
        canvas.fill_path(&path, &paint, FillRule::Winding, unmoved, None);
    }
}

fn stroke(
    canvas: &mut Pixmap,
    path: Option<Path>,
    colour: Colour,
    width: f32,
    dash: Option<StrokeDash>,
) {
    if let Some(path) = path {
        let stroke = Stroke { width, dash, ..Stroke::default() };
        canvas.stroke_path(&path, &paint_of(colour), &stroke, Transform::identity(), None);
    }
}

fn paint_of(colour: Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(colour.red, colour.green, colour.blue, u8::MAX);
    paint
}

fn rect_path(rect: &Rect) -> Option<Path> {
    let (x, y) = (rect.x as f32, rect.y as f32);
    let rect = tiny_skia::Rect::from_ltrb(x, y, rect.right() as f32, rect.bottom() as f32)?;
    Some(PathBuilder::from_rect(rect))
}

fn points_path(points: &[(f64, f64)], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let (x, y) = (*x as f32, *y as f32);
        if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// The outlines of the letters of `text`, from the left end of its base line on.
fn text_path(text: &str, size: f64, at: (f64, f64)) -> Option<Path> {
    let font = text::font();
    let scale = size as f32 / f32::from(font.units_per_em());
    let mut letters = Letters { path: PathBuilder::new(), x: at.0 as f32, y: at.1 as f32, scale };
    for letter in text.chars() {
        let glyph = font.glyph_index(letter).unwrap_or_default();
        font.outline_glyph(glyph, &mut letters);
        letters.x += f32::from(font.glyph_hor_advance(glyph).unwrap_or_default()) * scale;
    }
    letters.path.finish()
}

/// Moves the outline of a letter from the font's units to the picture.
struct Letters {
    path: PathBuilder,
    x: f32,
    y: f32,
    scale: f32,
}

impl Letters {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Letters {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) =
            (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

//! A scene as SVG 1.1 (W3C, 2011).

use crate::png::encoded;
use crate::scene::{Anchor, ChunkMap, Item, Scene};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::{self, Write};

/// Writes `scene` as SVG.
pub(crate) fn write(scene: &Scene, out: &mut dyn Write) -> io::Result<()> {
    let Scene { width, height, title, paper, items } = scene;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"'DejaVu Sans', Verdana, sans-serif\">"
    )?;
    writeln!(out, "<title>{}</title>", Escaped(title))?;
    writeln!(out, "<rect width=\"{width}\" height=\"{height}\" fill=\"{paper}\"/>")?;
    for item in items {
        write_item(item, out)?;
    }
    writeln!(out, "</svg>")
}

fn write_item(item: &Item, out: &mut dyn Write) -> io::Result<()> {
    match item {
        Item::Rect { rect, fill } => writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"/>",
            Number(rect.x),
            Number(rect.y),
            Number(rect.width),
            Number(rect.height)
        ),
        Item::Line { points, colour, width, dashed } => {
            let dash = if *dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-width=\"{}\"{dash}/>",
                Points(points),
                Number(*width)
            )
        }
        Item::Area { points, fill } => {
            writeln!(out, "<polygon points=\"{}\" fill=\"{fill}\"/>", Points(points))
        }
        Item::Text { at, anchor, size, colour, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{anchor}\" \
                 fill=\"{colour}\">{}</text>",
                Number(at.0),
                Number(at.1),
                Number(*size),
                Escaped(text)
            )
        }
        Item::Chunks(map) => write_chunks(map, out),
    }
}

/// The chunks with labels as rectangles; those without, a path for each colour; those that are
/// added up, as an image.
fn write_chunks(map: &ChunkMap, out: &mut dyn Write) -> io::Result<()> {
    if !map.merged.is_empty() {
        let (columns, rows) = (map.merged.columns(), map.merged.rows());
        let pixels: Vec<u8> = map.merged.pixels().flatten().collect();
        let image = STANDARD.encode(encoded(columns, rows, &pixels)?);
        writeln!(
            out,
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             xlink:href=\"data:image/png;base64,{image}\"/>",
            Number(map.area.x),
            Number(map.area.y),
            Number(map.area.width),
            Number(map.area.height)
        )?;
    }
    // Edges on pixels: neighbours have no gap between them.
    writeln!(out, "<g shape-rendering=\"crispEdges\">")?;
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for chunk in &map.chunks {
        if chunk.label.is_none() {
            let (x, y) = (Number(chunk.rect.x), Number(chunk.rect.y));
            let (width, height) = (Number(chunk.rect.width), Number(chunk.rect.height));
            let part = format!("M{x} {y}h{width}v{height}h-{width}z");
            paths.entry(chunk.colour.to_string()).or_default().push(part);
        }
    }
    for (colour, parts) in paths {
        writeln!(out, "<path fill=\"{colour}\" d=\"{}\"/>", parts.concat())?;
    }
    for chunk in &map.chunks {
        if let Some(label) = &chunk.label {
            writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"{}\" \
                 stroke-width=\".6\"><title>{}</title></rect>",
                Number(chunk.rect.x),
                Number(chunk.rect.y),
                Number(chunk.rect.width),
                Number(chunk.rect.height),
                chunk.colour,
                chunk.colour.outline(),
                Escaped(label)
            )?;
        }
    }
    writeln!(out, "</g>")
}

/// A number with at most two decimals.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Points as pairs of numbers.
struct Points<'p>(&'p [(f64, f64)]);

impl Display for Points<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(x, y)| write!(f, "{},{} ", Number(*x), Number(*y)))
    }
}

/// A text as the content of an element.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            letter => write!(f, "{letter}"),
        })
    }
}

//! Pictures of contiguous memory.
//!
//! - [`timeline()`] shows what allocators did with a trace: addresses over time.
//! - [`rows()`] shows regions at one moment, of a trace or of a running server.
//!
//! Both return a [`Scene`], a list of shapes, which is written as SVG or PNG. A picture's size is
//! bounded whatever the number of chunks: chunks that are smaller than a pixel are added up.
//!
//! ```
//! use cma_analysis::Allocator;
//! use cma_draw::{Axis, Format, History, Size, Style, Theme, timeline};
//! use cma_framework::{PageRange, Plugin};
//! use cma_trace::Recording;
//!
//! let mut recording = Recording::new("a camera that takes one photo");
//! let frame = recording.allocate(0, 3_133_440, 65_536, "camera/frame")?;
//! recording.free(40_000, frame)?;
//! let trace = recording.finish();
//!
//! let allocator = Allocator::new(Plugin::built_in::<cma_best_fit::BestFit>());
//! let region = PageRange::from_pages(1 << 20, 1024);
//! let history = History::of(&trace, &allocator, region)?;
//! let style = Style { size: Size::usual(1), theme: Theme::Light, axis: Axis::Time };
//! let mut file = Vec::new();
//! timeline(&[history], &style)?.write(Format::Svg, &mut file)?;
//! assert!(file.starts_with(b"<svg"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod colour;
mod curve;
mod devices;
mod format;
mod free;
mod geometry;
mod history;
mod layout;
mod page;
mod png;
mod raster;
mod rows;
mod scene;
mod style;
mod svg;
mod text;
mod timeline;
mod words;

pub use colour::{Colour, Theme};
pub use format::{Format, UnknownFormat};
pub use geometry::Rect;
pub use history::{History, Level, Life, Moment, NoMoment};
pub use layout::{Layout, Placed, Request};
pub use raster::Raster;
pub use rows::rows;
pub use scene::{Anchor, ChunkMap, DrawnChunk, Item, MOST_CHUNKS, Scene};
pub use style::{Axis, Size, SizeError, Style};
pub use timeline::timeline;
pub use words::summary;

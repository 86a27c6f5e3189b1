//! What every picture guarantees: each live byte at each time is painted once, nothing is outside
//! the axes, and a file is bounded, readable and of the size that was asked for.

use cma_analysis::Allocator;
use cma_draw::{
    Anchor, Axis, ChunkMap, Format, History, Item, Layout, Moment, NoMoment, Placed, Rect, Scene,
    Size, SizeError, Style, Theme, rows, timeline,
};
use cma_framework::{PageRange, Plugin};
use cma_trace::{Recording, Trace};
use std::collections::HashSet;
use std::path::Path;

fn allocator() -> Allocator {
    Allocator::new(Plugin::built_in::<cma_best_fit::BestFit>())
}

fn history(trace: &Trace, pages: u64) -> History<'_> {
    History::of(trace, &allocator(), PageRange::from_pages(1 << 20, pages)).expect("a region")
}

fn style(size: &str, axis: Axis) -> Style {
    Style { size: size.parse().expect("a size"), theme: Theme::Light, axis }
}

/// A trace of `requests` requests, of which at most `live` live at a time, from a simple
/// pseudo-random sequence.
fn churn(requests: u32, live: usize) -> Trace {
    let mut recording = Recording::new("churn");
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let mut held = Vec::new();
    for time in 0..requests {
        if held.len() == live {
            let index = usize::try_from(random()).expect("a number") % live;
            recording.free(u64::from(time), held.swap_remove(index)).expect("it is live");
        }
        let size = 4096 * (1 + random() % 40);
        let device = format!("device-{}", random() % 9);
        held.push(recording.allocate(u64::from(time), size, 1, &device).expect("a request"));
    }
    recording.finish()
}

fn svg(scene: &Scene) -> String {
    let mut file = Vec::new();
    scene.write(Format::Svg, &mut file).expect("memory");
    String::from_utf8(file).expect("text")
}

fn maps(scene: &Scene) -> Vec<&ChunkMap> {
    scene
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Chunks(map) => Some(&**map),
            _ => None,
        })
        .collect()
}

/// The painted area of a map in square pixels.
fn painted(map: &ChunkMap) -> f64 {
    map.chunks.iter().map(|chunk| chunk.rect.area()).sum::<f64>() + map.merged.covered()
}

/// All texts of a picture.
fn texts(scene: &Scene) -> Vec<&str> {
    scene
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_live_byte_is_painted_once_at_every_time() {
    let trace = churn(6_000, 300);
    for (axis, size) in [(Axis::Time, "900x600"), (Axis::Operations, "500x900")] {
        let history = history(&trace, 8_000);
        let at = |operation: usize| match axis {
            Axis::Time => trace.operations()[operation].time_us as f64,
            Axis::Operations => operation as f64,
        };
        let end = match axis {
            // The axis goes on for a hundredth after the last operation.
            Axis::Time => 5_999.0 + 59.0,
            Axis::Operations => trace.operations().len() as f64,
        };
        let live: f64 = history
            .chunks()
            .iter()
            .map(|it| it.range.bytes() as f64 * (it.until.map_or(end, at) - at(it.from)))
            .sum();
        let expected = live / (end * history.range().bytes() as f64);
        let scene = timeline(&[history], &style(size, axis)).expect("room");
        let map = maps(&scene)[0];
        assert!(!map.chunks.is_empty() && map.merged.covered() > 0.0, "both kinds are there");
        let share = painted(map) / map.area.area();
        assert!((share - expected).abs() < 1e-3 * expected, "{share} {expected}");
    }
}

#[test]
fn chunks_of_one_moment_never_overlap_and_none_is_outside_its_map() {
    let trace = churn(3_000, 200);
    let history = history(&trace, 6_000);
    let scene = timeline(&[history], &style("1000x700", Axis::Time)).expect("room");
    for map in maps(&scene) {
        let slack = 1e-6;
        for chunk in &map.chunks {
            assert!(chunk.rect.x >= map.area.x - slack && chunk.rect.y >= map.area.y - slack);
            assert!(chunk.rect.right() <= map.area.right() + slack);
            assert!(chunk.rect.bottom() <= map.area.bottom() + slack);
        }
        for (index, a) in map.chunks.iter().enumerate() {
            for b in &map.chunks[..index] {
                let apart = a.rect.right() <= b.rect.x + slack
                    || b.rect.right() <= a.rect.x + slack
                    || a.rect.bottom() <= b.rect.y + slack
                    || b.rect.bottom() <= a.rect.y + slack;
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn a_picture_of_a_hundred_thousand_chunks_is_a_bounded_file() {
    let trace = churn(100_000, 5_000);
    let scene =
        timeline(&[history(&trace, 150_000)], &style("1200x780", Axis::Time)).expect("room");
    let file = svg(&scene);
    assert!(file.len() < 5 << 20, "{} bytes", file.len());
    assert!(scene.items.len() < 1000);
    // The region is larger than the peak, so there are no marks of refused requests.
    assert!(!texts(&scene).contains(&"refused"));
}

#[test]
fn refused_requests_are_marked_and_the_first_is_explained() {
    let mut recording = Recording::new("a gap");
    let chunks: Vec<_> = (0..4)
        .map(|time| recording.allocate(time, 4 << 20, 1, "camera/frame").expect("a request"))
        .collect();
    recording.free(10, chunks[0]).expect("it is live");
    recording.free(11, chunks[2]).expect("it is live");
    recording.allocate(20, 8 << 20, 1, "video/frame").expect("a request");
    let trace = recording.finish();
    let history = history(&trace, 4096);
    assert_eq!(history.refused(), [6]);
    assert_eq!(history.telling_moment(), Some(6));
    let scene = timeline(&[history], &style("1200x780", Axis::Time)).expect("room");
    let texts = texts(&scene).join("\n");
    assert!(texts.contains("best-fit: 1 request refused"), "{texts}");
    assert!(
        texts.contains("First refusal at 20 µs (operation 7): 8 MiB for video/frame"),
        "{texts}"
    );
    assert!(texts.contains("8 MiB free in 2 ranges, the largest 4 MiB"), "{texts}");
    assert!(texts.contains("between them: camera 1 chunk (4 MiB)"), "{texts}");
}

#[test]
fn an_empty_trace_and_a_single_operation_have_pictures() {
    let empty = Recording::new("nothing").finish();
    let mut recording = Recording::new("one");
    recording.allocate(7, 4 << 20, 1, "camera").expect("a request");
    let one = recording.finish();
    for (trace, is_painted) in [(&empty, false), (&one, true)] {
        for axis in [Axis::Time, Axis::Operations] {
            let scene = timeline(&[history(trace, 2048)], &style("600x500", axis)).expect("room");
            assert_eq!(painted(maps(&scene)[0]) > 1000.0, is_painted);
            roxmltree::Document::parse(&svg(&scene)).expect("XML");
            scene.write(Format::Png, &mut Vec::new()).expect("memory");
        }
    }
    assert_eq!(history(&empty, 8).operation_at(Moment::Time(0)), Err(NoMoment::Empty));
}

#[test]
fn a_moment_outside_the_trace_is_refused_with_the_traces_limits() {
    let trace = churn(10, 20);
    let history = history(&trace, 4096);
    assert_eq!(history.operation_at(Moment::Time(3)), Ok(3));
    assert_eq!(history.operation_at(Moment::Time(10)), Err(NoMoment::AfterEnd { last_us: 9 }));
    assert_eq!(
        history.operation_at(Moment::Operation(10)),
        Err(NoMoment::NoOperation { operations: 10 })
    );
    let nothing = history.operation_at(Moment::FirstRefusal);
    assert!(matches!(nothing, Err(NoMoment::NothingRefused { .. })));
}

#[test]
fn a_layout_paints_every_chunk_at_its_place_and_names_the_free_ranges() {
    let place = |first, pages, device: &str| Placed {
        range: PageRange::from_pages(first, pages),
        device: device.to_string(),
        detail: device.to_string(),
    };
    let range = PageRange::from_pages(100, 2000);
    let chunks = vec![place(1100, 500, "video"), place(100, 300, "camera"), place(2099, 1, "dsp")];
    let layout = Layout::new("b1".to_string(), range, chunks);
    assert_eq!(layout.holes(), [PageRange::from_pages(400, 700), PageRange::from_pages(1600, 499)]);
    assert_eq!(layout.separators(), [("video", 1, 500 * 4096)]);
    let scene = rows(&[layout], "a server", &style("1200x400", Axis::Time)).expect("room");
    let maps = maps(&scene);
    let (painted, all): (f64, f64) =
        (maps.iter().map(|it| painted(it)).sum(), maps.iter().map(|it| it.area.area()).sum());
    assert!((painted / all - 801.0 / 2000.0).abs() < 0.01, "{painted} {all}");
    let texts = texts(&scene).join("\n");
    assert!(texts.contains("free 2.73 MiB"), "{texts}");
}

#[test]
fn hostile_names_leave_the_svg_well_formed() {
    let mut recording = Recording::new("<!-- &");
    recording.allocate(0, 4 << 20, 1, "<script>\"&']]>").expect("a request");
    let trace = recording.finish();
    let style = style("600x500", Axis::Time);
    let scene = timeline(&[history(&trace, 2048)], &style).expect("room");
    // A trace has no such device; a server of another version may.
    let device = "<script>\"&'\u{7}\u{202e}]]>";
    let range = PageRange::from_pages(1 << 20, 1024);
    let chunk = Placed { range, device: device.to_string(), detail: device.to_string() };
    let layout = Layout::new(device.to_string(), range, vec![chunk]);
    let at = rows(&[layout], device, &style).expect("room");
    for (scene, name) in [(scene, "<script>\"&']]>"), (at, "<script>\"&'\u{fffd}\u{fffd}]]>")] {
        let file = svg(&scene);
        let document = roxmltree::Document::parse(&file).expect("XML");
        assert!(document.descendants().all(|node| node.tag_name().name() != "script"));
        let mut names = document.descendants().filter_map(|node| node.text());
        assert!(names.any(|text| text.contains(name)));
    }
}

#[test]
fn a_png_has_the_size_that_was_asked_for_and_the_colours_of_chunks() {
    let trace = churn(2_000, 100);
    for (size, theme) in [("390x844", Theme::Light), ("1920x600", Theme::Dark)] {
        let style = Style { theme, ..style(size, Axis::Time) };
        let scene = timeline(&[history(&trace, 4_000)], &style).expect("room");
        let mut file = Vec::new();
        scene.write(Format::Png, &mut file).expect("memory");
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!(format!("{}x{}", frame.width, frame.height), size);
        let colours: HashSet<&[u8]> = pixels.chunks(3).collect();
        // The first colour of devices.
        assert!(colours.contains(&[0x00, 0x72, 0xb2][..]));
    }
}

#[test]
fn two_runs_draw_the_same_file() {
    let trace = churn(2_000, 100);
    let draw =
        || svg(&timeline(&[history(&trace, 3_000)], &style("800x600", Axis::Time)).expect("room"));
    assert_eq!(draw(), draw());
}

#[test]
fn panels_share_their_scale_and_need_room() {
    let trace = churn(500, 100);
    let histories = [history(&trace, 3_000), history(&trace, 3_000)];
    let scene = timeline(&histories, &style("800x900", Axis::Time)).expect("room");
    // Each panel has a map and a strip.
    let maps = maps(&scene);
    assert_eq!(maps.len(), 4);
    assert_eq!((maps[0].area.x, maps[0].area.width), (maps[2].area.x, maps[2].area.width));
    assert!((maps[0].area.height - maps[2].area.height).abs() <= 1.0);
    let error = timeline(&histories, &style("800x300", Axis::Time)).err();
    let Some(SizeError::Panels { panels: 2, least_height }) = error else { panic!("{error:?}") };
    let enough = Style {
        size: Size::new(800, least_height).expect("a size"),
        ..style("800x300", Axis::Time)
    };
    timeline(&histories, &enough).expect("room");
}

#[test]
fn the_ending_of_a_file_is_its_format() {
    assert_eq!(Format::of_path(Path::new("a/b.SVG")), Ok(Format::Svg));
    assert_eq!(Format::of_path(Path::new("b.png")), Ok(Format::Png));
    for wrong in ["b", "b.jpg", ".svg", "b.svg.gz"] {
        assert!(Format::of_path(Path::new(wrong)).is_err(), "{wrong}");
    }
    for wrong in
        ["", "1200", "x", "0x0", "1200x", "-1x5", "300x300", "99999999999x400", "16000x16000"]
    {
        assert!(wrong.parse::<Size>().is_err(), "{wrong}");
    }
}

/// The place of each text: left, upper, right and lower end. Letters are on average half as wide
/// as they are high, or wider.
fn boxes(scene: &Scene) -> Vec<(f64, f64, f64, f64, &str)> {
    let mut boxes = Vec::new();
    for item in &scene.items {
        let Item::Text { at, anchor, size, text, .. } = item else { continue };
        let width = text.chars().count() as f64 * size * 0.5;
        let left = match anchor {
            Anchor::Start => at.0,
            Anchor::Middle => at.0 - width / 2.0,
            Anchor::End => at.0 - width,
        };
        boxes.push((left, at.1 - size * 0.7, left + width, at.1, text.as_str()));
    }
    boxes
}

#[test]
fn no_text_covers_another_or_leaves_the_picture() {
    let trace = churn(2_000, 100);
    // Sizes with and without a label at the upper end, and one with refused requests.
    for (pages, size) in
        [(5_120, "390x844"), (1_792, "1200x780"), (2_048, "2400x500"), (2_000, "640x480")]
    {
        for axis in [Axis::Time, Axis::Operations] {
            let style = style(size, axis);
            let histories = [history(&trace, pages)];
            let layout = histories[0].layout_at(1_500);
            let scenes = [timeline(&histories, &style), rows(&[layout], "a moment", &style)];
            for scene in scenes {
                let scene = scene.expect("room");
                let boxes = boxes(&scene);
                let (right, bottom) = (f64::from(scene.width), f64::from(scene.height));
                for (index, a) in boxes.iter().enumerate() {
                    assert!(a.0 >= 0.0 && a.1 >= 0.0 && a.2 <= right && a.3 <= bottom, "{a:?}");
                    for b in &boxes[..index] {
                        let apart = a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
                        assert!(apart, "{size}: {a:?} {b:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_layout_begin_at_round_addresses() {
    let layout =
        |pages| Layout::new("b1".to_string(), PageRange::from_pages(1 << 20, pages), Vec::new());
    let style = style("1200x780", Axis::Time);
    for (pages, addresses) in [(48_640, ["12 MiB", "180 MiB"]), (4_096, ["1 MiB", "15 MiB"])] {
        let scene = rows(&[layout(pages)], "a server", &style).expect("room");
        let texts = texts(&scene);
        assert!(addresses.iter().all(|address| texts.contains(address)), "{texts:?}");
    }
}

#[test]
fn refused_requests_have_a_mark_each_and_the_first_a_bar_of_its_size() {
    let mut recording = Recording::new("two refusals");
    let held = recording.allocate(0, 12 << 20, 1, "camera").expect("a request");
    recording.allocate(100, 8 << 20, 1, "video").expect("a request");
    recording.allocate(900, 8 << 20, 1, "video").expect("a request");
    recording.free(1000, held).expect("it is live");
    let trace = recording.finish();
    let scene = timeline(&[history(&trace, 4096)], &style("900x600", Axis::Time)).expect("room");
    let rects = |wanted: &dyn Fn(&Rect) -> bool| -> Vec<Rect> {
        let rect = |item: &Item| match item {
            Item::Rect { rect, .. } => Some(*rect),
            _ => None,
        };
        scene.items.iter().filter_map(rect).filter(wanted).collect()
    };
    let map = maps(&scene)[0].area;
    let marks = rects(&|rect| rect.bottom() < map.y && rect.y > map.y - 12.0);
    let places: Vec<f64> = marks.iter().map(|mark| (mark.x - map.x) / map.width).collect();
    assert!(matches!(places[..], [a, b] if (a - 0.1).abs() < 0.01 && (b - 0.9).abs() < 0.02));
    let half = map.height / 2.0;
    let bars = rects(&|rect| rect.x > map.right() && (rect.height - half).abs() < 0.1);
    assert!(matches!(bars[..], [bar] if bar.y >= map.y && bar.bottom() <= map.bottom()));
}

#[test]
fn of_free_ranges_at_one_place_the_largest_has_its_size_written() {
    let mut recording = Recording::new("close holes");
    let pages = [1, 1, 9, 1, 1, 1];
    let chunks =
        pages.map(|pages| recording.allocate(0, pages * 4096, 1, "camera").expect("a request"));
    for index in [0, 2, 4] {
        recording.free(5, chunks[index]).expect("it is live");
    }
    recording.allocate(9, 64 << 20, 1, "video").expect("a request");
    let trace = recording.finish();
    let scene = timeline(&[history(&trace, 4096)], &style("900x600", Axis::Time)).expect("room");
    let texts = texts(&scene);
    assert!(texts.contains(&"36 KiB") && !texts.contains(&"4 KiB"), "{texts:?}");
}

#[test]
fn a_layout_has_the_chunks_that_live_after_its_operation() {
    let mut recording = Recording::new("one");
    let chunk = recording.allocate(0, 4096, 1, "camera").expect("a request");
    recording.free(5, chunk).expect("it is live");
    let trace = recording.finish();
    let history = history(&trace, 8);
    assert_eq!([0, 1].map(|operation| history.layout_at(operation).chunks().len()), [1, 0]);
}

#[test]
fn the_legend_is_in_the_order_of_bytes_over_time_and_words_name_some_devices() {
    let mut recording = Recording::new("many devices");
    for (index, device) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        recording.allocate(10, 4096 << index, 1, device).expect("a request");
        let gap = recording.allocate(10, 4096, 1, "gap").expect("a request");
        recording.free(10, gap).expect("it is live");
    }
    let last = recording.allocate(10, 4096, 1, "last").expect("a request");
    let short = recording.allocate(10, 1 << 20, 1, "short").expect("a request");
    recording.free(11, short).expect("it is live");
    recording.free(1000, last).expect("it is live");
    let trace = recording.finish();
    let scene = timeline(&[history(&trace, 4096)], &style("900x600", Axis::Time)).expect("room");
    let texts = texts(&scene);
    let place = |name: &str| texts.iter().position(|text| *text == name);
    assert!(place("h") < place("g") && place("h").is_some(), "{texts:?}");
    assert!(texts.iter().any(|text| text.ends_with(" other devices")), "{texts:?}");
    let chunk = |index: u64, device: &str| Placed {
        range: PageRange::from_pages(2 * index + 1, 1),
        device: device.to_string(),
        detail: String::new(),
    };
    let chunks = ["a", "b", "c", "d", "e", "f"];
    let chunks = chunks.into_iter().zip(0..).map(|(device, index)| chunk(index, device)).collect();
    let layout = Layout::new("b1".to_string(), PageRange::from_pages(0, 64), chunks);
    let scene = rows(&[layout], "a server", &style("1200x400", Axis::Time)).expect("room");
    let words = texts_of(&scene);
    assert!(words.contains("d 1 chunk (4 KiB), 2 other devices 2 chunks (8 KiB)"), "{words}");
}

fn texts_of(scene: &Scene) -> String {
    texts(scene).join(" ")
}

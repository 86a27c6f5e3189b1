//! What is on the screen, for states that are hard to draw.

use super::*;
use crate::sampler::{Failed, Sample};
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, PageRange, Process};
use cma_running::{
    AllocatorStatus, Books, ChunkState, FailureState, RegionState, Requester, State, WaiterState,
};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

const PLAIN: Theme = Theme { colour: false, unicode: true };

fn requester(device: &str) -> Option<Requester> {
    Some(Requester { device: device.to_string(), kind: "frame".to_string() })
}

fn process(pid: u32) -> Option<Process> {
    Some(Process { uid: 1000, pid, name: "ffmpeg".into() })
}

fn chunk(first: u64, pages: u64, device: &str) -> ChunkState {
    let range = PageRange::from_pages(first, pages);
    ChunkState {
        range,
        request: ChunkRequest::new(Bytes(range.bytes())),
        requester: requester(device),
        age: Some(Duration::from_secs(3)),
        process: process(4711),
    }
}

/// A region of 1024 pages with these chunks, from page 1024 `n` on.
fn region(n: u64, name: &str, chunks: Vec<ChunkState>) -> RegionState {
    let range = PageRange::from_pages(1024 * n, 1024);
    let used: u64 = chunks.iter().map(|chunk| chunk.range.bytes()).sum();
    let books = Books {
        free_bytes: range.bytes() - used,
        largest_free_bytes: range.bytes() - used,
        high_water_bytes: used,
        chunks_placed: chunks.len() as u64,
        chunks,
        ..Books::default()
    };
    RegionState {
        name: Some(name.to_string()),
        range,
        allocator: AllocatorStatus::Serving { name: Some("best-fit".to_string()) },
        problem: None,
        books: Some(books),
    }
}

fn refusal(reason: &str) -> FailureState {
    FailureState {
        request: ChunkRequest::parse("17M/64K below=4G").unwrap(),
        requester: requester("codec"),
        reason: reason.to_string(),
        age: Duration::from_millis(1500),
    }
}

fn model(regions: Vec<RegionState>) -> Model {
    let mut model = Model::new(Instant::now());
    model.title = "/run/cma".to_string();
    let sample = Sample {
        state: State { regions },
        at: Duration::from_secs(1),
        pace: "every 1.0s".to_string(),
        ended: false,
    };
    model.show(sample, Instant::now());
    model
}

fn buffer(model: &Model, theme: Theme, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, theme, Instant::now())).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(model: &Model, theme: Theme, size: (u16, u16)) -> Vec<String> {
    let buffer = buffer(model, theme, size);
    let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..size.1).map(row).collect()
}

fn press(model: &mut Model, key: KeyCode) {
    model.press(KeyEvent::new(key, KeyModifiers::NONE));
}

#[test]
fn everything_is_on_the_smallest_screen() {
    let mut busy = region(1, "b1", vec![chunk(1024, 512, "camera"), chunk(1600, 8, "dsp")]);
    let books = busy.books.as_mut().unwrap();
    books.failures = vec![refusal("full: 61M of 64M free")];
    books.waiters = vec![WaiterState {
        request: ChunkRequest::new(Bytes(3 << 20)),
        requester: requester("isp"),
        waited: Duration::from_millis(700),
        process: process(9),
    }];
    let screen = lines(&model(vec![busy, region(3, "b2", vec![])]), PLAIN, (80, 24));
    let text = screen.join("\n");
    for part in [
        "cma top  /run/cma  every 1.0s  region 1 of 2",
        "5.9M of 8M free  2 chunks  1 wait  req/s -  ref/s -  freed/s -",
        "▶ b1",
        "best-fit",
        "camera/frame",
        "ffmpeg[",
        "dsp/frame",
        "0.7s     3M isp/frame",
        "1.5s    17M codec/frame",
        "full: 61M of 64M free; aligned 64K; below=4G",
        "q quit  ↑↓ region  a all  s sort: bytes  g by device  space pause  + - pace",
        "b1: 4M at 0x400000, peak 2.0M, cell 19.2K: █ used ▒ partly · free",
        "0x400000 ",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    // Half of the region is full, the small chunk's cell partly, the rest free.
    let bar = screen.iter().find(|line| line.starts_with("▶ b1")).unwrap();
    for glyph in ["██", "▒", "··"] {
        assert!(bar.contains(glyph), "{bar}");
    }
    assert!(screen[23].starts_with("q quit"), "{text}");
}

#[test]
fn a_screen_that_is_too_small_says_how_large_it_has_to_be() {
    let model = model(vec![region(1, "b1", vec![])]);
    for size in [(79, 24), (80, 23), (20, 5)] {
        let text = lines(&model, PLAIN, size).concat();
        assert!(text.contains("too small") && text.contains("80x24"), "{text}");
    }
    for size in [(1, 1), (1, 200), (200, 1)] {
        lines(&model, PLAIN, size);
    }
}

#[test]
fn the_selected_one_of_fifty_regions_is_visible_and_in_detail() {
    let regions = (1..=50)
        .map(|n| region(n, &format!("r{n}"), vec![chunk(1024 * n, 1, &format!("device{n}"))]));
    let mut model = model(regions.collect());
    for (keys, expected) in [
        (&[][..], 1),
        (&[KeyCode::Down, KeyCode::Down], 3),
        (&[KeyCode::PageDown], 13),
        (&[KeyCode::End], 50),
        (&[KeyCode::Down], 50),
        (&[KeyCode::Up], 49),
        (&[KeyCode::Home], 1),
    ] {
        keys.iter().for_each(|key| press(&mut model, *key));
        let text = lines(&model, PLAIN, (80, 24)).join("\n");
        assert!(text.contains(&format!("▶ r{expected} ")), "{expected}:\n{text}");
        assert!(text.contains(&format!("device{expected}/frame")), "{expected}:\n{text}");
        assert!(text.contains(&format!("region {expected} of 50")), "{text}");
    }
    press(&mut model, KeyCode::Char('a'));
    let text = lines(&model, PLAIN, (80, 40)).join("\n");
    assert!(text.contains("all regions") && text.contains("device10/frame"), "{text}");
    assert!(text.contains(" more"), "{text}");
}

#[test]
fn the_selection_stays_with_its_region_when_others_come_and_go() {
    let some = |names: &[u64]| names.iter().map(|n| region(*n, &format!("r{n}"), vec![])).collect();
    let mut model = model(some(&[2, 4]));
    press(&mut model, KeyCode::Down);
    let show = |model: &mut Model, regions| {
        let sample = Sample { state: State { regions }, ..model.sample.clone().unwrap() };
        model.show(sample, Instant::now());
    };
    show(&mut model, some(&[1, 2, 3, 4, 5]));
    assert_eq!(model.selected(), 3);
    show(&mut model, some(&[1, 2]));
    assert_eq!(model.selected(), 0);
    show(&mut model, some(&[]));
    press(&mut model, KeyCode::Down);
    assert!(lines(&model, PLAIN, (80, 24)).join("\n").contains("there is no region"));
}

#[test]
fn a_server_that_is_gone_is_reported_above_its_last_state_until_it_is_back() {
    let mut model = model(vec![region(1, "b1", vec![])]);
    let error = || cma_running::Error::NotServed("/run/cma".into());
    model.fail(&Failed { error: error() }, Instant::now());
    let text = lines(&model, PLAIN, (120, 24)).join("\n");
    assert!(text.contains("GONE for 0.0s: no server has its attributes"), "{text}");
    assert!(text.contains("▶ b1"), "{text}");
    let sample = model.sample.clone().unwrap();
    model.show(sample, Instant::now());
    assert!(!lines(&model, PLAIN, (120, 24)).join("\n").contains("GONE"));
}

#[test]
fn a_region_that_can_not_serve_shows_why_in_place_of_its_bar() {
    let mut stuck = region(1, "b1", vec![]);
    stuck.books = None;
    stuck.problem = Some("stuck: its allocator does not return".to_string());
    let text = lines(&model(vec![stuck]), PLAIN, (120, 24)).join("\n");
    assert!(text.contains("stuck: its allocator does"), "{text}");
}

#[test]
fn without_colour_there_is_none_and_without_unicode_only_ascii() {
    let mut busy = region(1, "b1", vec![chunk(1024, 3, "camera"), chunk(1100, 500, "dsp")]);
    busy.books.as_mut().unwrap().failures = vec![refusal("full")];
    busy.problem = Some("a problem".to_string());
    let model = model(vec![busy, region(2, "b2", vec![chunk(2048, 900, "a")])]);
    let coloured = |buffer: &Buffer| {
        let reset = ratatui::style::Color::Reset;
        buffer.content.iter().any(|cell| cell.fg != reset || cell.bg != reset)
    };
    let theme = Theme { colour: true, unicode: true };
    assert!(coloured(&buffer(&model, theme, (80, 24))));
    let ascii = Theme { colour: false, unicode: false };
    assert!(!coloured(&buffer(&model, ascii, (80, 24))));
    let text = lines(&model, ascii, (80, 24)).concat();
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("##") && text.contains(".."), "{text}");
}

#[test]
fn ten_thousand_chunks_are_drawn() {
    let chunks: Vec<_> = (0..1024).step_by(2).map(|n| chunk(1024 + n, 1, "many")).collect();
    let mut all = region(1, "b1", chunks);
    all.range = PageRange::from_pages(1024, 20_000);
    all.books.as_mut().unwrap().chunks =
        (0..10_000).map(|n| chunk(1024 + 2 * n, 1, &format!("d{}", n % 700))).collect();
    let text = lines(&model(vec![all]), PLAIN, (200, 60)).join("\n");
    assert!(text.contains("▒▒▒▒▒▒▒▒") && text.contains(" 10000 chunks"), "{text}");
    assert!(text.contains(" more"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever names and sizes there are, every screen is drawn, with the keys in its last line.
    #[test]
    fn any_names_on_any_screen_are_drawn_without_control_characters(
        width in 1..260_u16,
        height in 1..90_u16,
        names in prop::collection::vec("(\\PC|[\\x00-\\x1f漢é\u{301}]){0,60}", 0..20),
        all: bool,
        paused: bool,
        unicode: bool,
    ) {
        let regions = names.iter().enumerate().map(|(n, name)| {
            let n = n as u64 + 1;
            let mut region = region(n, name, vec![chunk(1024 * n, n * 7, name)]);
            let books = region.books.as_mut().unwrap();
            books.failures = vec![refusal(name); 20];
            if n.is_multiple_of(5) {
                region.problem = Some(name.clone());
            }
            region
        });
        let mut model = model(regions.collect());
        model.title = names.concat();
        (model.all, model.paused) = (all, paused);
        press(&mut model, KeyCode::Down);
        let theme = Theme { colour: true, unicode };
        let screen = lines(&model, theme, (width, height));
        prop_assert!(!screen.concat().chars().any(char::is_control));
        if width >= 80 && height >= 24 {
            prop_assert!(screen[usize::from(height) - 1].starts_with("q quit"));
        }
    }
}

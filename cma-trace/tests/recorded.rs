//! The recorded traces are as stored, and every allocator serves each of them completely in a
//! region of twice its peak.

use cma_framework::Plugin;
use cma_trace::{DEMO, Trace, replay};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

/// A recorded trace: its name, its stored bytes, and the trace read from them.
type Recorded = (String, Vec<u8>, Trace);

/// Every recorded trace.
static RECORDED: LazyLock<Vec<Recorded>> = LazyLock::new(|| read("traces"));

/// The recordings of other programs.
static PROGRAMS: LazyLock<Vec<Recorded>> = LazyLock::new(|| read("programs"));

fn read(folder: &str) -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut recorded = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".trace.gz") {
            let stored = std::fs::read(&path).unwrap();
            let trace = Trace::read(&stored[..]).unwrap_or_else(|e| panic!("{name}: {e}"));
            recorded.push((name.to_string(), stored, trace));
        }
    }
    recorded.sort_by(|a, b| a.0.cmp(&b.0));
    recorded
}

#[test]
fn there_are_seven_traces_and_one_is_the_demo() {
    let names: Vec<_> = RECORDED.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(
        names,
        [
            "chromium-viz-maps",
            "ffmpeg-switching",
            "ffmpeg-transcode-1080p",
            "gstreamer-phone",
            "mpv-zapping",
            "ovs-dpdk-9ports",
            "xserver-composite",
        ]
    );
    assert_eq!(RECORDED[2].1, DEMO);
    assert_eq!(PROGRAMS.len(), 7);
}

#[test]
fn writing_a_recorded_trace_reproduces_its_bytes() {
    for (name, stored, trace) in RECORDED.iter().chain(&*PROGRAMS) {
        let (mut text, mut written) = (Vec::new(), Vec::new());
        GzDecoder::new(&stored[..]).read_to_end(&mut text).unwrap();
        trace.write(&mut written).unwrap();
        assert!(text == written, "{name}");
    }
}

fn serves_every_trace_in_a_region_twice_its_peak(allocator: &Plugin) {
    for (name, _, trace) in RECORDED.iter().chain(&*PROGRAMS) {
        let twice = 2 * trace.peak_live().bytes();
        let report = replay(trace, allocator, "", twice, |_| {}).unwrap();
        let first = report.first_failure.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(report.failed, 0, "{name}: {first}");
        assert_eq!(report.peak_live_bytes, trace.peak_live().bytes(), "{name}");
        assert_eq!(report.live_bytes + report.free_bytes, twice, "{name}");
    }
}

#[test]
fn best_fit_serves_every_trace_in_a_region_twice_its_peak() {
    serves_every_trace_in_a_region_twice_its_peak(&Plugin::built_in::<cma_best_fit::BestFit>());
}

#[test]
fn buddy_serves_every_trace_in_a_region_twice_its_peak() {
    serves_every_trace_in_a_region_twice_its_peak(&Plugin::built_in::<cma_buddy::Buddy>());
}

#[test]
fn bitmap_serves_every_trace_in_a_region_twice_its_peak() {
    serves_every_trace_in_a_region_twice_its_peak(&Plugin::built_in::<cma_bitmap::Bitmap>());
}

#[test]
fn packing_serves_every_trace_in_a_region_twice_its_peak() {
    serves_every_trace_in_a_region_twice_its_peak(&Plugin::built_in::<cma_packing::Packing>());
}

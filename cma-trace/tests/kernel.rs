//! Recordings of real kernels are imported, and tell the same as the kernel did: `bitmap` gives the
//! kernel's addresses and refuses what the kernel refused.

use cma_framework::config::{Bytes, Map};
use cma_framework::{
    AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, Device, DmaAddr, Plugin,
};
use cma_trace::kernel::{Event, ImportOptions, Imported, KernelLog, Line, What, events, import};
use cma_trace::{Action, Trace, replay};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const PAGE: u64 = 4096;
/// The size of the area of both recordings.
const AREA: u64 = 64 << 20;

struct Recording {
    name: &'static str,
    /// The address of the area.
    start: u64,
    /// Requests that the kernel served, and those among them that it served at the first try.
    served: usize,
    at_once: usize,
    /// Tries at places that were free and could not be emptied.
    busy: usize,
    /// Requests that the kernel refused.
    refused: usize,
    /// Requests that first fit and best fit refuse when no place is busy.
    by_first_fit: u64,
    by_best_fit: u64,
}

const RECORDINGS: [Recording; 2] = [
    Recording {
        name: "arm64-vivid",
        start: 0x7ac0_0000,
        served: 3687,
        at_once: 3682,
        busy: 5,
        refused: 145,
        by_first_fit: 143,
        by_best_fit: 94,
    },
    Recording {
        name: "amd64-dmaheap",
        start: 0x43c0_0000,
        served: 4508,
        at_once: 4495,
        busy: 16,
        refused: 460,
        by_first_fit: 372,
        by_best_fit: 175,
    },
];

impl Recording {
    fn file(&self, name: &str) -> File {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let path = folder.join(self.name).join(name);
        File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn text(&self, name: &str) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(self.file(name)).read_to_string(&mut text).unwrap();
        text
    }

    /// Imported from the report of trace-cmd, which has the releases at the end.
    fn import(&self) -> Imported {
        import(self.file("trace-cmd-report.txt.gz"), &ImportOptions::new(self.name)).unwrap()
    }
}

fn bitmap() -> Plugin {
    Plugin::built_in::<cma_bitmap::Bitmap>()
}

/// The kernel's decisions, made again by `bitmap` in the kernel's area.
struct Kernel {
    device: Device,
    /// By thread.
    searches: HashMap<u32, Search>,
    /// By first page.
    live: HashMap<u64, Chunk>,
    served: usize,
    at_once: usize,
    refused: usize,
    busy: usize,
}

/// A request that has begun, and the answer to its last search.
struct Search {
    request: ChunkRequest,
    answer: Result<Chunk, AllocError>,
}

impl Kernel {
    fn new(cma: &Cma, start: u64) -> Kernel {
        let bitmap = AllocatorChoice::Given { plugin: bitmap(), params: String::new() };
        cma.region_register(Some("reserved"), DmaAddr::new(start), AREA, bitmap).unwrap();
        cma.set_map(Map::parse("*=reserved").unwrap());
        let device = cma.device("kernel", None).unwrap();
        let (searches, live) = (HashMap::new(), HashMap::new());
        Kernel { device, searches, live, served: 0, at_once: 0, refused: 0, busy: 0 }
    }

    fn search(&mut self, pid: u32, request: ChunkRequest) {
        let answer = self.device.allocate(&request);
        assert!(self.searches.insert(pid, Search { request, answer }).is_none());
    }

    fn take(&mut self, event: &Event<'_>) {
        let line = event.line;
        match event.what {
            What::Start { pages, align_order, at } => {
                assert_eq!(at, None, "line {line}");
                let request = ChunkRequest::new(Bytes(pages * PAGE));
                self.search(event.pid, request.aligned(Bytes(PAGE << align_order)));
            }
            // The kernel goes on behind the next multiple of the alignment.
            What::Busy { first } => {
                let Search { request, answer } = self.searches.remove(&event.pid).unwrap();
                let chunk = answer.unwrap_or_else(|e| panic!("line {line}: {e}"));
                assert_eq!(chunk.range().first_page(), first, "line {line}");
                drop(chunk);
                let behind = DmaAddr::new(first * PAGE + request.alignment.0);
                self.search(event.pid, request.above(behind));
                self.busy += 1;
            }
            What::Finish { first, .. } => {
                let Search { request, answer } = self.searches.remove(&event.pid).unwrap();
                let found = answer.as_ref().ok().map(|chunk| chunk.range().first_page());
                assert_eq!(found, first, "line {line}: {answer:?}");
                match answer {
                    Ok(chunk) => {
                        self.live.insert(chunk.range().first_page(), chunk);
                        self.served += 1;
                        self.at_once += usize::from(request.above.is_none());
                    }
                    Err(_) => self.refused += 1,
                }
            }
            What::Release { first, pages } => {
                let chunk = self.live.remove(&first).unwrap_or_else(|| panic!("line {line}"));
                assert_eq!(chunk.size(), pages * PAGE, "line {line}");
            }
        }
    }
}

#[test]
fn bitmap_gives_the_kernels_addresses_and_refuses_what_it_refused() {
    for recording in &RECORDINGS {
        let cma = Cma::new();
        let mut kernel = Kernel::new(&cma, recording.start);
        events(recording.file("trace-cmd-report.txt.gz"), |line| {
            let Line::Event(event) = line else { panic!("{line:?}") };
            kernel.take(&event);
            Ok(())
        })
        .unwrap();
        assert_eq!(
            (kernel.served, kernel.at_once, kernel.busy, kernel.refused),
            (recording.served, recording.at_once, recording.busy, recording.refused),
            "{}",
            recording.name
        );
    }
}

#[test]
fn the_trace_has_the_requests_and_the_refusals_of_the_kernel() {
    for recording in &RECORDINGS {
        let Imported { trace, regions, warnings, .. } = recording.import();
        assert!(warnings.is_empty(), "{}: {warnings:?}", recording.name);
        let [region] = &regions[..] else { panic!("{regions:?}") };
        assert_eq!(region.name.as_deref(), Some("reserved"));
        assert_eq!(region.used.start, recording.start);
        let is_served = |action: &Action| matches!(action, Action::Allocate { .. });
        let served = trace.operations().iter().filter(|op| is_served(&op.action)).count();
        assert_eq!(served, recording.served, "{}", recording.name);
        assert_eq!(trace.refused(), recording.refused as u64, "{}", recording.name);
        let requesters: Vec<_> = trace.requesters().iter().map(ToString::to_string).collect();
        let is_camera = |r: &String| r.starts_with("camera-") && r.ends_with(" from=reserved");
        assert!(requesters.iter().any(is_camera), "{requesters:?}");
    }
}

#[test]
fn best_fit_would_have_refused_fewer_requests_than_first_fit() {
    for recording in &RECORDINGS {
        let trace = recording.import().trace;
        let refused = |plugin: &Plugin| replay(&trace, plugin, "", AREA, |_| {}).unwrap().failed;
        assert_eq!(refused(&bitmap()), recording.by_first_fit, "{}", recording.name);
        let best_fit = Plugin::built_in::<cma_best_fit::BestFit>();
        assert_eq!(refused(&best_fit), recording.by_best_fit, "{}", recording.name);
    }
}

#[test]
fn the_kernels_file_and_the_report_of_trace_cmd_tell_the_same() {
    for recording in &RECORDINGS {
        let report = recording.import().trace;
        let kernel = import(recording.file("trace.txt.gz"), &ImportOptions::new(recording.name));
        let kernel = kernel.unwrap().trace;
        // The report was made later, and has the releases that followed.
        let (common, later) = report.operations().split_at(kernel.operations().len());
        assert_eq!(kernel.operations(), common, "{}", recording.name);
        assert!(later.iter().all(|op| matches!(op.action, Action::Free { .. })), "{later:?}");
        assert_eq!(kernel.requesters(), report.requesters());
    }
}

/// The pages of the chunks that a trace has at its start, sorted.
fn pages_at_the_start(trace: &Trace) -> Vec<u64> {
    let mut pages = Vec::new();
    for operation in trace.operations() {
        if let Action::Allocate { size, alignment, limits, .. } = operation.action {
            let request = trace.limits()[usize::from(limits)].request(size, alignment);
            if let Some(at) = request.at {
                assert_eq!(operation.time_us, 0);
                pages.extend(at.page()..at.page() + size / PAGE);
            }
        }
    }
    pages.sort_unstable();
    pages
}

/// The pages that are allocated at the end of `text`, sorted.
fn pages_at_the_end(text: &str) -> Vec<u64> {
    let mut live = HashMap::new();
    events(text.as_bytes(), |line| {
        match line {
            Line::Event(Event { what: What::Finish { first: Some(first), pages, .. }, .. }) => {
                live.insert(first, first..first + pages);
            }
            Line::Event(Event { what: What::Release { first, .. }, .. }) => {
                live.remove(&first).unwrap();
            }
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    let mut pages: Vec<u64> = live.into_values().flatten().collect();
    pages.sort_unstable();
    pages
}

#[test]
fn what_lived_before_a_recording_is_reconstructed_wherever_it_begins() {
    for recording in &RECORDINGS {
        let text = recording.text("trace.txt.gz");
        let log = KernelLog::read(recording.file("dmesg.txt.gz")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for cut in [1000, 5000, 9999] {
            let name = format!("{} from line {cut} on", recording.name);
            let expected = pages_at_the_end(&lines[..cut].join("\n"));
            let rest = lines[cut..].join("\n");
            let mut options = ImportOptions::new(&name);
            options.log = Some(&log);
            let imported = import(rest.as_bytes(), &options).unwrap();
            assert_eq!(pages_at_the_start(&imported.trace), expected, "{name}");
            // Without the log, those that are released in the recording.
            options.log = None;
            let imported = import(rest.as_bytes(), &options).unwrap();
            let released = pages_at_the_start(&imported.trace);
            assert!(!released.is_empty() && released.iter().all(|page| expected.contains(page)));
        }
    }
}

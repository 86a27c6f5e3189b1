//! A recording of a framework, replayed on the same system, returns the same addresses and refuses
//! the same requests; and whatever the file does, the framework works on.

use cma_framework::config::{Bytes, Map};
use cma_framework::events::{Event, Observation, Observer, What};
use cma_framework::{
    AllocatorChoice, Chunk, ChunkRequest, Cma, DmaAddr, PageRange, Plugin, Process, Source,
};
use cma_trace::{Action, Recorder, RecorderError, Trace, replay_on};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{mem, thread};
use tempfile::NamedTempFile;

const MIB: u64 = 1 << 20;
const BASE: u64 = 0x4000_0000;
const LONG: Duration = Duration::from_secs(60);

fn allocators() -> [Plugin; 4] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ]
}

/// Two regions, and devices that use one of them, both in turn, or both as a group.
fn system(plugin: &Plugin) -> Cma {
    let cma = Cma::new();
    for (name, start, size) in [("r", BASE, 4 * MIB), ("q", BASE + 8 * MIB, 3 * MIB)] {
        let (plugin, params) = (plugin.clone(), String::new());
        let choice = AllocatorChoice::Given { plugin, params };
        cma.region_register(Some(name), DmaAddr::new(start), size, choice).unwrap();
    }
    cma.set_map(Map::parse("one=r;other=q;turn=r,q;group=r|q;unknown=nowhere").unwrap());
    cma
}

/// Keeps the place of each chunk, in order; of the chunks at the start too.
#[derive(Default)]
struct Places(Mutex<Vec<PageRange>>);

impl Observer for Places {
    fn receive(&self, event: &Event) {
        let mut places = self.0.lock().unwrap();
        match &event.what {
            What::Began { live, .. } => places.extend(live.iter().map(|owner| owner.range)),
            What::Placed { range, .. } => places.push(*range),
            What::Missed { .. } => panic!("events were dropped"),
            _ => {}
        }
    }
}

impl Places {
    fn of(cma: &Cma) -> (Arc<Places>, Observation) {
        let places = Arc::new(Places::default());
        (places.clone(), cma.observe(places).unwrap())
    }

    fn take(&self, observation: &Observation) -> Vec<PageRange> {
        assert!(observation.catch_up(LONG));
        mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A generator of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// Requests and frees of every kind.
fn use_randomly(cma: &Cma, random: &mut Random, operations: usize, live: &mut Vec<Chunk>) {
    for _ in 0..operations {
        let size = 1 + random.below(600) * 1024;
        let align = 1 << random.below(17);
        let name = ["one", "other", "turn", "group", "unknown", "nobody"][random.below(6) as usize];
        let device = Source::Device { name, kind: [None, Some("frame")][random.below(2) as usize] };
        let request = ChunkRequest::new(Bytes(size)).aligned(Bytes(align));
        let chunk = match random.below(9) {
            0 => cma.alloc_from(["q,r", "r", "nowhere,q"][random.below(3) as usize], size, align),
            1 => cma.allocate(device, &request.below(DmaAddr::new(BASE + 2 * MIB))),
            2 => cma.allocate(device, &request.boundary(Bytes(MIB))),
            3 => {
                let at = DmaAddr::new(BASE + random.below(1024) * 4096);
                cma.allocate(device, &ChunkRequest::new(Bytes(size)).at(at))
            }
            4 => {
                let process = Process { uid: 1, pid: 2, name: "a player".into() };
                cma.to_share(process, device, &request).unwrap().alloc()
            }
            5 => {
                let region = cma.region("r").unwrap();
                cma.alloc_from_region(&region, size, align)
            }
            _ => cma.alloc(name, None, size, align),
        };
        live.extend(chunk);
        while live.len() > 40 || !live.is_empty() && random.below(5) < 2 {
            let at = random.below(live.len() as u64) as usize;
            drop(live.swap_remove(at));
        }
    }
}

/// Has each region adopt its chunks anew, so that its allocator remembers nothing else.
fn adopt_anew(cma: &Cma, plugin: &Plugin) {
    for region in cma.regions() {
        let (plugin, params) = (plugin.clone(), String::new());
        cma.set_region_allocator(&region, AllocatorChoice::Given { plugin, params }).unwrap();
    }
}

fn refused(trace: &Trace) -> usize {
    let is_refusal = |action: Action| matches!(action, Action::Refused { .. });
    trace.operations().iter().filter(|operation| is_refusal(operation.action)).count()
}

/// Replays `trace` on a new system. Returns the places of its chunks.
fn replayed(plugin: &Plugin, trace: &Trace) -> (Vec<PageRange>, u64) {
    let cma = system(plugin);
    let (places, observation) = Places::of(&cma);
    let report = replay_on(&cma, trace, |_| {});
    (places.take(&observation), report.failed)
}

#[test]
fn a_replay_of_a_random_run_returns_the_same_addresses_and_refuses_the_same_requests() {
    for (plugin, seed) in allocators().iter().flat_map(|plugin| (1..=8).map(move |n| (plugin, n))) {
        let cma = system(plugin);
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut live = Vec::new();
        // Every other recording begins with live chunks.
        if seed % 2 == 0 {
            use_randomly(&cma, &mut random, 300, &mut live);
            adopt_anew(&cma, plugin);
        }
        let adopted = live.len();
        let (places, observation) = Places::of(&cma);
        let file = NamedTempFile::new().unwrap();
        let recorder = Recorder::start(&cma, file.reopen().unwrap(), "a random run").unwrap();
        use_randomly(&cma, &mut random, 1500, &mut live);
        let recorded = recorder.finish(LONG).unwrap();
        assert_eq!(recorded.missed, 0);
        let trace = Trace::read(file.reopen().unwrap()).unwrap();
        assert_eq!((trace.figures(), trace.source()), (recorded.figures, "a random run"));
        let places = places.take(&observation);
        assert!(places.len() > adopted + 300 && refused(&trace) > 100, "{}", plugin.name());
        let (again, failed) = replayed(plugin, &trace);
        let differs = again.iter().zip(&places).position(|(again, place)| again != place);
        assert_eq!(differs, None, "{} with seed {seed}", plugin.name());
        assert_eq!(again.len(), places.len(), "{} with seed {seed}", plugin.name());
        assert_eq!(failed, refused(&trace) as u64, "{} with seed {seed}", plugin.name());
    }
}

#[test]
fn a_replay_of_many_threads_returns_the_same_addresses_in_each_region() {
    for plugin in &allocators() {
        let cma = system(plugin);
        let (places, observation) = Places::of(&cma);
        let file = NamedTempFile::new().unwrap();
        let recorder = Recorder::start(&cma, file.reopen().unwrap(), "threads").unwrap();
        thread::scope(|threads| {
            for (seed, name) in (1..).zip(["one", "other", "one", "other"]) {
                let device = cma.device(name, None).unwrap();
                threads.spawn(move || {
                    let (mut random, mut live) = (Random(seed), Vec::new());
                    for _ in 0..2000 {
                        live.extend(device.alloc(1 + random.below(900) * 1024, 0));
                        while live.len() > 6 || !live.is_empty() && random.below(5) < 2 {
                            let at = random.below(live.len() as u64) as usize;
                            drop(live.swap_remove(at));
                        }
                    }
                });
            }
        });
        assert_eq!(recorder.finish(LONG).unwrap().missed, 0);
        let trace = Trace::read(file.reopen().unwrap()).unwrap();
        let places = places.take(&observation);
        let (again, failed) = replayed(plugin, &trace);
        assert!(failed > 100, "{failed} requests failed");
        assert_eq!(failed, refused(&trace) as u64, "{}", plugin.name());
        for region in cma.regions() {
            let of_region = |places: &[PageRange]| -> Vec<_> {
                places.iter().filter(|range| range.within(region.range())).copied().collect()
            };
            assert_eq!(of_region(&again), of_region(&places), "{} in {region}", plugin.name());
        }
    }
}

#[test]
fn a_recording_that_was_cut_off_anywhere_has_the_operations_before() {
    let cma = system(&allocators()[0]);
    let file = NamedTempFile::new().unwrap();
    let recorder = Recorder::start(&cma, file.reopen().unwrap(), "killed").unwrap();
    let mut live = Vec::new();
    use_randomly(&cma, &mut Random(7), 40, &mut live);
    // Idle, it writes all that it has.
    let text = loop {
        let text = fs::read(file.path()).unwrap();
        if text.iter().filter(|byte| **byte == b'\n').count() > 60 {
            break text;
        }
        thread::yield_now();
    };
    let head = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0 + 1;
    for end in head..=text.len() {
        let trace = Trace::read(&text[..end]).unwrap();
        let lines = text[head..end].split_inclusive(|byte| *byte == b'\n');
        let whole = lines.filter(|line| line.ends_with(b"\n") && !line.starts_with(b"#")).count();
        assert_eq!(trace.operations().len(), whole);
    }
    recorder.finish(LONG).unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(text.ends_with("# the recording is complete\n"));
    // It is complete now, and what is missing is noticed.
    let cut = text.trim_end().rfind("\n").unwrap();
    let cut = text[..cut].rfind("\n").unwrap();
    assert!(Trace::read(text.as_bytes()).is_ok() && Trace::read(&text.as_bytes()[..cut]).is_err());
}

/// A pipe, as files.
fn pipe() -> (File, File) {
    let (reader, writer) = io::pipe().unwrap();
    (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
}

fn use_once(cma: &Cma) {
    drop(cma.alloc("one", None, 4096, 0).unwrap());
}

#[test]
fn a_file_that_fails_ends_the_recording_and_nothing_else() {
    let cma = system(&allocators()[0]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(Recorder::start(&cma, full, "").is_err());
    let (reader, writer) = pipe();
    let recorder = Recorder::start(&cma, writer, "").unwrap();
    drop(reader);
    (0..1000).for_each(|_| use_once(&cma));
    assert!(matches!(recorder.finish(LONG), Err(RecorderError::Io(_))));
    use_once(&cma);
}

#[test]
fn a_file_that_blocks_delays_no_request_and_is_left() {
    let cma = system(&allocators()[0]);
    let (_reader, writer) = pipe();
    let recorder = Recorder::start(&cma, writer, "").unwrap();
    (0..100_000).for_each(|_| use_once(&cma));
    let error = recorder.finish(Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, RecorderError::TooSlow { waiting } if waiting > 1000), "{error}");
    use_once(&cma);
}

#[test]
fn a_recording_with_missed_events_says_so_and_has_the_chunks_that_are_live() {
    let cma = system(&allocators()[0]);
    let (mut reader, writer) = pipe();
    let recorder = Recorder::start(&cma, writer, "slow").unwrap();
    let before = cma.alloc("one", None, 8192, 0).unwrap();
    (0..120_000).for_each(|_| use_once(&cma));
    let after = cma.alloc("other", None, 8192, 0).unwrap();
    drop(before);
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    // The regions begin anew after the drops.
    let recorded = recorder.finish(LONG).unwrap();
    let text = reading.join().unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(recorded.missed > 0);
    let end = format!("# the recording is not complete: {} events were missed\n", recorded.missed);
    assert!(text.ends_with(&end), "{}", &text[text.len() - 200..]);
    let trace = Trace::read(text.as_bytes()).unwrap();
    assert_eq!(trace.figures(), recorded.figures);
    drop(after);
}

#[test]
fn names_that_a_trace_cannot_have_are_replaced() {
    let cma = system(&allocators()[0]);
    let file = NamedTempFile::new().unwrap();
    let recorder = Recorder::start(&cma, file.reopen().unwrap(), "odd\nnames").unwrap();
    let long = "x".repeat(1000);
    cma.set_map(Map::parse("*,*=r").unwrap());
    for (device, kind) in [("a b/c", Some("d\ne")), (&*long, Some(&*long)), ("ä€", None)] {
        drop(cma.alloc(device, kind, 4096, 0).unwrap());
        cma.alloc(device, kind, u64::MAX - 5000, 0).unwrap_err();
        cma.alloc(device, kind, 1 << 40, 0).unwrap_err();
    }
    cma.alloc_from(&format!("{long} ;,="), 4096, 0).unwrap_err();
    recorder.finish(LONG).unwrap();
    let trace = Trace::read(file.reopen().unwrap()).unwrap();
    assert_eq!(trace.source(), "odd names");
    let names: Vec<_> = trace.requesters().iter().map(ToString::to_string).collect();
    assert_eq!(names[0], "a_b_c/d_e");
    assert_eq!(names[2..], ["ä€", "host"]);
    assert_eq!(trace.operations().len(), 3 * 4 + 1);
}

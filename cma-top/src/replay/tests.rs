use super::*;
use cma_framework::Plugin;
use cma_trace::Recording;

/// 8 KiB from 0 on, 8 KiB more at 100 µs, which a region of three pages refuses, freed at 200 µs.
fn example(speed: Option<f64>) -> Replay {
    let mut recording = Recording::new("made by hand");
    let first = recording.allocate(0, 8192, 1, "camera/frame").unwrap();
    recording.allocate(100, 8192, 1, "codec").unwrap();
    recording.free(200, first).unwrap();
    Replay {
        name: "example".to_string(),
        trace: recording.finish(),
        allocator: Allocator::new(Plugin::built_in::<cma_best_fit::BestFit>()),
        region: PageRange::from_pages(1 << 20, 3),
        speed,
    }
}

fn books(sample: &Sample) -> &Books {
    sample.state.regions[0].books.as_ref().unwrap()
}

fn on_example(speed: Option<f64>, check: impl FnOnce(&mut ReplaySource<'_>)) {
    let replay = example(speed);
    let run = Run::new(&replay.trace, &replay.allocator, replay.region).unwrap();
    check(&mut ReplaySource::new(&replay, run));
}

#[test]
fn the_time_of_the_trace_goes_as_fast_as_the_speed_says() {
    on_example(Some(0.001), |source| {
        let first = source.read(Duration::ZERO).unwrap();
        assert_eq!((books(&first).chunks.len(), first.ended), (1, false));
        let chunk = &books(&first).chunks[0];
        assert_eq!(chunk.requester.as_ref().unwrap().to_string(), "camera/frame");
        let before = source.read(Duration::from_millis(99)).unwrap();
        assert_eq!(books(&before).requests_refused, 0);
        assert_eq!(books(&before).chunks[0].age, Some(Duration::from_micros(99)));
        let refused = source.read(Duration::from_millis(51)).unwrap();
        assert_eq!(books(&refused).requests_refused, 1);
        let failure = &books(&refused).failures[0];
        assert_eq!(failure.age, Duration::from_micros(50));
        assert_eq!(failure.requester.as_ref().unwrap().to_string(), "codec/common");
        assert!(failure.reason.contains("full"), "{}", failure.reason);
        source.change_pace(true);
        let end = source.read(Duration::from_millis(25)).unwrap();
        assert!(end.ended && books(&end).chunks.is_empty());
        assert_eq!(books(&end).chunks_freed, 1);
        assert!(end.pace.starts_with("3 of 3 operations"), "{}", end.pace);
    });
}

#[test]
fn a_step_is_one_operation_and_the_last_is_the_end() {
    on_example(None, |source| {
        let live = [(); 5].map(|()| {
            let sample = source.step().unwrap();
            (books(&sample).chunks.len(), sample.ended)
        });
        assert_eq!(live, [(1, false), (1, false), (0, true), (0, true), (0, true)]);
    });
}

#[test]
fn without_a_speed_the_trace_takes_a_minute() {
    on_example(None, |source| {
        assert!(!source.read(Duration::from_secs(59)).unwrap().ended);
        assert!(source.read(Duration::from_secs(1)).unwrap().ended);
    });
}

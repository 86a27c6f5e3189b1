//! What is learned needs no more than nothing, and copies are like their recording.

use super::copies::Copy;
use super::*;
use crate::allocator::Allocator;
use crate::smallest::serves;
use cma_framework::Plugin;
use cma_trace::{Recording, Trace};

/// Buffers of random sizes of which random ones stay.
fn recording(seed: u64, operations: usize) -> Trace {
    let mut random = Random::new(seed);
    let mut recording = Recording::new("random");
    let mut live = Vec::new();
    for time in 0..operations as u64 {
        let size = (4096.0 * 2.0_f64.powf(8.0 * random.unit())) as u64;
        if live.len() > 30 || (live.len() > 4 && random.unit() < 0.45) {
            let n = (random.unit() * live.len() as f64) as usize;
            recording.free(time, live.swap_remove(n)).expect("it is live");
        } else {
            live.push(recording.allocate(time, size, 1, "program").expect("it is valid"));
        }
    }
    recording.finish()
}

fn demand(trace: &Trace) -> Demand<'_> {
    Demand::of(trace, None).expect("the trace has requests")
}

#[test]
fn the_profile_of_a_recording_needs_no_more_for_it_than_none() {
    let mut gained = 0;
    for seed in 1..4 {
        let trace = recording(seed, 160);
        let learned = learn(&[demand(&trace)], &|| ()).expect("packing serves it");
        let [effect] = learned.effects[..] else { panic!("one recording has one effect") };
        assert!(effect.with <= effect.without, "{effect:?}");
        gained += usize::from(effect.with < effect.without && !learned.is_default());
        // What is written does as well as what was tried.
        let read: Profile = learned.profile.to_string().parse().expect("it is a profile");
        let copy = Copy::of(&demand(&trace), 0);
        assert!(copy.serves(&read, effect.with.get()), "{effect:?}");
        assert!(!copy.serves(&read, effect.with.get() - 1), "{effect:?}");
    }
    assert!(gained > 0, "something was learned");
}

#[test]
fn a_choice_is_better_only_by_more_than_chance() {
    let choice =
        |beyond: [f64; 4]| Choice { beyond: beyond.to_vec(), ..Choice::new(Rule::default()) };
    let usual = choice([0.1, 0.12, 0.14, 0.16]);
    assert!(choice([0.08, 0.1, 0.12, 0.14]).is_better_than(&usual));
    assert!(!choice([0.02, 0.12, 0.14, 0.16]).is_better_than(&usual), "one copy of four");
    assert!(!choice([0.099, 0.119, 0.139, 0.159]).is_better_than(&usual), "a thousandth");
    assert!(!usual.is_better_than(&usual));
}

#[test]
fn learning_again_with_other_threads_finds_the_same() {
    let trace = recording(5, 100);
    let demands = [demand(&trace)];
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let learned = pool.expect("a pool starts").install(|| learn(&demands, &|| ()));
        learned.expect("packing serves it")
    };
    let (one, three) = (on(1), on(3));
    assert_eq!((one.profile, one.effects), (three.profile, three.effects));
}

#[test]
fn a_recording_without_loss_teaches_the_numbers_without_a_profile() {
    let mut recording = Recording::new("one size");
    let chunks: Vec<_> = (0..40)
        .map(|time| recording.allocate(time, 8192, 1, "program").expect("it is valid"))
        .collect();
    chunks.into_iter().for_each(|chunk| recording.free(99, chunk).expect("it is live"));
    let trace = recording.finish();
    let learned = learn(&[demand(&trace)], &|| ()).expect("packing serves it");
    assert!(learned.is_default());
    assert_eq!(
        learned.profile.beginnings.iter().map(|one| one.requests).collect::<Vec<_>>(),
        [16, 32, 40]
    );
}

#[test]
fn the_first_copy_is_served_as_the_recording_and_others_differ_a_little() {
    let trace = recording(6, 2000);
    let demand = demand(&trace);
    let copy = Copy::of(&demand, 0);
    let packing = Allocator::new(Plugin::built_in::<cma_packing::Packing>());
    let peak = demand.peak().pages.get();
    let profile = describe(&[Demand::of(&trace, None).expect("it has requests")]);
    let mut refused = 0;
    for pages in (peak..2 * peak).step_by((peak / 60) as usize) {
        let served = serves(&demand, &packing, Pages::new(pages)).is_ok();
        assert_eq!(copy.serves(&profile, pages), served, "{pages} pages");
        refused += usize::from(!served);
    }
    assert!(refused > 2, "{refused}");
    let requests = demand.chunks().len() as f64;
    for seed in 1..4 {
        let steps = Copy::of(&demand, seed).steps() as f64;
        let all = trace.operations().len() as f64;
        assert!((steps - all).abs() < requests * 0.06, "{steps} steps, {all} operations");
    }
    assert_ne!(Copy::of(&demand, 1).smallest(&profile), Copy::of(&demand, 2).smallest(&profile));
}

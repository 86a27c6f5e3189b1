//! `cma_trace::kernel`, recordings of a kernel's contiguous memory allocator, and its log.

use super::trace::{is_sound, survives_writing};
use super::{grammar, is_one_line, variant};
use crate::{Form, Outcome, Target};
use cma_trace::kernel::{ImportError, ImportOptions, Imported, KernelLog, import, state};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "kernel",
    about: "recordings of a kernel's contiguous memory allocator, and its log",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/kernel.dict"),
    check,
};

/// Events in each form of a line, of few threads, areas and pages, so that they meet.
fn generate() -> BoxedStrategy<Vec<u8>> {
    let event = grammar(
        "cma_alloc_start: name=[ab] count=[1-4] align=[0-2]\
         |cma_alloc_busy_retry: name=[ab] pfn=0x[1-3][0-9a-f] page=0 count=[1-4] align=[0-2]\
         |cma_alloc_finish: name=[ab] pfn=0x[1-3][0-9a-f] page=1 count=[1-4] align=[0-2] errorno=(0|-12)\
         |cma_alloc: pfn=[1-3][0-9a-f] page=[01] count=[1-4] align=[0-2]\
         |cma_release: name=[ab] pfn=0x[1-3][0-9a-f] page=1 count=[1-9]\
         |cma_release: (name=\\PC{0,3} )?pfn=\\PC{0,3} count=[0-9]{1,20}",
    );
    let head = grammar("t-[1-3] \\[00[01]\\] [.dN]{5}|t   [1-3] \\[000\\]|t [1-3]/[1-3]|\\PC{0,9}");
    let lost = grammar("CPU:[01] \\[LOST [0-9]{1,3} EVENTS\\]");
    let list = grammar(
        "(\\[    [01]\\.0000[0-9][0-9]\\] )?cma: number of available pages: ([1-9]@[1-9]{1,2}\\+){0,2}[1-3]@9[0-9]{0,2}=> [0-9]{1,2} free of [0-9]{2,4} total pages",
    );
    let line = prop_oneof![
        20 => (0..4_u64, head, event).prop_map(|(pause, head, event)| (pause, head, event)),
        1 => lost.prop_map(|text| (0, String::new(), text)),
        1 => list.prop_map(|text| (0, String::new(), text)),
    ];
    prop::collection::vec(line, 0..30)
        .prop_map(|lines| {
            let (mut time, mut text) = (1_000_000_u64, String::new());
            for (pause, head, event) in lines {
                time += pause;
                if !head.is_empty() {
                    let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
                    text += &format!("{head} {seconds}.{micros:06}: ");
                }
                text += &event;
                text.push('\n');
            }
            text.into_bytes()
        })
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let log = KernelLog::read(input);
    let mut options = ImportOptions::new("fuzzing");
    options.start = Some(0x1_0000);
    if let Ok(log) = &log {
        sound(input, state(log, &options));
    }
    // Without the log, and with it.
    let plain = import(input, &options);
    options.log = log.as_ref().ok();
    if options.log.is_some() {
        sound(input, import(input, &options));
    }
    let outcome = match &plain {
        Ok(imported) => {
            let warnings = imported.warnings.iter().count();
            Outcome::accepted(format!("{warnings} warnings"))
        }
        Err(error) => Outcome::refused(variant(error)),
    };
    sound(input, plain);
    outcome
}

fn sound(input: &[u8], imported: Result<Imported, ImportError>) {
    match imported {
        Ok(imported) => {
            survives_writing(&imported.trace);
            is_sound(&imported.trace);
            let lines = input.split(|byte| *byte == b'\n').count() as u64;
            for warning in imported.warnings.iter() {
                is_one_line(&warning.to_string());
                assert!(warning.count() > 0 && (1..=lines).contains(&warning.line()), "{warning}");
            }
        }
        Err(error) => is_one_line(&error.to_string()),
    }
}

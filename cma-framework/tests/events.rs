//! `tracing` events of requests, named after mainline's tracepoints. Their fields are enough to
//! follow a chunk.

mod common;

use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps every event of a level as a line: its name and its fields.
#[derive(Clone)]
struct Lines(Level, Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "message" {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == self.0
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Fields(event.metadata().name().to_string());
        event.record(&mut line);
        self.1.lock().unwrap().push(line.0);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn events(level: Level, what: impl FnOnce()) -> Vec<String> {
    let lines = Lines(level, Arc::default());
    tracing::subscriber::with_default(lines.clone(), what);
    std::mem::take(&mut *lines.1.lock().unwrap())
}

fn framework() -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let choice = AllocatorChoice::Default;
    cma.region_register(Some("r"), DmaAddr::new(0x4000_0000), 0x10_0000, choice).unwrap();
    cma.set_map(Map::parse("camera=r").unwrap());
    cma
}

#[test]
fn a_request_has_two_events_and_a_release_has_one() {
    let cma = framework();
    let seen = events(Level::TRACE, || {
        drop(cma.alloc("camera", None, 5000, 0x4000).unwrap());
        cma.alloc("camera", None, 0x20_0000, 0).unwrap_err();
        let address = cma.alloc_from("r", 4096, 0).unwrap().into_addr();
        cma.free(address).unwrap();
    });
    let expected = [
        "cma_alloc_start device=\"camera\" type=\"common\" count=2 align=4",
        "cma_alloc_finish device=\"camera\" type=\"common\" region=r start=0x40000000 count=2 align=4 errno=0",
        "cma_release region=r start=0x40000000 count=2",
        "cma_alloc_start device=\"camera\" type=\"common\" count=512 align=1",
        "cma_alloc_finish device=\"camera\" type=\"common\" count=512 align=1 errno=12 \
         error=no region could serve it: r: too small: 2M requested of a region of 1M",
        "cma_alloc_start device=\"\" type=\"\" count=1 align=1",
        "cma_alloc_finish device=\"\" type=\"\" region=r start=0x40000000 count=1 align=1 errno=0",
        "cma_release region=r start=0x40000000 count=1",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn attaching_changing_and_refusing_are_events_on_debug() {
    let cma = framework();
    let seen = events(Level::DEBUG, || {
        let _chunk = cma.alloc("camera", None, 4096, 0).unwrap();
        cma.alloc("camera", None, 0x20_0000, 0).unwrap_err();
        cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
        let region = cma.region("r").unwrap();
        cma.set_region_allocator(&region, AllocatorChoice::named("buddy")).unwrap();
    });
    let expected = [
        "cma_attach region=r allocator=\"best-fit\"",
        "cma_refuse region=r count=512 align=1 reason=too small: 2M requested of a region of 1M",
        "cma_detach region=r allocator=\"best-fit\"",
        "cma_attach region=r allocator=\"buddy\"",
    ];
    assert_eq!(seen, expected);
    let seen = events(Level::WARN, || {
        let _chunk = cma.alloc("camera", None, 4096, 0).unwrap();
        let region = cma.region("r").unwrap();
        cma.set_region_allocator(&region, AllocatorChoice::named("nobody")).unwrap_err();
    });
    assert_eq!(seen.len(), 1);
    assert!(seen[0].contains("1 live chunk needs an allocator to adopt it"), "{seen:?}");
}

#[test]
fn every_attached_allocator_is_detached_once() {
    let given = || AllocatorChoice::Given {
        plugin: Plugin::built_in::<cma_buddy::Buddy>(),
        params: String::new(),
    };
    let seen = events(Level::DEBUG, || {
        let cma = Cma::new();
        let region = common::region(&cma, "r", common::BASE, common::MIB, given());
        cma.region_register(Some("q"), region.range().start(), common::MIB, given()).unwrap_err();
        cma.region_unregister(&region).unwrap();
        let bad = common::region(&cma, "bad", common::BASE, common::MIB, common::scripted("-1+1"));
        cma.alloc_from_region(&bad, 4096, 0).unwrap_err();
        cma.region_unregister(&bad).unwrap();
    });
    let of = |name: &str| seen.iter().filter(|line| line.starts_with(name)).count();
    assert_eq!((of("cma_attach"), of("cma_detach")), (2, 2), "{seen:?}");
}

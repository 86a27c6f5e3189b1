//! Registering regions, allocators, devices and the map, and changing them under live chunks.

mod common;

use cma_framework::config::{Bank, Growth, Map};
use cma_framework::reserve::Banks;
use cma_framework::{
    AllocatorChoice, AllocatorState, ChangeError, Chunk, Cma, DmaAddr, Errno, PageRange, Plugin,
};
use common::{BASE, MIB, region, with_regions};

const BANK: &[Bank] = &[Bank::new(BASE, 0x1000_0000)];

fn best_fit() -> Plugin {
    Plugin::built_in::<cma_best_fit::BestFit>()
}

#[test]
fn a_private_region_is_reached_through_its_handle_alone() {
    let cma = with_regions(&["r"], "*=r");
    let private = cma
        .region_register(None, DmaAddr::new(BASE + 64 * MIB), MIB, AllocatorChoice::Default)
        .unwrap();
    let all: Vec<Chunk> = std::iter::from_fn(|| cma.alloc("x", None, MIB, 0).ok()).collect();
    assert_eq!((all.len(), private.status().users), (16, 0));
    let chunk = cma.alloc_from_region(&private, MIB, 0).unwrap();
    assert_eq!((chunk.start(), private.name()), (private.range().start(), None));
    cma.free(chunk.into_addr()).unwrap();
}

#[test]
fn a_region_without_an_allocator_is_healed_by_a_later_registration() {
    let cma = Cma::new();
    let named = region(&cma, "named", BASE, MIB, AllocatorChoice::named("best-fit"));
    let default = region(&cma, "default", BASE + MIB, MIB, AllocatorChoice::Default);
    assert_eq!(cma.alloc_from("named", 1, 0).unwrap_err().errno(), Errno::ENOMEM);
    assert_eq!(cma.alloc_from("default", 1, 0).unwrap_err().errno(), Errno::ENOMEM);
    let attachments = cma.allocator_register(best_fit()).unwrap();
    // A region with the default choice was tried before. It attaches at its next request.
    assert_eq!(attachments.attached, [named]);
    assert!(cma.alloc_from("named", 1, 0).is_ok());
    assert!(cma.alloc_from("default", 1, 0).is_ok());
    assert_eq!(default.status().allocator, AllocatorState::Attached(Some("best-fit".to_string())));
}

#[test]
fn an_allocator_without_a_name_serves_as_the_default_and_names_are_unique() {
    let cma = Cma::new();
    let r = region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    cma.allocator_register_as(None, best_fit()).unwrap();
    assert_eq!(r.status().allocator, AllocatorState::Attached(None));
    cma.allocator_register(best_fit()).unwrap();
    assert_eq!(cma.allocator_register(best_fit()).unwrap_err().errno(), Errno::EEXIST);
    assert_eq!(
        cma.allocator_register_as(Some("a b"), best_fit()).unwrap_err().errno(),
        Errno::EINVAL
    );
    cma.allocator_register_as(Some("other"), best_fit()).unwrap();
    assert_eq!(cma.allocators().len(), 3);
}

#[test]
fn parameters_reach_the_allocator_unchanged() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<common::Scripted>()).unwrap();
    cma.command_line(Some("r=1M:scripted(3+2 0+1)"), None).unwrap();
    cma.early_regions_reserve(&mut Banks::new(BANK, Growth::Up));
    cma.initialise();
    assert_eq!(cma.alloc_from("r", 8192, 0).unwrap().start(), DmaAddr::new(BASE + 3 * 4096));
}

#[test]
fn a_chunk_is_freed_by_dropping_its_guard_or_by_its_address() {
    let cma = with_regions(&["r"], "*=r");
    let r = cma.region("r").unwrap();
    let guard = cma.alloc("x", None, 5000, 0x10000).unwrap();
    assert_eq!((guard.size(), guard.start().get() % 0x10000), (8192, 0));
    let held = cma.free(guard.start()).unwrap_err();
    assert_eq!(held.errno(), Errno::EBUSY, "a guard's chunk is not freed under it");
    drop(guard);
    let address = cma.alloc("x", None, 5000, 0).unwrap().into_addr();
    assert_eq!(r.status().users, 1);
    for wrong in [address.get() + 4096, address.get() + 1, 0, u64::MAX, BASE - 4096] {
        assert_eq!(cma.free(DmaAddr::new(wrong)).unwrap_err().errno(), Errno::ENOENT);
    }
    cma.free(address).unwrap();
    assert_eq!((r.status().users, r.status().free_bytes), (0, 16 * MIB));
}

#[test]
fn info_adds_up_the_regions_a_device_may_use() {
    let cma = with_regions(&["a", "b", "c"], "x=c,a,nothing,a;y=nothing");
    let _chunk = cma.alloc_from("c", MIB, 0).unwrap();
    let info = cma.info("x", None).unwrap();
    assert_eq!((info.span.start().get(), info.span.bytes()), (BASE, 48 * MIB));
    assert_eq!((info.total_bytes, info.free_bytes, info.regions), (32 * MIB, 31 * MIB, 2));
    assert_eq!(cma.info_about("a,b;c").unwrap().regions, 2);
    assert_eq!(cma.info("y", None).unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(cma.info("z", None).unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(cma.info_about("nothing").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(cma.info("", None).unwrap_err().errno(), Errno::EINVAL);
    for list in ["", "a,", ",a", ";a"] {
        assert_eq!(cma.info_about(list).unwrap_err().errno(), Errno::EINVAL, "{list}");
        assert_eq!(cma.alloc_from(list, 1, 0).unwrap_err().errno(), Errno::EINVAL, "{list}");
    }
    assert_eq!(cma.alloc("", None, 1, 0).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(cma.alloc("x", None, 0, 0).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(cma.alloc("x", None, 1, 3).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn a_device_follows_the_configuration() {
    let cma = with_regions(&["a", "b"], "x=a");
    let device = cma.device("x", None).unwrap();
    assert_eq!(device.alloc(MIB, 0).unwrap().region().name(), Some("a"));
    cma.set_map(Map::parse("x=b").unwrap());
    assert_eq!(device.alloc(MIB, 0).unwrap().region().name(), Some("b"));
    cma.set_map(Map::default());
    assert_eq!(device.alloc(MIB, 0).unwrap_err().errno(), Errno::ENOENT);
    cma.set_map(Map::parse("x=late").unwrap());
    assert_eq!(device.alloc(MIB, 0).unwrap_err().errno(), Errno::ENOMEM);
    region(&cma, "late", BASE + 64 * MIB, MIB, AllocatorChoice::Default);
    assert_eq!(device.alloc(MIB, 0).unwrap().region().name(), Some("late"));
    assert!(cma.device("", None).is_err());
}

#[test]
fn more_devices_than_routes_are_kept_for_are_all_served() {
    let cma = with_regions(&["a"], "*=a");
    for i in 0..3000 {
        assert!(cma.alloc(&format!("device{i}"), None, 4096, 0).is_ok());
    }
    assert!(cma.alloc("device0", None, 4096, 0).is_ok());
}

#[test]
fn an_allocator_is_changed_under_live_chunks_if_it_can_adopt_them_all() {
    let cma = with_regions(&["r"], "*=r");
    let r = cma.region("r").unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    let mut live: Vec<Chunk> =
        (1..100).map(|i| cma.alloc("x", None, i * 4096 % 60000 + 1, 0).unwrap()).collect();
    for name in ["buddy", "bitmap", "best-fit", "bitmap", "buddy", "best-fit"] {
        live.truncate(live.len() * 4 / 5);
        let places: Vec<_> = live.iter().map(Chunk::range).collect();
        let state = cma.set_region_allocator(&r, AllocatorChoice::named(name)).unwrap();
        assert_eq!(state, AllocatorState::Attached(Some(name.to_string())));
        assert_eq!(live.iter().map(Chunk::range).collect::<Vec<_>>(), places);
        r.check().unwrap();
        live.extend((1..40).map(|i| cma.alloc("x", None, i * 5000, 0).unwrap()));
        r.check().unwrap();
    }
    // No allocator has that name: with live chunks nothing changes, without any the region waits.
    let error = cma.set_region_allocator(&r, AllocatorChoice::named("nobody")).unwrap_err();
    assert!(matches!(error, ChangeError::NobodyAdopts { .. }));
    assert_eq!(error.errno(), Errno::EBUSY);
    assert!(cma.alloc("x", None, 4096, 0).is_ok());
    drop(live);
    r.check().unwrap();
    let waits = cma.set_region_allocator(&r, AllocatorChoice::named("nobody")).unwrap();
    assert_eq!(
        waits,
        AllocatorState::Waiting { wanted: Some("nobody".to_string()), failure: None }
    );
}

#[test]
fn the_books_are_correct_after_requests_and_changes_from_many_threads() {
    let cma = with_regions(&["a", "b"], "x=a,b");
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2u64)
            .map(|seed| {
                let cma = &cma;
                scope.spawn(move || {
                    let device = cma.device("x", None).unwrap();
                    let mut live: Vec<Chunk> = Vec::new();
                    let mut state = seed;
                    for _ in 0..20_000 {
                        state = state
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        let random = (state >> 33) as usize;
                        if live.len() > 50 || (random.is_multiple_of(2) && !live.is_empty()) {
                            drop(live.swap_remove(random % live.len()));
                        } else if let Ok(chunk) = device.alloc(random as u64 % 100_000 + 1, 0) {
                            assert!(
                                live.iter().all(|other| !other.range().overlaps(chunk.range()))
                            );
                            live.push(chunk);
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for round in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                cma.set_map(Map::parse(["x=a,b", "x=b,a"][round % 2]).unwrap());
                let name = ["best-fit", "buddy", "bitmap"][round % 3];
                cma.set_region_allocator(&cma.region("a").unwrap(), AllocatorChoice::named(name))
                    .unwrap();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for region in cma.regions() {
        region.check().unwrap();
        assert_eq!((region.status().users, region.status().free_bytes), (0, 16 * MIB));
    }
}

#[test]
fn regions_that_fill_the_address_space_add_up() {
    let cma = Cma::new();
    for (name, start) in [("a", 0), ("b", 1 << 63)] {
        cma.region_register(Some(name), DmaAddr::new(start), 1 << 63, AllocatorChoice::Default)
            .unwrap();
    }
    let info = cma.info_about("a,b").unwrap();
    assert_eq!(
        (info.span.end_page(), info.total_bytes, info.free_bytes),
        (1 << 52, u64::MAX, u64::MAX)
    );
}

#[test]
fn a_region_of_another_framework_is_refused() {
    let (one, other) = (with_regions(&["r"], "*=r"), with_regions(&["r"], "*=r"));
    let foreign = other.region("r").unwrap();
    assert_eq!(one.alloc_from_region(&foreign, 4096, 0).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(one.region_unregister(&foreign).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(
        one.set_region_allocator(&foreign, AllocatorChoice::Default),
        Err(ChangeError::Unregistered)
    );
    assert!(foreign.is_registered());
}

#[test]
fn an_unregistered_region_is_refused_through_all_its_handles() {
    let cma = Cma::new();
    cma.command_line(Some("a=1M"), None).unwrap();
    cma.early_regions_reserve(&mut Banks::new(BANK, Growth::Up));
    let early = cma.initialise().remove(0);
    let region = early.registered().unwrap();
    cma.region_unregister(&region).unwrap();
    assert_eq!((early.registered(), region.is_registered()), (None, false));
    assert_eq!(
        cma.set_region_allocator(&region, AllocatorChoice::Default),
        Err(ChangeError::Unregistered)
    );
}

#[test]
fn an_allocator_that_refused_a_region_is_not_tried_again_until_the_choice_changes() {
    let cma = Cma::new();
    let r = region(&cma, "r", BASE, MIB, AllocatorChoice::named("best-fit"));
    cma.set_region_allocator(
        &r,
        AllocatorChoice::Named { name: "delegate".to_string(), params: "no".to_string() },
    )
    .unwrap();
    cma.allocator_register(Plugin::built_in::<Choosy>()).unwrap();
    for _ in 0..3 {
        assert!(cma.alloc_from("r", 4096, 0).unwrap_err().to_string().contains("asked 1 times"));
    }
    let yes = AllocatorChoice::Named { name: "delegate".to_string(), params: "yes".to_string() };
    cma.set_region_allocator(&r, yes).unwrap();
    assert!(cma.alloc_from("r", 4096, 0).is_ok());
}

static ASKED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Best fit that serves a region only if its parameter is `yes`, and counts its starts.
struct Choosy(cma_best_fit::BestFit);

common::delegate!(Choosy, |this| this.0, |region, params| {
    let asked = ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
    if params == "yes" {
        Ok(Choosy(cma_api::Allocator::new(region, "")?))
    } else {
        Err(cma_api::InitError::new(format!("asked {asked} times")))
    }
});

/// Records the requesters.
struct Nosy(cma_best_fit::BestFit);

static ASKERS: std::sync::Mutex<Vec<cma_api::Asker>> = std::sync::Mutex::new(Vec::new());

impl cma_api::Allocator for Nosy {
    const INFO: cma_api::AllocatorInfo = cma_api::AllocatorInfo {
        name: "nosy",
        version: "1",
        description: "records the requesters",
    };
    fn new(region: PageRange, _: &str) -> Result<Self, cma_api::InitError> {
        Ok(Nosy(cma_api::Allocator::new(region, "")?))
    }
    fn allocate(
        &mut self,
        request: &cma_api::Request,
    ) -> Result<cma_api::Placement, cma_api::NoRoom> {
        ASKERS.lock().unwrap().push(request.asker());
        self.0.allocate(request)
    }
    fn fit(&mut self, request: &cma_api::Request) -> Option<PageRange> {
        self.0.fit(request)
    }
    fn free(&mut self, chunk: cma_api::Placement) -> Result<(), cma_api::NotMine> {
        self.0.free(chunk)
    }
    fn adopt(&mut self, range: PageRange) -> Result<cma_api::Tag, cma_api::CannotAdopt> {
        self.0.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.0.holes(visit);
    }
    fn largest_request(&self) -> cma_api::Pages {
        self.0.largest_request()
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

#[test]
fn an_allocator_gets_the_requesters_number_and_equal_pairs_have_equal_numbers() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<Nosy>()).unwrap();
    region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    cma.set_map(Map::parse("*=r").unwrap());
    let ask = |device: &str, kind| drop(cma.alloc(device, kind, 4096, 0).unwrap());
    ask("camera", None);
    ask("camera", Some("frame"));
    ask("codec", None);
    cma.set_map(Map::parse("c*=r").unwrap());
    ask("camera", Some("common"));
    drop(cma.device("codec", None).unwrap().alloc(4096, 0).unwrap());
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    let asked = ASKERS.lock().unwrap();
    assert_eq!((asked[3], asked[4], asked[5]), (asked[0], asked[2], cma_api::Asker::NOBODY));
    let mut different = asked[..3].to_vec();
    different.push(cma_api::Asker::NOBODY);
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 4);
}

#[test]
fn names_without_a_rule_and_overlong_names_are_not_kept() {
    let cma = with_regions(&["r"], "good=r;long*=r");
    let long = format!("long{}", "g".repeat(1 << 20));
    for i in 0..3000 {
        assert_eq!(
            cma.alloc(&format!("bad{i}"), None, 4096, 0).unwrap_err().errno(),
            Errno::ENOENT
        );
    }
    assert!(cma.alloc(&long, None, 4096, 0).is_ok());
    assert!(cma.alloc("good", Some(""), 4096, 0).is_ok(), "an empty type is none");
    assert!(format!("{cma:?}").len() < 100_000, "they are kept nowhere");
}

#[test]
fn a_rule_of_constants_is_displayed_as_its_text() {
    use cma_framework::config::{GroupSpec, PatternSpec, RuleSpec, SyntaxError};
    for (device, region) in [("a", "b;*=c"), ("a/x,q", "b"), ("a", "")] {
        let patterns = [PatternSpec::device(device)];
        let error =
            Map::from_rules(&[RuleSpec::new(&patterns, &[GroupSpec::new(region)])]).unwrap_err();
        assert!(
            matches!(
                error.kind,
                SyntaxError::BadName | SyntaxError::BadPattern | SyntaxError::NoRegions
            ),
            "{error}"
        );
    }
}

#[test]
fn a_region_whose_chunks_a_newer_build_cannot_adopt_keeps_the_old_one() {
    let cma = Cma::new();
    let newer = Plugin::built_in::<common::Scripted>();
    cma.allocator_register_as(Some(newer.name()), Plugin::built_in::<cma_best_fit::BestFit>())
        .unwrap();
    let region = region(&cma, "r", 0x4000_0000, 0x10_0000, AllocatorChoice::named(newer.name()));
    let chunk = cma.alloc_from_region(&region, 4096, 0).unwrap();
    let replacement = cma.allocator_replace(newer.clone()).unwrap();
    assert!(replacement.taken_over.is_empty());
    let [(kept, ChangeError::Adopt { .. })] = &replacement.kept[..] else {
        panic!("{:?}", replacement.kept)
    };
    assert_eq!(*kept, region);
    drop(cma.alloc_from_region(&region, 4096, 0).unwrap());
    region.check().unwrap();
    // An empty region gets the build that is registered now.
    drop(chunk);
    cma.set_region_allocator(&region, AllocatorChoice::named(newer.name())).unwrap();
    assert!(cma.alloc_from_region(&region, 4096, 0).is_err());
}

#[test]
fn owners_of_a_region_of_another_framework_are_not_reported() {
    let (one, two) = (with_regions(&["a"], "*=a"), with_regions(&["a"], "*=a"));
    let _chunk = one.alloc("camera", None, 4096, 0).unwrap();
    let _other = two.alloc("modem", None, 4096, 0).unwrap();
    one.alloc("camera", None, 1 << 40, 0).unwrap_err();
    let region = one.region("a").unwrap();
    assert!(two.owners(&region).unwrap().is_empty() && two.failures(&region).unwrap().is_empty());
    assert_eq!(&*one.owners(&region).unwrap()[0].device.as_ref().unwrap().0, "camera");
    assert_eq!(&*one.failures(&region).unwrap()[0].device.as_ref().unwrap().0, "camera");
}

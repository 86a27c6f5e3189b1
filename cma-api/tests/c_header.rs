//! `include/cma_allocator.h` and `cma_api::c_v1` are the same interface: the system's compiler
//! and clang find the same layouts and constants in C as Rust does, and its functions compute the
//! same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cma_api::c_v1::{self, CRequest, Table};
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Placement, Request};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// Compiles `source`, in the language that the options say, to a program with this name. `None` on
/// a machine without the compiler, which is said on standard error past the test harness.
fn compiled(compiler: &str, options: &[&str], source: &str, name: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let child = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(include())
        .args(options)
        .args(["-", "-o"])
        .arg(&program)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = format!("SKIPPED: there is no compiler ({compiler})\n");
            std::io::stderr().write_all(why.as_bytes()).unwrap();
            return None;
        }
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

const C: [&str; 3] = ["-std=c11", "-x", "c"];

/// Asserts in C about each field of a structure: its offset and the type it has, as C writes it.
macro_rules! same {
    ($source:ident, $rust:ty, $c:literal, $($field:ident . $in_c:literal: $type:literal),+ $(,)?) => {{
        let size = size_of::<$rust>();
        writeln!($source, "_Static_assert(sizeof({}) == {size}, \"size of {}\");", $c, $c).unwrap();
        $(
            let offset = offset_of!($rust, $field);
            writeln!(
                $source,
                "_Static_assert(offsetof({0}, {1}) == {offset} && \
                 _Generic((({0} *)0)->{1}, {2}: 1, default: 0), \"{0}.{1}\");",
                $c, $in_c, $type
            )
            .unwrap();
        )+
        // No field on either side that is not listed.
        let listed = [$(stringify!($field)),+].len();
        (listed, size)
    }};
}

#[test]
fn every_structure_and_constant_is_the_same_in_c_and_in_rust() {
    let mut source = String::from("#include \"cma_allocator.h\"\n");
    let (_, bytes) = same!(
        source, CRequest, "struct cma_allocator_request",
        pages."pages": "uint64_t",
        alignment."alignment": "uint64_t",
        boundary."boundary": "uint64_t",
        window."window": "struct cma_allocator_range",
        asker."asker": "uint32_t",
        hints."hints": "uint32_t",
    );
    assert_eq!(bytes, 6 * 8, "every byte belongs to a field of the list");
    let (_, bytes) = same!(
        source, Placement, "struct cma_allocator_placement",
        range."range": "struct cma_allocator_range",
        tag."tag": "uint64_t",
    );
    assert_eq!(bytes, 3 * 8);
    // The fields of a range are private in Rust.
    let range = size_of::<PageRange>();
    writeln!(
        source,
        "_Static_assert(sizeof(struct cma_allocator_range) == {range} && \
         offsetof(struct cma_allocator_range, first) == 0 && \
         offsetof(struct cma_allocator_range, pages) == 8, \"range\");"
    )
    .unwrap();
    source.push_str(
        "typedef struct cma_allocator_range range;\n\
         typedef const struct cma_allocator_request request;\n\
         typedef struct cma_allocator_placement placement;\n",
    );
    let (fields, bytes) = same!(
        source, Table, "struct cma_allocator_v1",
        version."version": "uint32_t",
        size."size": "uint32_t",
        name."name": "const char *",
        algorithm_version."algorithm_version": "const char *",
        description."description": "const char *",
        initialise."initialise": "int (*)(range, const char *, void **, char *)",
        cleanup."cleanup": "void (*)(void *)",
        allocate."allocate": "int (*)(void *, request *, placement *)",
        fit."fit": "int (*)(void *, request *, range *)",
        free."free": "int (*)(void *, const placement *)",
        holes."holes": "void (*)(void *, void (*)(void *, range), void *)",
        adopt."adopt": "int (*)(void *, range, uint64_t *, char *)",
        largest_request."largest_request": "uint64_t (*)(void *)",
        check."check": "int (*)(void *, char *)",
    );
    assert_eq!(bytes, 2 * 4 + (fields - 2) * size_of::<usize>());
    for (name, value) in [
        ("CMA_ALLOCATOR_VERSION", i64::from(c_v1::VERSION)),
        ("CMA_ALLOCATOR_OK", c_v1::OK.into()),
        ("CMA_ALLOCATOR_REFUSED", c_v1::REFUSED.into()),
        ("CMA_ALLOCATOR_BROKEN", c_v1::BROKEN.into()),
        ("CMA_ALLOCATOR_REASON", c_v1::REASON as i64),
        ("CMA_ALLOCATOR_ADDRESS_SPACE", Boundary::NONE.pages().get() as i64),
    ] {
        writeln!(source, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    source.push_str("int main(void) { return 0; }\n");
    for compiler in ["cc", "clang"] {
        compiled(compiler, &C, &source, "layout");
    }
}

#[test]
fn the_header_is_valid_in_cpp() {
    let source = "#include \"cma_allocator.h\"\n\
                  static_assert(sizeof(cma_allocator_request) == 48, \"\");\n\
                  int main() { return CMA_ALLOCATOR_OK; }\n";
    for compiler in ["c++", "clang++"] {
        for standard in ["-std=c++11", "-std=c++20"] {
            compiled(compiler, &[standard, "-x", "c++"], source, "header-in-cpp");
        }
    }
}

/// Reads requests and holes, one a line, and prints the lowest place or 0.
const PLACES: &str = r#"
#include "cma_allocator.h"
#include <inttypes.h>
#include <stdio.h>

int main(void)
{
    struct cma_allocator_request r = {0};
    struct cma_allocator_range hole, place;

    while (scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                 &r.pages, &r.alignment, &r.boundary, &r.window.first, &r.window.pages,
                 &hole.first, &hole.pages) == 7) {
        if (cma_allocator_lowest_place(&r, hole, &place))
            printf("%" PRIu64 " %" PRIu64 "\n", place.first, place.pages);
        else
            puts("none");
    }
    return 0;
}
"#;

#[test]
fn the_lowest_place_of_a_request_is_the_same_in_c_and_in_rust() {
    let Some(program) = compiled("cc", &C, PLACES, "places") else { return };
    let (mut input, mut expected) = (String::new(), String::new());
    let mut random = Random(1);
    let mut served = 0;
    for _ in 0..20_000 {
        // Small numbers and those at the top of the address space.
        let top = if random.below(4) == 0 { PageRange::ADDRESS_SPACE_PAGES - 64 } else { 0 };
        let alignment =
            Alignment::new(4096 << random.below(if top == 0 { 6 } else { 50 })).unwrap();
        let Some(request) = Request::new(Pages::new(1 + random.below(20)), alignment, Asker(3))
        else {
            continue;
        };
        let boundary = match random.below(3) {
            0 => Boundary::NONE,
            _ => Boundary::new(4096 << random.below(7)).unwrap(),
        };
        let window = match random.below(3) {
            0 => PageRange::ADDRESS_SPACE,
            _ => PageRange::from_pages(top + random.below(64), 64),
        };
        let Some(request) = request.limited(window, boundary) else { continue };
        let first = random.below(63);
        let hole = PageRange::from_pages(top + first, 1 + random.below(64 - first));
        let in_c = CRequest::from(&request);
        writeln!(
            input,
            "{} {} {} {} {} {} {}",
            in_c.pages,
            in_c.alignment,
            in_c.boundary,
            in_c.window.first_page(),
            in_c.window.pages().get(),
            hole.first_page(),
            hole.pages().get()
        )
        .unwrap();
        match request.lowest_place(hole) {
            Some(place) => {
                served += 1;
                writeln!(expected, "{} {}", place.first_page(), place.pages().get()).unwrap();
            }
            None => expected.push_str("none\n"),
        }
    }
    assert!(served > 1000, "{served}");
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), expected.lines().count());
    for ((asked, got), due) in input.lines().zip(printed.lines()).zip(expected.lines()) {
        assert_eq!(got, due, "pages, alignment, boundary, window, hole: {asked}");
    }
}

/// Numbers that are the same in each run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

//! Figures over real sockets, with real scrapers and hostile ones.

use cma_best_fit::BestFit;
use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_metrics::{Endpoint, Exporter, Host, Metrics};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const KIB: u64 = 1 << 10;

/// A framework with the regions `a` and `b`, of 64 KiB each, and a rule for `camera`.
fn framework() -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<BestFit>()).unwrap();
    for (name, start) in [("a", 1_u64 << 30), ("b", 2 << 30)] {
        let allocator = AllocatorChoice::Default;
        cma.region_register(Some(name), DmaAddr::new(start), 64 * KIB, allocator).unwrap();
    }
    cma.set_map(Map::parse("camera=a;video=a|b").unwrap());
    cma
}

fn host() -> Host {
    Host { version: "1".to_string(), restarts: 3 }
}

fn exporter(cma: &Cma) -> Exporter {
    let endpoint = "127.0.0.1:0".parse().unwrap();
    Exporter::start(&endpoint, Metrics::start(cma, host()).unwrap()).unwrap()
}

fn connect(exporter: &Exporter) -> TcpStream {
    let Endpoint::Tcp(address) = exporter.endpoint() else { panic!("{exporter:?}") };
    TcpStream::connect(address).unwrap()
}

fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: cma\r\n\r\n";

#[test]
fn the_figures_are_those_of_the_framework() {
    let cma = framework();
    let metrics = Metrics::start(&cma, host()).unwrap();
    let camera = cma.alloc("camera", None, 8 * KIB, 0).unwrap();
    let video = cma.alloc_from("b", 4 * KIB, 0).unwrap();
    assert!(cma.alloc("camera", None, 60 * KIB, 0).is_err());
    assert!(cma.alloc("nobody", None, 4 * KIB, 0).is_err());
    assert!(metrics.observation().catch_up(Duration::from_secs(10)));
    let text = metrics.openmetrics();
    let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    has("cma_region_size_bytes{region=\"a\"} 65536");
    has("cma_region_free_bytes{region=\"a\"} 57344");
    has("cma_region_largest_free_range_bytes{region=\"b\"} 61440");
    has("cma_region_live_chunks{region=\"a\"} 1");
    has("cma_region_waiting_requests{region=\"a\"} 0");
    has("cma_region_set_aside_bytes{region=\"a\"} 0");
    has("cma_region_stuck{region=\"a\"} 0");
    has("cma_region_requests_total{region=\"a\",outcome=\"served\"} 1");
    has("cma_region_requests_total{region=\"a\",outcome=\"refused\"} 1");
    has("cma_region_refusals_total{region=\"a\",reason=\"full\"} 1");
    has("cma_request_failures_total{reason=\"no_rule\"} 1");
    has("cma_request_duration_seconds_count{region=\"a\",outcome=\"served\"} 1");
    has("cma_request_duration_seconds_count{region=\"a\",outcome=\"refused\"} 1");
    has("cma_request_duration_seconds_bucket{le=\"+Inf\",region=\"a\",outcome=\"served\"} 1");
    has("cma_device_bytes{device=\"camera\"} 8192");
    has("cma_device_bytes{device=\"other\"} 4096");
    has("cma_observer_missed_events_total 0");
    has("cma_build_info{version=\"1\"} 1");
    has("cma_server_restarts_total 3");
    assert!(text.ends_with("# EOF\n"));
    drop((camera, video));
    assert!(metrics.observation().catch_up(Duration::from_secs(10)));
    let text = metrics.openmetrics();
    assert!(text.contains("cma_device_bytes{device=\"camera\"} 0\n"), "{text}");
}

#[test]
fn chunks_from_before_the_observation_count() {
    let cma = framework();
    let _chunk = cma.alloc("camera", None, 8 * KIB, 0).unwrap();
    let metrics = Metrics::start(&cma, host()).unwrap();
    assert!(metrics.observation().catch_up(Duration::from_secs(10)));
    let text = metrics.openmetrics();
    assert!(text.contains("cma_device_bytes{device=\"camera\"} 8192\n"), "{text}");
}

#[test]
fn clients_and_regions_that_come_and_go_cause_a_bounded_number_of_series() {
    let cma = framework();
    let metrics = Metrics::start(&cma, host()).unwrap();
    let scrape = || {
        assert!(metrics.observation().catch_up(Duration::from_secs(60)));
        metrics.openmetrics()
    };
    let of_names = |first: u64| {
        cma.set_map(Map::parse("*=a").unwrap());
        for n in first..first + 500 {
            let device = format!("device-{n}");
            drop(cma.alloc(&device, Some(&format!("kind-{n}")), 4 * KIB, 0).unwrap());
            assert!(cma.alloc(&device, None, 65 * KIB, 0).is_err());
            assert!(cma.alloc_from(&format!("region-{n}"), 4 * KIB, 0).is_err());
            let private = cma.region_register(
                (n % 2 == 0).then(|| format!("other-{n}")).as_deref(),
                DmaAddr::new((n + 8) << 30),
                64 * KIB,
                AllocatorChoice::Default,
            );
            let region = private.unwrap();
            drop(cma.alloc_from_region(&region, 4 * KIB, 0).unwrap());
            assert!(cma.alloc_from_region(&region, 65 * KIB, 0).is_err());
            cma.region_unregister(&region).unwrap();
        }
        cma.set_map(Map::default());
        assert!(cma.alloc("device", None, 4 * KIB, 0).is_err());
    };
    of_names(0);
    let first = scrape();
    of_names(500);
    let second = scrape();
    assert_eq!(first.lines().count(), second.lines().count(), "{first}\n{second}");
    assert!(first.contains("cma_request_failures_total{reason=\"no_rule\"} 1\n"), "{first}");
    for invented in ["kind-", "region-", "other-", "0x"] {
        assert!(!second.contains(invented), "{invented}: {second}");
    }
}

#[test]
fn a_scraper_gets_the_format_that_it_accepts() {
    let cma = framework();
    let exporter = exporter(&cma);
    let classic = ask(connect(&exporter), GET);
    assert!(classic.starts_with("HTTP/1.1 200 OK\r\n"), "{classic}");
    assert!(classic.contains("Content-Type: text/plain; version=0.0.4"), "{classic}");
    assert!(classic.contains("# TYPE cma_region_requests_total counter\n"), "{classic}");
    assert!(!classic.contains("# EOF"), "{classic}");
    let request = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
    let newer = ask(connect(&exporter), request);
    assert!(newer.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{newer}");
    assert!(newer.ends_with("# EOF\n"), "{newer}");
    let length = newer.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
    let body = newer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(length.parse(), Ok(body.len()));
}

#[test]
fn promtool_finds_nothing_to_improve() {
    let cma = framework();
    let _chunk = cma.alloc("camera", None, 8 * KIB, 0).unwrap();
    assert!(cma.alloc("camera", None, 60 * KIB, 0).is_err());
    let exporter = exporter(&cma);
    let answer = ask(connect(&exporter), GET);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("SKIPPED: promtool is not installed (Debian: apt install prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}

#[test]
fn a_unix_socket_serves_and_its_file_goes_with_the_exporter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let endpoint: Endpoint = format!("unix:{}", path.display()).parse().unwrap();
    // The file of a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let cma = framework();
    let start = || Exporter::start(&endpoint, Metrics::start(&cma, host()).unwrap());
    let exporter = start().unwrap();
    let error = start().unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    let answer = ask(UnixStream::connect(&path).unwrap(), GET);
    assert!(answer.contains("cma_region_size_bytes"), "{answer}");
    drop(exporter);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let endpoint = Endpoint::Unix(file.path().to_path_buf());
    let metrics = Metrics::start(&framework(), host()).unwrap();
    assert!(Exporter::start(&endpoint, metrics).is_err());
    assert!(file.path().exists());
}

#[test]
fn silent_scrapers_delay_no_other_and_too_many_are_closed() {
    let exporter = exporter(&framework());
    let mut silent: Vec<_> = (0..15).map(|_| connect(&exporter)).collect();
    assert!(ask(connect(&exporter), GET).contains("200 OK"));
    silent.extend((0..8).map(|_| connect(&exporter)));
    // Each ends, by its time limit or because it is one too many.
    for mut stream in silent {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert!(ask(connect(&exporter), GET).contains("200 OK"));
}

#[test]
fn a_request_without_end_is_refused() {
    let exporter = exporter(&framework());
    let mut stream = connect(&exporter);
    let mut sent = 0;
    // The exporter answers and closes; what it doesn't read resets the connection.
    while sent < 1 << 20 && stream.write_all(&[b'a'; 1024]).is_ok() {
        sent += 1024;
    }
    drop(stream);
    let mut stream = connect(&exporter);
    stream.write_all(b"GET /metrics HT").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
    assert!(ask(connect(&exporter), GET).contains("200 OK"));
}

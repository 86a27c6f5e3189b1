//! A real Prometheus scrapes the exporter, with the alert rules of `service/`.
//!
//! `cargo xtask real-programs` runs it; a plain `cargo test` ignores it.

use cma_best_fit::BestFit;
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_metrics::{Endpoint, Exporter, Host, Metrics};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A child process that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host() -> Host {
    Host { version: "1".to_string(), restarts: 0 }
}

/// The answer of Prometheus to a query, as JSON; empty while it does not answer.
fn query(port: u16, query: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

#[test]
#[ignore = "it starts Prometheus: cargo xtask real-programs"]
fn prometheus_scrapes_the_figures_and_evaluates_the_alerts() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<BestFit>()).unwrap();
    let start = DmaAddr::new(1 << 30);
    cma.region_register(Some("a"), start, 1 << 20, AllocatorChoice::Default).unwrap();
    let metrics = Metrics::start(&cma, host()).unwrap();
    let exporter = Exporter::start(&"127.0.0.1:0".parse().unwrap(), metrics).unwrap();
    let Endpoint::Tcp(address) = exporter.endpoint() else { panic!("{exporter:?}") };
    let _chunk = cma.alloc_from("a", 4096, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../service/alerts.yaml");
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
        scrape_configs: [{{ job_name: cma, static_configs: [{{ targets: [\"{address}\"] }}] }}]\n\
        rule_files: [\"{}\"]\n",
        alerts.display()
    );
    fs::write(folder.path().join("prometheus.yaml"), config).unwrap();
    // Prometheus takes no port 0.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Command::new("prometheus")
        .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .spawn();
    let Ok(child) = started else {
        println!("SKIPPED: prometheus is not installed (Debian: apt install prometheus)");
        return;
    };
    let _prometheus = Program(child);
    let wait_for = |text: &str, value: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !query(port, text).contains(value) {
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{text}: {}\n{log}", query(port, text));
            thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for("cma_region_free_bytes", "\"1044480\"");
    wait_for("cma_region_requests_total%7Boutcome=%22served%22%7D", "\"1\"");
    wait_for("cma_request_duration_seconds_count", "\"1\"");
    wait_for("up%7Bjob=%22cma%22%7D", "\"1\"");
    drop(exporter);
    wait_for("ALERTS%7Balertname=%22CmaServerDown%22%7D", "\"1\"");
}

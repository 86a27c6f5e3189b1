//! The alert rules and the dashboard in `service/` use the figures that there are.

use cma_framework::{AllocatorChoice, Cma, DmaAddr};
use cma_metrics::{Host, Metrics};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../service").join(name)
}

fn host() -> Host {
    Host { version: "1".to_string(), restarts: 0 }
}

/// The names of figures in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let is_figure = |name: &&str| {
        let (prefix, _) = name.split_at(name.len().min(4));
        (prefix == "cma_" || name.starts_with("process_")) && name.len() > 4
    };
    text.split(word).filter(is_figure).collect()
}

#[test]
fn rules_and_dashboard_use_families_that_exist() {
    let cma = Cma::new();
    let metrics = Metrics::start(&cma, host()).unwrap();
    let start = DmaAddr::new(1 << 30);
    cma.region_register(Some("a"), start, 1 << 20, AllocatorChoice::Default).unwrap();
    // A family without figures is left out.
    assert!(cma.alloc_from("a", 4096, 0).is_err());
    assert!(cma.alloc("nobody", None, 4096, 0).is_err());
    assert!(metrics.observation().catch_up(Duration::from_secs(10)));
    let text = metrics.openmetrics();
    let families: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in ["alerts.yaml", "dashboard.json"] {
        let text = fs::read_to_string(file(name)).unwrap();
        let used = names(&text);
        assert!(used.len() > 3, "{used:?}");
        for figure in used {
            let family = ["_total", "_info", "_bucket"]
                .iter()
                .find_map(|suffix| figure.strip_suffix(suffix))
                .unwrap_or(figure);
            assert!(families.contains(family), "{name}: {figure}; there are {families:?}");
        }
    }
}

/// Runs promtool, which must succeed.
fn promtool(args: [&str; 2], file: &Path) {
    let Ok(output) = Command::new("promtool").args(args).arg(file).output() else {
        let skipped = "SKIPPED: promtool is not installed (Debian: apt install prometheus)\n";
        let _ = io::stderr().write_all(skipped.as_bytes());
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn prometheus_accepts_the_rules() {
    promtool(["check", "config"], &file("prometheus.yaml"));
}

#[test]
fn each_alert_fires_when_its_trouble_is_there_and_only_then() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.yaml");
    let (rules, tested) = (fs::read_to_string(file("alerts.yaml")), fs::read_to_string(&tests));
    let (rules, tested) = (rules.unwrap(), tested.unwrap());
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        let fires = format!("alertname=\"{alert}\"");
        assert!(tested.contains(&fires), "no test has {alert} fire");
    }
    promtool(["test", "rules"], &tests);
}

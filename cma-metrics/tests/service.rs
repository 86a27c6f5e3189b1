//! The alert rules and the dashboard in `service/` use the figures that there are.

use cma_framework::{AllocatorChoice, Cma, DmaAddr};
use cma_metrics::Metrics;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../service").join(name)
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
    let metrics = Metrics::start(&cma, "1").unwrap();
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

#[test]
fn prometheus_accepts_the_rules() {
    let promtool =
        Command::new("promtool").args(["check", "config"]).arg(file("prometheus.yaml")).output();
    let Ok(output) = promtool else {
        println!("SKIPPED: promtool is not installed (Debian: apt install prometheus)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

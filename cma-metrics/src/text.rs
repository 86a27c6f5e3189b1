//! OpenMetrics text in the older text format of Prometheus, for scrapers that don't accept the
//! newer one.

use std::fmt::Write;

/// `openmetrics`, which `prometheus-client` wrote, in the [text format] 0.0.4. It names a counter
/// with its suffix, and has no units, no type `info` and no end mark.
///
/// [text format]: https://prometheus.io/docs/instrumenting/exposition_formats/
pub(crate) fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        // Writing to memory does not fail.
        let _ = match line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            Some((family, help)) => {
                let kind = lines.next_if(|next| next.starts_with("# TYPE "));
                let kind = kind.and_then(|kind| kind.rsplit(' ').next()).unwrap_or("unknown");
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                writeln!(text, "# HELP {family}{suffix} {help}\n# TYPE {family}{suffix} {kind}")
            }
            None if line.starts_with("# UNIT ") || line == "# EOF" => Ok(()),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_information_are_named_with_their_suffix() {
        let openmetrics = "\
# HELP a Served requests.
# TYPE a counter
a_total{region=\"x\"} 1
# HELP b_bytes Size.
# TYPE b_bytes gauge
# UNIT b_bytes bytes
b_bytes 2
# HELP c Build.
# TYPE c info
c_info{version=\"1\"} 1
# EOF
";
        let expected = "\
# HELP a_total Served requests.
# TYPE a_total counter
a_total{region=\"x\"} 1
# HELP b_bytes Size.
# TYPE b_bytes gauge
b_bytes 2
# HELP c_info Build.
# TYPE c_info gauge
c_info{version=\"1\"} 1
";
        assert_eq!(classic(openmetrics), expected);
    }
}

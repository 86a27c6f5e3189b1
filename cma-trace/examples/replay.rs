//! Replays the demo trace on best fit in smaller and smaller regions, until it no longer fits.

#![allow(clippy::print_stdout, reason = "an example shows its results")]

use cma_framework::Plugin;
use cma_framework::config::Bytes;
use cma_trace::{DEMO, Trace, replay};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trace = Trace::read(DEMO)?;
    println!("{}\n{}\n", trace.source(), trace.figures());
    let best_fit = Plugin::built_in::<cma_best_fit::BestFit>();
    for percent in [200, 120, 110, 105, 100] {
        let pages = trace.peak_live().get() * percent / 100;
        let report = replay(&trace, &best_fit, "", pages * cma_framework::PAGE_SIZE, |_| {})?;
        let size = Bytes(report.region_bytes);
        println!(
            "{percent} % of the peak, {size}: {} failed, {:.0} ns/op",
            report.failed, report.ns_per_op
        );
        if let Some(failure) = report.first_failure {
            println!("    {failure}");
        }
    }
    Ok(())
}

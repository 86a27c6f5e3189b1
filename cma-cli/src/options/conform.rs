//! The arguments and the help of `cma conform`.

use super::values;
use clap::Args;
use cma_conform::Placing;

pub(super) const HELP: &str = "\
A plug-in is named by its file, or by its allocator's name, with the allocator's parameters in \
brackets. Each guarantee is checked in a process of its own, which may crash, loop, or use memory \
without bound. For a broken guarantee the shortest calls that were found to show it are printed, and a test to \
paste if they are few. Exit status: 0 every guarantee is kept, 1 some are broken, 2 error.

Examples:
  cma conform --placing best-fit --only a_whole_region_can_be_one_chunk best-fit
  cma conform --only every_short_sequence_matches_the_model 'buddy(max-order=3)' --json";

#[derive(Args, Debug)]
pub(crate) struct ConformArgs {
    /// The plug-ins: a file, or the name of an allocator that is found; parameters may follow, as
    /// in 'buddy(max-order=3)'
    #[arg(required_unless_present = "list", value_name = "PLUGIN")]
    pub(crate) plugins: Vec<String>,

    /// Only this guarantee; may be repeated
    #[arg(long, value_name = "GUARANTEE", value_parser = values::guarantee)]
    pub(crate) only: Vec<String>,

    /// The rule by which the allocator places chunks: first-fit, best-fit, exact (it refuses only
    /// what no hole can hold), any
    #[arg(long, value_name = "RULE", default_value = "any", value_parser = values::placing)]
    pub(crate) placing: Placing,

    /// The seed of the random operations; the default is fixed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// List the guarantees
    #[arg(long)]
    pub(crate) list: bool,
}

//! `tail`: the last records, and new ones as they arrive.

use crate::{
    Outcome,
    listing::{self, Format, ListingArgs, Plan},
    screen::Screen,
};
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listing: ListingArgs,
    /// The number of records that are printed before new ones, or all [default: 10; with --since all]
    #[arg(long, short = 'n', value_name = "N", value_parser = listing::parse_lines)]
    lines: Option<u64>,
    /// Print new records as they arrive, until interrupted [default on a terminal]
    #[arg(long, short, overrides_with = "no_follow")]
    follow: bool,
    /// End after the last record [default in a pipe or a file]
    #[arg(long)]
    no_follow: bool,
}

pub(crate) fn run(home: &Path, screen: &Screen, args: &Args) -> anyhow::Result<Outcome> {
    let plan = Plan {
        lines: args.lines,
        is_reversed: false,
        follows: args.follow || screen.is_terminal() && !args.no_follow,
        lists_all: false,
        // Programs that read it get what the files had.
        format: if screen.is_terminal() {
            Format::Short
        } else {
            Format::Json
        },
    };
    listing::run(home, screen, &args.listing, plan)
}

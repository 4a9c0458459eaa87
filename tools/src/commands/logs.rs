//! `logs`: the records of a stack that match, the newest at the end.

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
    /// Show only the newest N records that match, or all [default: all; with -f and without --since 10]
    #[arg(long, short = 'n', value_name = "N", value_parser = listing::parse_lines)]
    lines: Option<u64>,
    /// Show the newest records first
    #[arg(long, short, conflicts_with_all = ["follow", "cursor_file"])]
    reverse: bool,
    /// Print new records as they arrive, until interrupted
    #[arg(long, short)]
    follow: bool,
}

pub(crate) fn run(home: &Path, screen: &Screen, args: &Args) -> anyhow::Result<Outcome> {
    let plan = Plan {
        lines: args.lines,
        is_reversed: args.reverse,
        follows: args.follow,
        lists_all: true,
        format: Format::Short,
    };
    listing::run(home, screen, &args.listing, plan)
}

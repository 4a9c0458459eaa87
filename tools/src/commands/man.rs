//! `man`: manual pages of the programs and of each command.

use crate::{Outcome, command, export_command, output::note};
use anyhow::Context;
use std::{fs, path::PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder, which is created if it is missing; `man -l DIR/gridctl-telemetry.1` shows a page, and in
    /// a folder such as ~/.local/share/man/man1 they are found by name
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let folder = args.dir.display();
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot create the folder {folder}"))?;
    for program in [command(), export_command()] {
        clap_mangen::generate_to(program, &args.dir)
            .with_context(|| format!("cannot write the manual pages to {folder}"))?;
    }
    let pages = fs::read_dir(&args.dir)?.filter(|entry| {
        let path = entry.as_ref().map(fs::DirEntry::path);
        path.is_ok_and(|path| path.extension().is_some_and(|kind| kind == "1"))
    });
    note(&format!("{folder} has {} manual pages", pages.count()));
    Ok(Outcome::Done)
}

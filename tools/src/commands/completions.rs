//! `completions`: a script that completes commands and options in a shell.

use crate::{Outcome, PROGRAM, command};
use clap_complete::Shell;
use std::io::Write;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), PROGRAM, &mut script);
    out.write_all(&script)?;
    out.flush()?;
    Ok(Outcome::Done)
}

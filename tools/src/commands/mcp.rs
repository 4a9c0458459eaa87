//! `mcp`: answers questions of agents over standard input and output.

use super::store_options;
use crate::{Outcome, interrupt::Interrupt, output::note, scope::suggestion};
use anyhow::Context;
use gridctl_telemetry::home::list_stacks;
use gridctl_telemetry_mcp::Mcp;
use std::path::PathBuf;
use tokio::{runtime, sync::watch};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack that agents may ask about; left out, all stacks, of which each question names one if there are several
    stack: Option<String>,
}

/// Ends when the client closes its side, and on a signal. Standard output has nothing but the protocol.
pub(crate) fn run(home: PathBuf, args: &Args) -> anyhow::Result<Outcome> {
    if let Some(stack) = &args.stack {
        let known = list_stacks(&home)?;
        // The client may start before the gateway has stored anything.
        if !known.contains(stack) {
            let known = known.iter().map(String::as_str);
            note(&format!(
                "there is no stack {stack:?} yet{}",
                suggestion(stack, known)
            ));
        }
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("mcp")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let (asked, mut ask) = watch::channel(false);
    let interrupt = Interrupt::install()?;
    interrupt.on_request(move || _ = asked.send(true));
    let mcp = Mcp::of_home(home, args.stack.clone(), store_options());
    // An end without a message is one, too.
    let shutdown = async move { _ = ask.wait_for(|asked| *asked).await };
    let outcome = runtime.block_on(mcp.serve_stdio(shutdown));
    // A thread that waits for input, or for the disk, must not hold up the end.
    runtime.shutdown_background();
    outcome.context("the client does not speak the Model Context Protocol")?;
    Ok(Outcome::Done)
}

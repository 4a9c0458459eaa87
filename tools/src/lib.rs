//! The operator's programs of `gridctl-telemetry`: each command is a function from its arguments and
//! a writer to an outcome.
//!
//! They open the database themselves and work whether or not a daemon has it open.

mod commands;
mod damage;
mod examples;
mod filters;
mod flat;
mod folders;
mod interrupt;
mod intervals;
mod lines;
mod listing;
mod old_files;
mod output;
mod scope;
mod screen;
mod table;
mod window;

use crate::{
    interrupt::{Interrupt, writing},
    screen::{
        Screen, ScreenArgs,
        WhenLong::{Page, Scroll},
    },
};
use clap::{CommandFactory, FromArgMatches, Parser};
use gridctl_telemetry::home::{default_home, home_in};
use gridctl_telemetry_server::display;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// The name of the program that has all commands.
const PROGRAM: &str = "gridctl-telemetry";

/// Shows, exports, imports and deletes the telemetry of gridctl's gateways.
///
/// Exit codes: 0 done, 1 nothing found or problems reported, 2 could not run, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    screen: ScreenArgs,
    #[command(subcommand)]
    command: Command,
}

/// Writes stored records as NDJSON or OTLP/JSON files.
#[derive(Debug, Parser)]
#[command(name = "export-jsonl", version, max_term_width = 100)]
struct ExportCli {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    screen: ScreenArgs,
    #[command(flatten)]
    export: commands::export::Args,
}

#[derive(Debug, clap::Args)]
struct Home {
    /// The folder that replaces the home of the user: databases are in `.gridctl/telemetry` below
    /// it. An absolute path [default: `$GRIDCTL_HOME`, else `~`]
    #[arg(long, global = true, value_name = "DIR", help_heading = screen::HEADING)]
    home: Option<PathBuf>,
}

impl Home {
    fn path(&self) -> gridctl_telemetry::Result<PathBuf> {
        self.home.as_deref().map_or_else(default_home, home_in)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the stored records of each server, the disk space, who writes, and the losses
    Status(commands::status::Args),
    /// Show which records were lost, when and why
    Losses(commands::losses::Args),
    /// Show the records that match
    Logs(commands::logs::Args),
    /// Print the last records, and new ones as they arrive
    Tail(commands::tail::Args),
    /// Count the records that match, by level, server, name, an entry or time
    Count(commands::count::Args),
    /// Show the traces that match
    Traces(commands::traces::Args),
    /// Show a trace: its spans as a tree with their times, and its logs in their places
    Trace(commands::trace::Args),
    /// Show the calls of tools: how often, how fast, which failed and why
    ///
    /// A call is a span that names a tool in its attribute `tool.name`, `tool` or `gen_ai.tool.name`. The spans of
    /// one call in the gateway and in its client count once.
    Calls(commands::calls::Args),
    /// Sum up tokens, costs and calls by server, tool, hour, day, model or skill
    ///
    /// Without --since and --until, the last 24 hours are summed up. Metrics are stored once a minute, and
    /// the counts of a minute belong to the hour in which it ends.
    Usage(commands::usage::Args),
    /// Delete stored records
    Wipe(commands::wipe::Args),
    /// Check that every record can be read, and that all that is stored about records is right
    ///
    /// Prints a line for each finding, then OK or the number of findings. It works while a daemon runs, but
    /// then the checksums of pages are left out, because the daemon would have to wait.
    Verify(commands::verify::Args),
    /// Return the disk space of deleted records to the file system
    Compact(commands::compact::Args),
    /// Store the records of NDJSON and OTLP/JSON files
    ImportJsonl(commands::import::Args),
    /// Write stored records as NDJSON or OTLP/JSON files
    ExportJsonl(commands::export::Args),
    /// Write stored records as Parquet files, for DuckDB, ClickHouse, Spark and DataFusion
    ///
    /// The columns are those of the OpenTelemetry Collector's ClickHouse exporter. Files appear complete, in
    /// folders for each stack, signal and day (UTC).
    #[cfg(feature = "parquet")]
    ExportParquet(commands::export::parquet::Args),
    /// Send what is stored to an OTLP/HTTP endpoint, each batch until it is taken
    ///
    /// Records are sent in order, at least once: whatever is killed, and however long the endpoint is away, a later run
    /// sends the rest. Only a batch that was on its way can be there twice. The environment variables of the OTLP
    /// exporter (`OTEL_EXPORTER_OTLP_ENDPOINT`, `_HEADERS`, `_TIMEOUT`, `_COMPRESSION`, `_CERTIFICATE`, `_CLIENT_KEY`,
    /// `_CLIENT_CERTIFICATE`, and those of single signals) count where no option says otherwise.
    #[cfg(feature = "forward")]
    Forward(commands::forward::Args),
    /// Show the stack in a browser, and receive OTLP
    ///
    /// Serves pages at /, an API for programs at /api/telemetry, and takes the telemetry of any OpenTelemetry SDK
    /// at /v1/logs, /v1/traces and /v1/metrics: set `OTEL_EXPORTER_OTLP_ENDPOINT` to the address. A record belongs to
    /// the server that its resource names in server.name, else in service.name.
    Serve(commands::serve::Args),
    /// Answer questions of agents, over the Model Context Protocol
    ///
    /// An agent's client starts it and speaks over standard input and output. Its tools only read: `search_logs`,
    /// `list_traces`, `get_trace`, `tool_calls`, `usage`, `losses` and `inventory`. An answer has at most 4 KiB and says how
    /// to get more. `serve` answers the same questions at /mcp.
    #[cfg(feature = "mcp")]
    Mcp(commands::mcp::Args),
    /// Run a small gateway daemon in a new folder, and show the results
    Demo(commands::demo::Args),
    /// Print a script that completes commands and options in a shell
    Completions(commands::completions::Args),
    /// Write manual pages to a folder
    Man(commands::man::Args),
}

impl Command {
    /// Whether the command reads or writes below the home.
    fn needs_home(&self) -> bool {
        !matches!(
            self,
            Command::Demo(_) | Command::Completions(_) | Command::Man(_)
        )
    }
}

/// The arguments of `gridctl-telemetry`.
fn command() -> clap::Command {
    examples::add_to(Cli::command())
}

/// The arguments of `export-jsonl`.
fn export_command() -> clap::Command {
    examples::add_to_program(ExportCli::command(), "export-jsonl")
}

/// Parses the arguments of this process. Ends it after `--help`, and if they are wrong.
fn parse<T: FromArgMatches>(command: clap::Command) -> T {
    // Beside the options, descriptions would have no room.
    let mut command = command.next_line_help(screen::is_narrow());
    let matches = command.get_matches_mut();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// How a command ended if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The command did everything.
    Done,
    /// No record was found, or problems were reported.
    Problems,
    /// The command was interrupted.
    Interrupted,
}

/// Runs `gridctl-telemetry`.
#[must_use]
pub fn main() -> ExitCode {
    let cli: Cli = parse(command());
    let screen = Screen::new(&cli.screen);
    let home = if cli.command.needs_home() {
        cli.home.path()
    } else {
        Ok(PathBuf::new())
    };
    finish(home.map_err(Into::into).and_then(|home| match cli.command {
        Command::Status(args) => screen.show(Page, |out| {
            commands::status::run(&home, &screen, &args, out)
        }),
        Command::Losses(args) => screen.show(Page, |out| {
            commands::losses::run(&home, &screen, &args, out)
        }),
        Command::Logs(args) => commands::logs::run(&home, &screen, &args),
        Command::Tail(args) => commands::tail::run(&home, &screen, &args),
        Command::Count(args) => {
            screen.show(Page, |out| commands::count::run(&home, &screen, &args, out))
        }
        Command::Traces(args) => screen.show(Page, |out| {
            commands::traces::run(&home, &screen, &args, out)
        }),
        Command::Trace(args) => {
            screen.show(Page, |out| commands::trace::run(&home, &screen, &args, out))
        }
        Command::Calls(args) => {
            screen.show(Page, |out| commands::calls::run(&home, &screen, &args, out))
        }
        Command::Usage(args) => {
            screen.show(Page, |out| commands::usage::run(&home, &screen, &args, out))
        }
        Command::Wipe(args) => screen.show(Scroll, |out| {
            commands::wipe::run(&home, &screen, &args, out)
        }),
        Command::Verify(args) => screen.show(Scroll, |out| {
            commands::verify::run(&home, &screen, &args, out)
        }),
        Command::Compact(args) => {
            screen.show(Scroll, |out| commands::compact::run(&home, &args, out))
        }
        Command::ImportJsonl(args) => {
            screen.show(Scroll, |out| commands::import::run(&home, &args, out))
        }
        Command::ExportJsonl(args) => screen.show(Scroll, |out| {
            commands::export::run(&home, &screen, &args, out)
        }),
        #[cfg(feature = "parquet")]
        Command::ExportParquet(args) => screen.show(Scroll, |out| {
            commands::export::parquet::run(&home, &screen, &args, out)
        }),
        #[cfg(feature = "forward")]
        Command::Forward(args) => screen.show(Scroll, |out| {
            commands::forward::run(&home, &screen, &args, out)
        }),
        Command::Serve(args) => screen.show(Scroll, |out| commands::serve::run(&home, &args, out)),
        #[cfg(feature = "mcp")]
        Command::Mcp(args) => commands::mcp::run(home, &args),
        Command::Demo(args) => screen.show(Scroll, |out| commands::demo::run(&screen, &args, out)),
        Command::Completions(args) => {
            screen.show(Scroll, |out| commands::completions::run(&args, out))
        }
        Command::Man(args) => commands::man::run(&args),
    }))
}

/// Runs `export-jsonl`.
#[must_use]
pub fn export_main() -> ExitCode {
    let cli: ExportCli = parse(export_command());
    let screen = Screen::new(&cli.screen);
    finish(cli.home.path().map_err(Into::into).and_then(|home| {
        screen.show(Scroll, |out| {
            commands::export::run(&home, &screen, &cli.export, out)
        })
    }))
}

/// 0 done, 1 nothing found or problems reported, 2 could not run, 130 interrupted.
fn finish(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        Err(error) if is_broken_pipe(&error) && Interrupt::is_requested() => {
            ExitCode::from(interrupt::EXIT_CODE)
        }
        // A reader that closes the pipe, such as `head`, has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let message = display::escape(&output::message_of(&error));
            // If stderr fails, there is no other place to report that.
            let _ = writing(|| writeln!(io::stderr(), "error: {message}"));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

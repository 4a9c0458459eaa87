//! Examples at the end of the help of each command.
//!
//! A test runs every line through the parser of arguments, and fails for a command without examples.

use clap::builder::{StyledStr, Styles};
use std::fmt::Write as _;

/// What a line does, and the line without the name of the program.
type Example = (&'static str, &'static str);

/// The examples of each command.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "status",
        &[
            ("is it storing, who writes, what was lost", "status"),
            ("one stack, for a program", "status gw --json"),
            ("who takes the disk", "status --space"),
            (
                "what a configuration would delete",
                "status gw --config gateway.json",
            ),
        ],
    ),
    (
        "losses",
        &[
            ("what was lost, when and why", "losses"),
            (
                "of one server, since yesterday",
                "losses gw github --since yesterday",
            ),
            (
                "ends with 1 if anything was lost in the last hour",
                "losses --since 1h --json",
            ),
        ],
    ),
    (
        "logs",
        &[
            (
                "the errors of the last hour",
                "logs gw --since 1h --level error",
            ),
            ("what happened at 14:03", "logs --since 14:03 --until 14:04"),
            (
                "two servers, by text, as they arrive",
                "logs gw github slack -g timeout -f",
            ),
            (
                "the logs of a trace, as JSON",
                "logs --trace 4bf92f35 -o json",
            ),
        ],
    ),
    (
        "tail",
        &[
            ("the last lines of all servers, and new ones", "tail"),
            (
                "of one server, without following",
                "tail gw github -n 50 --no-follow",
            ),
        ],
    ),
    (
        "count",
        &[
            ("the records of each level", "count"),
            (
                "errors of today, hour by hour",
                "count gw --since today --level error --by hour",
            ),
            (
                "which tools were slow, most often first",
                "count --field duration_ms>1000 --by field:tool",
            ),
            (
                "failed spans by server and name",
                "count --signal traces --level error --by server,name",
            ),
        ],
    ),
    (
        "traces",
        &[
            (
                "the traces of the last hour in which a span failed",
                "traces --errors --since 1h",
            ),
            (
                "the ten slowest that called a server",
                "traces gw github --slowest 10",
            ),
            (
                "those that took half a second or longer, or that say something",
                "traces --min-duration 500ms -g refused -n 100",
            ),
        ],
    ),
    (
        "trace",
        &[
            ("the trace whose id begins so", "trace 4bf92f35"),
            (
                "with the attributes of its spans and logs",
                "trace gw 4bf92f35 -a",
            ),
            (
                "its spans as OTLP/JSON, as export-jsonl writes them",
                "trace 4bf92f35 -o otlp",
            ),
        ],
    ),
    (
        "calls",
        &[
            (
                "which calls failed in the last hour, and why",
                "calls --failed --since 1h",
            ),
            ("how often and how fast each tool was called", "calls gw"),
            (
                "the ten slowest calls of a tool",
                "calls --slowest -n 10 --tool search",
            ),
        ],
    ),
    (
        "usage",
        &[
            (
                "tokens and cost of yesterday, hour by hour",
                "usage gw --since yesterday --until today --by hour",
            ),
            ("the tools of one server", "usage gw github --by tool"),
            (
                "by day and server since the first of May, for a spreadsheet",
                "usage --since 2026-05-01 --by day,server --csv",
            ),
        ],
    ),
    (
        "wipe",
        &[
            (
                "everything that is older than 30 days",
                "wipe gw --before 30days",
            ),
            (
                "the logs of one server, without a question",
                "wipe gw github --signal logs --yes",
            ),
            ("every stack", "wipe --all"),
        ],
    ),
    (
        "verify",
        &[
            ("is anything damaged", "verify"),
            (
                "export what can be read of a damaged stack",
                "verify gw --salvage /tmp/salvaged",
            ),
        ],
    ),
    (
        "compact",
        &[("all stacks", "compact"), ("one stack", "compact gw")],
    ),
    (
        "import-jsonl",
        &[
            (
                "the files of gridctl's Go daemon",
                "import-jsonl gw ~/.gridctl/telemetry/gw",
            ),
            (
                "the logs of another program",
                "import-jsonl gw app.log --server app --signal logs",
            ),
            ("standard input", "import-jsonl gw - --server app --strict"),
        ],
    ),
    (
        "export-jsonl",
        &[
            (
                "all records of a stack, as files",
                "export-jsonl gw --out backup",
            ),
            (
                "the traces of yesterday, as OTLP/JSON",
                "export-jsonl gw --stdout --signal traces --since yesterday --until today",
            ),
            (
                "for a Collector, each record once",
                "export-jsonl gw --out otlp --format otlp --follow --resume otlp/progress",
            ),
        ],
    ),
    #[cfg(feature = "forward")]
    (
        "forward",
        &[
            (
                "all that is stored, to a Collector on this machine",
                "forward gw --endpoint http://localhost:4318",
            ),
            (
                "as it arrives, with a token that other users cannot see: \
                 export OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer%20…'",
                "forward gw --endpoint https://otlp.example.com --follow",
            ),
            (
                "the traces of two servers, with a cursor of their own",
                "forward gw github slack --signal traces --cursor traces.json --endpoint http://tempo:4318",
            ),
        ],
    ),
    (
        "export-parquet",
        &[
            (
                "all records of a stack, for DuckDB, ClickHouse, Spark or DataFusion",
                "export-parquet gw --out lake",
            ),
            (
                "what is new since the last run, each record once: for a timer",
                "export-parquet gw --out lake --resume lake.progress",
            ),
            (
                "the spans of yesterday",
                "export-parquet gw --out lake --signal traces --since yesterday --until today",
            ),
        ],
    ),
    (
        "serve",
        &[
            ("the only stack, in a browser", "serve --open"),
            (
                "for other machines, with a token: (umask 077; openssl rand -hex 32 > token)",
                "serve gw --listen 0.0.0.0:4318 --token-file token",
            ),
            (
                "for the pages of an application that sends telemetry",
                "serve gw --allow-origin https://app.example.com",
            ),
        ],
    ),
    (
        "mcp",
        &[
            (
                "what an agent's client starts, e.g.: claude mcp add telemetry -- gridctl-telemetry mcp",
                "mcp",
            ),
            ("for questions about one stack alone", "mcp gw"),
        ],
    ),
    (
        "demo",
        &[("half a minute of a gateway", "demo --seconds 30")],
    ),
    (
        "completions",
        &[
            (
                "for bash, in ~/.bashrc: source <(gridctl-telemetry completions bash)",
                "completions bash",
            ),
            (
                "for zsh, in a folder of fpath, as _gridctl-telemetry",
                "completions zsh",
            ),
            (
                "for fish, in ~/.config/fish/completions",
                "completions fish",
            ),
        ],
    ),
    (
        "man",
        &[(
            "pages that `man gridctl-telemetry` finds",
            "man ~/.local/share/man/man1",
        )],
    ),
];

/// Adds its examples to the help of each command.
pub(crate) fn add_to(program: clap::Command) -> clap::Command {
    let name = program.get_name().to_owned();
    EXAMPLES
        .iter()
        .fold(program, |program, (command, examples)| {
            if program.find_subcommand(command).is_none() {
                return program;
            }
            program.mut_subcommand(command, |it| it.after_help(text(&name, examples)))
        })
}

/// Adds the examples of a command to a program that is this command alone.
pub(crate) fn add_to_program(program: clap::Command, command: &str) -> clap::Command {
    let examples = EXAMPLES.iter().find(|(name, _)| *name == command);
    let lines: Vec<(&str, &str)> = examples
        .into_iter()
        .flat_map(|(_, examples)| *examples)
        .map(|(what, line)| {
            (
                *what,
                line.strip_prefix(command).unwrap_or(line).trim_start(),
            )
        })
        .collect();
    let help = text(program.get_name(), &lines);
    program.after_help(help)
}

fn text(program: &str, examples: &[(&str, &str)]) -> StyledStr {
    let styles = Styles::styled();
    let (heading, literal) = (styles.get_header(), styles.get_literal());
    let mut text = StyledStr::new();
    let _ = write!(text, "{heading}Examples:{heading:#}");
    for (what, line) in examples {
        let _ = write!(
            text,
            "\n  {literal}{program} {line}{literal:#}\n      {what}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command, export_command};

    /// The words of a line, in which no word has spaces.
    fn words<'a>(program: &'a str, line: &'a str) -> Vec<&'a str> {
        std::iter::once(program).chain(line.split(' ')).collect()
    }

    #[test]
    fn every_command_has_examples_that_it_accepts() {
        let program = command();
        for subcommand in program.get_subcommands() {
            let name = subcommand.get_name();
            let examples = EXAMPLES.iter().find(|(of, _)| *of == name);
            let (_, examples) = examples.unwrap_or_else(|| panic!("{name} has no examples"));
            assert!(subcommand.get_after_help().is_some());
            for (what, line) in *examples {
                assert!(line.split(' ').next() == Some(name) && !what.is_empty());
                let parsed = program.clone().try_get_matches_from(words("program", line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
        let (_, exports) = EXAMPLES
            .iter()
            .find(|(of, _)| *of == "export-jsonl")
            .unwrap();
        for (_, line) in *exports {
            let parsed = export_command().try_get_matches_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
        export_command().debug_assert();
    }
}

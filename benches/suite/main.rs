//! The figures of the README: our store beside its peers on the same records, and beside the last committed figures.
//!
//! ```text
//! cargo bench -p gridctl-telemetry-benches --bench suite                      # everything but `build`
//! cargo bench -p gridctl-telemetry-benches --bench suite -- --only ingest,scan
//! cargo bench -p gridctl-telemetry-benches --bench suite -- --full --accept   # for a release
//! ```
//!
//! | option | |
//! |---|---|
//! | `--only PART,PART` | these parts alone: `sizes`, `ingest`, `signals`, `scan`, `growth`, `files`, `events`, `kill`, `memory`, `others`, `instructions`, `build` |
//! | `--build` | also the clean release build of the library, which takes a minute or two |
//! | `--full` | also 10,000,000 records in `growth`, and 1 GiB in `kill` |
//! | `--quick` | few records, to see that everything works; says nothing about speed |
//! | `--rounds N` | the number of rounds whose medians are shown, 3 by default |
//! | `--data DIR` | a folder with OTLP files of other programs, for `others` |
//! | `--accept` | write the figures, the charts and the README's table, also if a figure is worse |
//!
//! The table goes to standard output, with the charts beside it in the build folder. A figure that is worse than the
//! one in `benches/figures/figures.json` by more than a tenth is listed, and the command ends with 1; with 2 if a part has failed. For that, times
//! are corrected by the speed of the machine, which the peers in the same run tell.
//!
//! Rules: all commits are durable. Peers commit as many records at a time as our writer does. Our writer redacts and
//! compresses a large commit on two threads (`WriterOptions::commit_threads`), and on one in a daemon. Each engine is closed
//! before its files are measured, as allocated disk blocks, and opened again before it is read. Engines take turns, and
//! each round begins with another one. Values are medians.

mod build;
mod events;
mod files;
mod growth;
mod ingest;
mod instructions;
mod kill;
mod memory;
mod others;
mod progress;
mod scan;
mod sizes;

use crate::progress::Progress;
use anyhow::{Result, bail, ensure};
use gridctl_telemetry::Timestamp;
use gridctl_telemetry_benches::{
    Arguments,
    report::{
        Curve, Figure, Figures, Part, draw, figures_table, machines, replace_between, yardstick,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

/// Where the benchmarks write.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const SEED: u64 = 2026;
const TABLE_BEGIN: &str = "<!-- figures begin: written by the bench `suite` -->";
const TABLE_END: &str = "<!-- figures end -->";

/// What a part has found.
#[derive(Debug, Default)]
struct Found {
    figures: Vec<Figure>,
    curves: Vec<Curve>,
}

impl From<Vec<Figure>> for Found {
    fn from(figures: Vec<Figure>) -> Found {
        Found {
            figures,
            curves: Vec::new(),
        }
    }
}

/// How to run.
struct Run {
    quick: bool,
    full: bool,
    rounds: usize,
    data: Option<PathBuf>,
    progress: Progress,
}

impl Run {
    /// A number of records, or few of them.
    fn records(&self, records: usize) -> usize {
        if self.quick { records / 50 } else { records }
    }
}

/// The name of a part, and its function.
type Named = (&'static str, fn(&Run) -> Result<Found>);

/// The parts in the order of the table.
const PARTS: [Named; 12] = [
    ("sizes", sizes::run),
    ("ingest", ingest::logs),
    ("signals", ingest::signals),
    ("events", events::run),
    ("scan", scan::run),
    ("growth", growth::run),
    ("files", files::run),
    ("kill", kill::run),
    ("memory", memory::run),
    ("others", others::run),
    ("instructions", instructions::run),
    ("build", build::run),
];

fn main() -> Result<ExitCode> {
    if let Some(outcome) = build::as_compiler() {
        return outcome;
    }
    let arguments = Arguments::read(&[
        "--only", "--build", "--full", "--quick", "--rounds", "--data", "--accept", "--child",
        "--folder", "--count",
    ])?;
    let child: String = arguments.value("--child", String::new())?;
    if !child.is_empty() {
        let folder: PathBuf = arguments.value("--folder", PathBuf::new())?;
        run_child(&child, &folder, arguments.value("--count", 0)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let quick = arguments.has("--quick");
    let accepts = arguments.has("--accept");
    ensure!(
        !(quick && accepts),
        "the figures of --quick say nothing about speed"
    );
    let data: PathBuf = arguments.value("--data", PathBuf::new())?;
    let only: String = arguments.value("--only", String::new())?;
    let wanted = wanted(&only, arguments.has("--build"), data != Path::new(""))?;
    let run = Run {
        quick,
        full: arguments.has("--full"),
        rounds: arguments.value("--rounds", if quick { 1 } else { 3 })?,
        data: Some(data).filter(|data| data != Path::new("")),
        progress: Progress::new(),
    };

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures");
    let json = folder.join("figures.json");
    let mut figures = Figures::read(&json)?;
    let (mut worse, mut failed, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (name, function) in wanted {
        run.progress.part(name);
        let yardstick_nanos = yardstick()?;
        let found = match function(&run) {
            Ok(found) => found,
            // What the other parts find is not lost.
            Err(error) => {
                failed.push(format!("the part {name}: {error:#}"));
                continue;
            }
        };
        let part = Part {
            measured: Timestamp::now().to_string().chars().take(10).collect(),
            machine: machine()?,
            commit: commit(),
            yardstick_nanos,
            figures: found.figures,
            curves: found.curves,
        };
        if !quick {
            worse.extend(figures.worse(name, &part));
        }
        figures.parts.insert(name.to_owned(), part);
        names.push(name);
    }
    run.progress.finish();

    print!("{}", figures_table(&figures, &names));
    let all = PARTS.map(|(name, _)| name);
    if accepts {
        figures.write(&json)?;
        draw(&figures, &folder)?;
        let readme = folder.join("../../README.md");
        let text = format!("{}\n{}", figures_table(&figures, &all), machines(&figures));
        let document = fs::read_to_string(&readme)?;
        fs::write(
            &readme,
            replace_between(&document, TABLE_BEGIN, TABLE_END, &text)?,
        )?;
        println!("\nwritten: the figures, the charts and the README's table");
    } else {
        let charts = Path::new(FOLDER).join("figures");
        let drawn = draw(&figures, &charts)?;
        println!("\n{} charts in {}", drawn.len(), charts.display());
    }
    for line in &worse {
        println!("WORSE: {line}");
    }
    for line in &failed {
        println!("FAILED: {line}");
    }
    Ok(if !failed.is_empty() {
        ExitCode::from(2)
    } else if worse.is_empty() || accepts {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// The parts that `--only` names; without it, those that need no option.
fn wanted(only: &str, builds: bool, has_data: bool) -> Result<Vec<Named>> {
    let names: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    for name in &names {
        if !PARTS.iter().any(|(part, _)| part == name) {
            let parts = PARTS.map(|(part, _)| part).join(", ");
            bail!("there is no part {name}: the parts are {parts}");
        }
    }
    let is_wanted = |part: &str| match part {
        _ if !names.is_empty() => names.contains(&part),
        "build" => builds,
        "others" => has_data,
        _ => true,
    };
    let parts = PARTS.into_iter().filter(|(part, _)| is_wanted(part));
    Ok(parts.collect())
}

/// Does what a part needs a process of its own for.
fn run_child(child: &str, folder: &Path, count: u64) -> Result<()> {
    match child {
        "fill" => kill::fill(folder),
        "daemon" => memory::daemon(folder, count),
        path => instructions::child(path, folder, count),
    }
}

/// This program, to run as the process `child` of a part.
fn child(child: &str, folder: &Path, count: u64) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--child", child, "--count", &count.to_string(), "--folder"])
        .arg(folder);
    Ok(command)
}

/// The processor, the system and the file system, as far as this system tells.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("a processor", |(_, model)| model.trim());
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(format!("{cores} cores of {model}, Linux {}", kernel.trim()))
}

/// The commit of the working tree, with `+` if something has changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let sources = ["status", "--porcelain", "--", "../src", "../Cargo.lock"];
    let changed = git(&sources).is_some_and(|changes| !changes.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    format!("{commit}{}", if changed { "+" } else { "" })
}

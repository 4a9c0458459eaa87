//! `status`: the stored records of each server, the disk space and the losses.

use super::{stacks_with_old, store_options};
use crate::{
    Outcome, losses,
    old_files::{Count, OldFiles, stack_folder},
    output::{escape, note},
    screen::Screen,
    table::Table,
};
use anyhow::Context;
use bytesize::ByteSize;
use gridctl_telemetry::{
    Signal, Store, TelemetryConfig, Timestamp,
    home::default_home,
    ledger::{ClockJump, LedgerEntry},
    maintenance::{FileSystem, Space, WriterStatus},
    query::InventoryRecord,
};
use serde::Serialize;
use std::{
    fmt::{self, Write as _},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to show [default: all]
    stack: Option<String>,
    /// Show the disk space of each stack, and how much of it is live and free
    #[arg(long)]
    space: bool,
    /// Compare with a configuration (JSON): which servers never log, which are not configured, and
    /// what its limits would delete
    #[arg(long, value_name = "FILE", requires = "stack")]
    config: Option<PathBuf>,
    /// Print JSON: the inventory, and the state of each stack with its writers and its ledger
    #[arg(long, conflicts_with = "plain")]
    json: bool,
    /// Print rows with a tab between columns, and sizes in bytes
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// A table of one stack.
    pub(super) fn of_stack(stack: &str) -> Args {
        Args {
            stack: Some(stack.to_owned()),
            space: false,
            config: None,
            json: false,
            plain: false,
        }
    }
}

/// A row of the listing, by the names that the Go program gives its fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    stack: &'a str,
    server: &'a str,
    signal: Signal,
    path: String,
    size_bytes: u64,
    file_count: u64,
    record_count: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

impl<'a> Row<'a> {
    fn new(stack: &'a str, record: &'a InventoryRecord) -> Row<'a> {
        Row {
            stack,
            server: &record.server,
            signal: record.signal,
            path: record.path.display().to_string(),
            size_bytes: record.size_bytes,
            file_count: record.file_count,
            record_count: record.record_count,
            oldest: record.oldest_time,
            newest: record.newest_time,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    inventory: Vec<Row<'a>>,
    stacks: &'a [Found],
    daemon_files: &'a [Old],
}

/// A row of the listing of disk space.
#[derive(Debug, Serialize)]
struct SpaceRow<'a> {
    stack: &'a str,
    path: &'a str,
    #[serde(flatten)]
    space: Space,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let config = args.config.as_deref().map(read_config).transpose()?;
    let mut found = Vec::new();
    let mut old: Vec<Old> = Vec::new();
    let mut outcome = Outcome::Done;
    for stack in stacks_with_old(home, args.stack.as_ref())? {
        match examine(home, &stack, config.as_ref()) {
            Ok(database) => {
                found.extend(database);
                old.extend(Old::find(home, &stack)?);
            }
            // One damaged stack must not hide the others, unless it is the only requested one.
            Err(error) if args.stack.is_none() => {
                note(&format!("error: {stack}: {error}"));
                outcome = Outcome::Problems;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.space {
        print_space(&found, args, screen, out)?;
    } else {
        print_records(&found, &old, args, screen, out)?;
    }
    for old in &old {
        if args.json || args.plain {
            note(&old.to_string());
        } else {
            writeln!(out, "{}", escape(&old.to_string()))?;
        }
    }
    out.flush()?;
    Ok(outcome)
}

fn print_records(
    found: &[Found],
    old: &[Old],
    args: &Args,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows: Vec<Row<'_>> = found
        .iter()
        .flat_map(|found| {
            found
                .inventory
                .iter()
                .map(|record| Row::new(&found.stack, record))
        })
        .collect();
    if args.json {
        let report = Report {
            inventory: rows,
            stacks: found,
            daemon_files: old,
        };
        return print_json(&report, out);
    }
    let mut table = Table::new(
        [
            "STACK", "SERVER", "SIGNAL", "SIZE", "FILES", "RECORDS", "OLDEST", "NEWEST",
        ],
        3..6,
    );
    for row in &rows {
        table.add([
            escape(row.stack),
            escape(row.server),
            row.signal.to_string(),
            size(row.size_bytes, args),
            row.file_count.to_string(),
            row.record_count.to_string(),
            screen.time(row.oldest),
            screen.time(row.newest),
        ]);
    }
    if args.plain {
        return Ok(table.print_plain(out)?);
    }
    if table.is_empty() {
        writeln!(out, "No telemetry.")?;
    } else {
        table.print(screen, out)?;
    }
    for found in found {
        write!(out, "{}", footer(found))?;
    }
    Ok(())
}

fn print_space(
    found: &[Found],
    args: &Args,
    screen: &Screen,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let rows: Vec<SpaceRow<'_>> = found
        .iter()
        .map(|found| SpaceRow {
            stack: &found.stack,
            path: &found.path,
            space: found.space,
        })
        .collect();
    if args.json {
        return print_json(&rows, out);
    }
    let mut table = Table::new(
        ["STACK", "LIVE", "FREE", "RESERVE", "USED", "FILE", "LIMIT"],
        1..7,
    );
    for SpaceRow { stack, space, .. } in &rows {
        table.add([
            escape(stack),
            size(space.live_bytes, args),
            size(space.free_bytes, args),
            size(space.reserve_bytes, args),
            size(space.used_bytes, args),
            size(space.file_bytes, args),
            space
                .limit_bytes
                .map_or_else(String::new, |bytes| size(bytes, args)),
        ]);
    }
    if args.plain {
        table.print_plain(out)?;
    } else if table.is_empty() {
        writeln!(out, "No telemetry.")?;
    } else {
        table.print(screen, out)?;
    }
    Ok(())
}

fn print_json(rows: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)?;
    Ok(())
}

/// A size, rounded with a unit, or in bytes with `--plain`.
fn size(bytes: u64, args: &Args) -> String {
    if args.plain {
        bytes.to_string()
    } else {
        human(bytes)
    }
}

fn human(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// The state of a stack.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    stack: String,
    path: String,
    #[serde(skip)]
    inventory: Vec<InventoryRecord>,
    space: Space,
    file_system: FileSystem,
    /// Whether a running process writes.
    is_writing: bool,
    writers: Vec<WriterStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_commit: Option<Timestamp>,
    #[serde(rename = "ledger")]
    losses: Vec<LedgerEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_jump: Option<ClockJump>,
    /// How the stack differs from the configuration of `--config`.
    comparison: Vec<String>,
}

fn read_config(path: &Path) -> anyhow::Result<TelemetryConfig> {
    let cannot = || format!("cannot read the configuration {}", path.display());
    let text = fs::read_to_string(path).with_context(cannot)?;
    serde_json::from_str(&text).with_context(cannot)
}

/// Compares a stack with a configuration, a line for each difference.
fn compare(
    store: &Store,
    inventory: &[InventoryRecord],
    config: &TelemetryConfig,
) -> gridctl_telemetry::Result<Vec<String>> {
    let mut warnings = config.validate()?;
    warnings.extend(store.would_delete(&config.retention_policy()?)?);
    let coverage = config.coverage(inventory.iter().map(|found| (&found.server, found.signal)));
    let silent = coverage.silent.iter().map(|(server, signal)| {
        format!(
            "the configured server {:?} has no {signal}",
            server.as_str()
        )
    });
    let unconfigured = coverage.unconfigured.iter().map(|server| {
        format!(
            "the server {:?} has records and is not configured",
            server.as_str()
        )
    });
    let warnings = warnings.iter().map(ToString::to_string);
    Ok(silent.chain(unconfigured).chain(warnings).collect())
}

fn examine(
    home: &Path,
    stack: &str,
    config: Option<&TelemetryConfig>,
) -> gridctl_telemetry::Result<Option<Found>> {
    let Some(store) = Store::open_read_only(home, stack, store_options())? else {
        return Ok(None);
    };
    let snapshot = store.snapshot()?;
    let inventory = snapshot.inventory(None)?;
    let comparison = match config {
        Some(config) => compare(&store, &inventory, config)?,
        None => Vec::new(),
    };
    let writers = store.writers()?;
    Ok(Some(Found {
        is_writing: writers.iter().any(|writer| writer.is_running),
        writers,
        last_commit: snapshot.last_commit()?,
        file_system: store.file_system()?,
        stack: stack.to_owned(),
        path: store.path().display().to_string(),
        inventory,
        comparison,
        space: store.space()?,
        losses: snapshot.ledger(..)?,
        clock_jump: snapshot.clock_jump()?,
    }))
}

/// The files of the Go daemon in a stack's folder, and the command that imports them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Old {
    stack: String,
    #[serde(flatten)]
    count: Count,
    import_command: String,
}

impl Old {
    fn find(home: &Path, stack: &str) -> anyhow::Result<Option<Old>> {
        let count = OldFiles::find(home, stack, None, None)?.total();
        if count.files == 0 {
            return Ok(None);
        }
        let mut import_command = String::from("gridctl-telemetry");
        let is_default = default_home().is_ok_and(|default| default == home);
        if let (false, Some(user_home)) = (is_default, home.parent()) {
            let _ = write!(
                import_command,
                " --home {}",
                shell_word(&user_home.display())
            );
        }
        let folder = stack_folder(home, stack);
        let _ = write!(
            import_command,
            " import-jsonl {} {}",
            shell_word(&stack),
            shell_word(&folder.display())
        );
        Ok(Some(Old {
            stack: stack.to_owned(),
            count,
            import_command,
        }))
    }
}

impl fmt::Display for Old {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: `{}` stores their records, each once, and `wipe` deletes these files too",
            self.stack, self.count, self.import_command
        )
    }
}

/// A word of a command line.
fn shell_word(word: &impl ToString) -> String {
    let word = word.to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Which processes write, and whether they can.
fn writers(found: &Found) -> Vec<String> {
    let mut lines: Vec<String> = found.writers.iter().map(describe_writer).collect();
    if !found.is_writing {
        lines.push("no process is writing".to_owned());
    }
    if let (Some(line), Some(at)) = (lines.last_mut(), found.last_commit) {
        let _ = write!(line, "; the last commit was at {at}");
    }
    lines
}

fn describe_writer(writer: &WriterStatus) -> String {
    let process = writer.process_id;
    let since =
        |time: Option<Timestamp>| time.map_or_else(String::new, |time| format!(" since {time}"));
    match (&writer.last_error, writer.failing_since) {
        _ if !writer.is_running => format!("process {process} was killed while it was writing"),
        (None, None) => format!("process {process} is writing{}", since(writer.since)),
        (error, failing_since) => format!(
            "process {process} cannot store{}: {}",
            since(failing_since),
            error.as_deref().unwrap_or("the reason is not known")
        ),
    }
}

/// The lines about a whole stack.
fn footer(found: &Found) -> String {
    let stack = escape(&found.stack);
    let mut footer = format!(
        "{stack}: {}{} on disk: {} live, {} free, {} in reserve\n",
        human(found.space.used_bytes),
        found
            .space
            .limit_bytes
            .map_or_else(String::new, |limit| format!(" of {}", human(limit))),
        human(found.space.live_bytes),
        human(found.space.free_bytes),
        human(found.space.reserve_bytes),
    );
    let file_system = &found.file_system;
    let _ = writeln!(
        footer,
        "{stack}: its file system has {} of {} available",
        human(file_system.available_bytes),
        human(file_system.total_bytes)
    );
    for line in writers(found) {
        let _ = writeln!(footer, "{stack}: {}", escape(&line));
    }
    if let Some(jump) = &found.clock_jump {
        let _ = writeln!(footer, "{stack}: {jump}");
    }
    if let Some(evicted) = losses::evicted(&found.losses) {
        let _ = writeln!(footer, "{stack}: {evicted}");
    }
    if let Some(losses) = losses::summary(&found.losses) {
        let _ = writeln!(footer, "{stack}: {losses}");
    }
    for line in &found.comparison {
        let _ = writeln!(footer, "{stack}: {}", escape(line));
    }
    footer
}

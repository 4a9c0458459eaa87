//! The layout of the flat files: their names, their servers, and the order in which they were written.

use crate::{
    folders,
    output::{message_of, note},
};
use anyhow::{Context, bail};
use gridctl_telemetry::{ServerName, Signal, Timestamp};
use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Packing {
    #[value(skip)]
    Plain,
    /// gzip, which a Collector can read
    Gzip,
    /// Zstandard, smaller and faster
    Zstd,
}

impl Packing {
    /// The end of a file's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Packing::Plain => "",
            Packing::Gzip => ".gz",
            Packing::Zstd => ".zst",
        }
    }

    /// Removes the suffix from a file's name.
    fn strip(name: &str) -> (&str, Packing) {
        [Packing::Gzip, Packing::Zstd]
            .into_iter()
            .find_map(|packing| Some((name.strip_suffix(packing.suffix())?, packing)))
            .unwrap_or((name, Packing::Plain))
    }
}

/// A file of records of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlatFile {
    pub(crate) path: PathBuf,
    /// The server of records that do not name one themselves.
    pub(crate) server: Option<ServerName>,
    pub(crate) signal: Signal,
    pub(crate) packing: Packing,
    pub(crate) bytes: u64,
    /// Whether another active file of the same series is read before this one, which may be a copy
    /// of it or an older state. A record in both files is one record.
    pub(crate) is_twin: bool,
}

/// The name of a file of the layout: `logs.jsonl` or `logs-2026-04-30T12-00-00.000.jsonl`, optionally
/// followed by `.gz` or `.zst`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) signal: Signal,
    /// The time of rotation as in the name; `None` for the active file.
    pub(crate) rotated: Option<String>,
    pub(crate) packing: Packing,
}

/// The form of the time in a rotated file's name; a zero means a digit.
const ROTATED_FORM: &[u8] = b"0000-00-00T00-00-00.000";

impl FileName {
    /// Parses a name; `None` when it is not one of the layout, so that the file is the user's own.
    pub(crate) fn parse(name: &str) -> Option<FileName> {
        let (name, packing) = Packing::strip(name);
        let stem = name.strip_suffix(".jsonl")?;
        Signal::ALL.into_iter().find_map(|signal| {
            let rest = stem.strip_prefix(signal.as_str())?;
            let rotated = if rest.is_empty() {
                None
            } else {
                let time = rest.strip_prefix('-')?;
                let formed = time.len() == ROTATED_FORM.len()
                    && time
                        .bytes()
                        .zip(ROTATED_FORM)
                        .all(|(byte, form)| match form {
                            b'0' => byte.is_ascii_digit(),
                            form => byte == *form,
                        });
                Some(formed.then(|| time.to_owned())?)
            };
            Some(FileName {
                signal,
                rotated,
                packing,
            })
        })
    }

    /// Whether gridctl's Go daemon writes files of this name. It compresses only rotated files, and
    /// only with gzip.
    pub(crate) fn is_go_daemons(&self) -> bool {
        match &self.rotated {
            None => self.packing == Packing::Plain,
            Some(rotated) => self.packing != Packing::Zstd && time_of(rotated).is_some(),
        }
    }

    /// The name of a file that is rotated now. Its time is after those of all files in `folder`, so
    /// that names sort in the order in which the files were written.
    pub(crate) fn rotated_now(folder: &Path, signal: Signal) -> anyhow::Result<String> {
        let newest = Self::in_folder(folder, signal)?
            .into_iter()
            .filter_map(|(name, _)| time_of(&name.rotated?))
            .max();
        let next = newest.map(|newest| Timestamp::from_unix_nanos(newest.unix_nanos() + 1_000_000));
        Ok(rotated_name(
            signal,
            next.unwrap_or(Timestamp::MIN).max(Timestamp::now()),
        ))
    }

    /// The files of one signal in a folder. A missing folder has none.
    pub(crate) fn in_folder(
        folder: &Path,
        signal: Signal,
    ) -> anyhow::Result<Vec<(FileName, PathBuf)>> {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let names = entries(folder)?.into_iter();
        Ok(names
            .filter_map(|(path, name)| Some((FileName::parse(&name)?, path)))
            .filter(|(name, _)| name.signal == signal)
            .collect())
    }
}

/// The name of a file that was rotated at `time`.
pub(crate) fn rotated_name(signal: Signal, time: Timestamp) -> String {
    // `2026-04-30T12:00:00.123456789Z`: dashes replace colons, and three digits of the fraction stay.
    let text = time.to_string();
    let (seconds, fraction) = text
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((&text, ""));
    let seconds = seconds.trim_end_matches('Z').replace(':', "-");
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{signal}-{seconds}.{millis}.jsonl")
}

/// The time in a rotated name, if there is such a time.
fn time_of(rotated: &str) -> Option<Timestamp> {
    let (date, clock) = rotated.split_once('T')?;
    let text = format!("{date}T{}Z", clock.replace('-', ":"));
    Some(Timestamp::parse_rfc3339(&text).ok()?.0)
}

/// A folder with files of the layout, below a stack's folder.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The names of the folders down to it.
    names: Vec<String>,
}

/// The files below a stack's folder. Those of one server and signal are ordered by time: rotated files
/// oldest first, then the active file. With `server`, `folder` may also be the folder of that server.
pub(crate) fn find_files(
    folder: &Path,
    stack: &str,
    server: Option<&ServerName>,
    signal: Option<Signal>,
) -> anyhow::Result<Vec<FlatFile>> {
    let mut walk = Walk::default();
    walk.descend(folder, &mut Vec::new())?;
    let Walk {
        found, left_alone, ..
    } = walk;
    let mut owners: BTreeMap<ServerName, Folder> = BTreeMap::new();
    let mut order = Vec::new();
    for found in found {
        let owner = match (found.names.is_empty(), server) {
            (true, Some(server)) => server.clone(),
            (true, None) => {
                note(&format!(
                    "{}: skipped the files directly in this folder, because their server is unknown: \
                     pass --server NAME to import them",
                    folder.display()
                ));
                continue;
            }
            (false, _) => folders::server_of(&found.names)
                .with_context(|| format!("cannot import {}", found.path.display()))?,
        };
        if server.is_some_and(|server| *server != owner) {
            continue;
        }
        if let Some(other) = owners.get(&owner) {
            bail!(
                "{} and {} are both folders of the server {:?}: move one of them away, or import \
                 them one after the other, each with --server",
                other.path.display(),
                found.path.display(),
                owner.as_str()
            );
        }
        order.push(owner.clone());
        owners.insert(owner, found);
    }
    let is_nested = |found: &Folder| found.names.len() > 1 && !folders::is_encoded(&found.names);
    let in_stack = |found: &Folder| found.names.first().is_some_and(|name| name == stack);
    if server.is_none()
        && !owners.is_empty()
        && owners.values().all(|it| is_nested(it) && in_stack(it))
    {
        bail!(
            "{} is the folder above the stack's: pass {}, or --server for servers that are called \
             {stack}/…",
            folder.display(),
            folder.join(stack).display()
        );
    }
    let mut files = Vec::new();
    for owner in order {
        if let Some(found) = owners.get(&owner) {
            if is_nested(found) {
                note(&format!(
                    "{}: read as the server {:?}",
                    found.path.display(),
                    owner.as_str()
                ));
            }
            files.extend(files_of_server(&found.path, &owner, signal)?);
        }
    }
    if files.is_empty() {
        bail!(
            "{} holds no telemetry: expected SERVER/logs.jsonl, metrics.jsonl or traces.jsonl \
             below it, or --server for a folder of one server",
            folder.display()
        );
    }
    if let Some(first) = left_alone.first() {
        note(&format!(
            "skipped {} files whose names are not those of telemetry files, such as {}",
            left_alone.len(),
            first.display()
        ));
    }
    // Twins come last: until then, a record that occurs twice is two records.
    files.sort_by_key(|file| file.is_twin);
    Ok(files)
}

#[derive(Debug, Default)]
struct Walk {
    found: Vec<Folder>,
    /// Other files in folders with files of the layout.
    left_alone: Vec<PathBuf>,
    /// The folders that were visited, by device and inode, because links can lead back.
    seen: HashSet<(u64, u64)>,
}

impl Walk {
    /// Searches a folder and the folders below it. `names` are the names of the folders down to it.
    fn descend(&mut self, folder: &Path, names: &mut Vec<String>) -> anyhow::Result<()> {
        let metadata = metadata(folder)?;
        self.seen.insert((metadata.dev(), metadata.ino()));
        let mut folders = Vec::new();
        let mut files = Vec::new();
        let mut has_telemetry = false;
        for (path, name) in entries(folder)? {
            if path.is_dir() {
                folders.push((path.is_symlink(), path, name));
            } else if path.is_file() && FileName::parse(&name).is_some() {
                has_telemetry = true;
            } else {
                files.push(path);
            }
        }
        if has_telemetry {
            self.left_alone.append(&mut files);
            self.found.push(Folder {
                path: folder.to_owned(),
                names: names.clone(),
            });
        }
        // Links come last: a folder is known by the name of a link only if it has no other name here.
        folders.sort_by_key(|(is_link, ..)| *is_link);
        for (is_link, path, name) in folders {
            let metadata = self::metadata(&path)?;
            if self.seen.contains(&(metadata.dev(), metadata.ino())) {
                note(&format!(
                    "{}: skipped, because it leads to a folder that is read already",
                    path.display()
                ));
            } else if is_link && !names.is_empty() {
                note(&format!(
                    "{}: skipped, because it is a link inside a server's folder",
                    path.display()
                ));
            } else {
                let is_nested = !names.is_empty();
                names.push(name);
                match self.descend(&path, names) {
                    // Folders inside a server's folder need not be telemetry.
                    Err(error) if is_nested => note(&format!("skipped: {}", message_of(&error))),
                    outcome => outcome?,
                }
                names.pop();
            }
        }
        Ok(())
    }
}

fn files_of_server(
    folder: &Path,
    server: &ServerName,
    signal: Option<Signal>,
) -> anyhow::Result<Vec<FlatFile>> {
    let mut found = Vec::new();
    for signal in Signal::ALL
        .into_iter()
        .filter(|it| signal.is_none_or(|signal| signal == *it))
    {
        found.extend(FileName::in_folder(folder, signal)?);
    }
    found.retain(|(_, path)| path.is_file());
    // The active file has no time and comes last. A plain file comes before a compressed one.
    found.sort_by_key(|(name, _)| {
        (
            name.signal,
            name.rotated.is_none(),
            name.rotated.clone(),
            name.packing,
        )
    });
    found.dedup_by(|(later, path), (earlier, _)| {
        // An interrupted rotation leaves both, and the compressed file is incomplete.
        let twin = later.rotated.is_some()
            && later.signal == earlier.signal
            && later.rotated == earlier.rotated;
        if twin {
            note(&format!(
                "{}: skipped, because the same file {} is read",
                path.display(),
                match earlier.packing {
                    Packing::Plain => "without compression",
                    _ => "with another compression",
                }
            ));
        }
        twin
    });
    let mut active = HashSet::new();
    found
        .into_iter()
        .map(|(name, path)| {
            let bytes = metadata(&path)?.len();
            Ok(FlatFile {
                path,
                server: Some(server.clone()),
                signal: name.signal,
                packing: name.packing,
                bytes,
                is_twin: name.rotated.is_none() && !active.insert(name.signal),
            })
        })
        .collect()
}

/// A single file. Its name tells its signal if no option does.
pub(crate) fn single_file(
    path: &Path,
    server: Option<&ServerName>,
    signal: Option<Signal>,
) -> anyhow::Result<FlatFile> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let from_name = || {
        FileName::parse(name).map(|name| name.signal).or_else(|| {
            let stem = name.split(['.', '-']).next()?;
            stem.parse().ok()
        })
    };
    let Some(signal) = signal.or_else(from_name) else {
        bail!(
            "the name of {} does not tell its signal: pass --signal",
            path.display()
        );
    };
    Ok(FlatFile {
        path: path.to_owned(),
        server: server.cloned(),
        signal,
        packing: Packing::strip(name).1,
        bytes: metadata(path)?.len(),
        is_twin: false,
    })
}

fn metadata(path: &Path) -> anyhow::Result<Metadata> {
    fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A folder's entries whose names are UTF-8, sorted.
fn entries(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        match entry.file_name().into_string() {
            Ok(name) => entries.push((entry.path(), name)),
            Err(_) => note(&format!(
                "{}: skipped, because its name is not UTF-8",
                entry.path().display()
            )),
        }
    }
    entries.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_layout_are_claimed() {
        for (name, signal, rotated, packing) in [
            ("logs.jsonl", Signal::Logs, None, Packing::Plain),
            ("logs.jsonl.gz", Signal::Logs, None, Packing::Gzip),
            ("metrics.jsonl.zst", Signal::Metrics, None, Packing::Zstd),
            (
                "traces-2026-04-30T12-00-00.000.jsonl.gz",
                Signal::Traces,
                Some("2026-04-30T12-00-00.000"),
                Packing::Gzip,
            ),
            (
                "traces-2026-04-30T12-00-00.000.jsonl.zst",
                Signal::Traces,
                Some("2026-04-30T12-00-00.000"),
                Packing::Zstd,
            ),
        ] {
            let expected = FileName {
                signal,
                rotated: rotated.map(str::to_owned),
                packing,
            };
            assert_eq!(FileName::parse(name), Some(expected), "{name}");
        }
        for name in [
            "logs-backup.jsonl",
            "logs.jsonl.bz2",
            "logs.jsonl.gz.gz",
            "logs.json",
            "logs-.jsonl",
            "logs-2026-04-30T12:00:00.000.jsonl",
            "logs-2026-04-30T12-00-00.jsonl",
            "mylogs.jsonl",
            "logs-2026-04-30T12-00-00.000.jsonl.bak",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn rotated_names_have_the_form_of_the_layout() {
        for (time, name) in [
            ("2026-04-30T12:00:00Z", "logs-2026-04-30T12-00-00.000.jsonl"),
            (
                "2026-04-30T12:00:00.1Z",
                "logs-2026-04-30T12-00-00.100.jsonl",
            ),
            (
                "2026-04-30T12:00:00.123456789Z",
                "logs-2026-04-30T12-00-00.123.jsonl",
            ),
        ] {
            let (time, _) = Timestamp::parse_rfc3339(time).unwrap();
            assert_eq!(rotated_name(Signal::Logs, time), name);
            let parsed = FileName::parse(name).unwrap().rotated.unwrap();
            assert_eq!(
                time_of(&parsed).unwrap().unix_nanos(),
                time.unix_nanos() / 1_000_000 * 1_000_000
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_change_the_order_of_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("logs-2199-12-31T23-59-59.999.jsonl.gz"),
            "",
        )
        .unwrap();
        assert_eq!(
            FileName::rotated_now(folder.path(), Signal::Logs).unwrap(),
            "logs-2200-01-01T00-00-00.000.jsonl"
        );
        let metrics = FileName::rotated_now(folder.path(), Signal::Metrics).unwrap();
        assert!(metrics.as_str() < "metrics-2199", "{metrics}");
    }

    fn found(files: &[FlatFile], stack: &Path) -> Vec<(String, String)> {
        files
            .iter()
            .map(|file| {
                let below = file.path.strip_prefix(stack).unwrap().display().to_string();
                (below, file.server.as_ref().unwrap().to_string())
            })
            .collect()
    }

    fn write(stack: &Path, names: &[&str]) {
        for name in names {
            let path = stack.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    fn found_names(stack: &Path, server: Option<&str>) -> Vec<(String, String)> {
        let server = server.map(|server| ServerName::new(server).unwrap());
        found(
            &find_files(stack, "gw", server.as_ref(), None).unwrap(),
            stack,
        )
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(file, server): &(&str, &str)| ((*file).to_owned(), (*server).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn files_come_in_the_order_of_time() {
        let stack = tempfile::tempdir().unwrap();
        let names = [
            "github/logs-2026-04-29T12-00-00.000.jsonl.gz",
            "github/logs-2026-04-30T12-00-00.000.jsonl",
            "github/logs-2026-04-30T12-00-00.001.jsonl.zst",
            "github/logs.jsonl",
            "github/metrics.jsonl.zst",
            // An older state, which was compressed before the file was begun again.
            "github/logs.jsonl.gz",
        ];
        write(stack.path(), &names);
        write(
            stack.path(),
            &[
                "github/logs-2026-04-30T12-00-00.000.jsonl.gz",
                "github/logs-backup.jsonl",
            ],
        );
        let expected: Vec<_> = names.map(|name| (name, "github")).into();
        assert_eq!(found_names(stack.path(), None), pairs(&expected));
    }

    #[test]
    fn nested_folders_of_old_daemons_are_servers() {
        let stack = tempfile::tempdir().unwrap();
        write(
            stack.path(),
            &[
                "50%/logs.jsonl",
                "50%25/logs.jsonl",
                "a%2Fb/logs.jsonl",
                "a/b/logs.jsonl",
                "a/logs.jsonl",
                "%c%2Fd/logs.jsonl",
            ],
        );
        std::os::unix::fs::symlink(stack.path(), stack.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink("a", stack.path().join("0-link")).unwrap();
        assert_eq!(
            found_names(stack.path(), None),
            pairs(&[
                ("%c%2Fd/logs.jsonl", "c/d"),
                ("50%/logs.jsonl", "50%"),
                ("50%25/logs.jsonl", "50%25"),
                ("a/logs.jsonl", "a"),
                ("a/b/logs.jsonl", "a/b"),
                ("a%2Fb/logs.jsonl", "a%2Fb"),
            ])
        );
        assert_eq!(
            found_names(stack.path(), Some("a/b")),
            pairs(&[("a/b/logs.jsonl", "a/b")])
        );
        assert_eq!(
            found_names(&stack.path().join("a/b"), Some("x")),
            pairs(&[("logs.jsonl", "x")])
        );
    }

    #[test]
    fn two_folders_of_one_server_are_named() {
        let stack = tempfile::tempdir().unwrap();
        write(
            stack.path(),
            &["a/b/logs.jsonl", "%a%2Fb/logs.jsonl", "c/logs.jsonl"],
        );
        let error = find_files(stack.path(), "gw", None, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("%a%2Fb and ") && error.contains("both folders of the server \"a/b\""),
            "{error}"
        );
        assert_eq!(
            found_names(stack.path(), Some("c")),
            pairs(&[("c/logs.jsonl", "c")])
        );
    }

    #[test]
    fn the_folder_above_a_stack_is_refused() {
        let above = tempfile::tempdir().unwrap();
        write(
            above.path(),
            &["gw/github/logs.jsonl", "gw/org/repo/logs.jsonl"],
        );
        let error = find_files(above.path(), "gw", None, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the folder above the stack's"), "{error}");
        assert_eq!(
            found_names(above.path(), Some("gw/github")),
            pairs(&[("gw/github/logs.jsonl", "gw/github")])
        );
    }
}

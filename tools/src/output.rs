//! Output to terminals and to files.

use crate::{interrupt::writing, screen::Screen};
use anyhow::{Context, bail};
use gridctl_telemetry_server::display::escape;
use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// JSON in which the characters that a terminal could obey are escaped: the same JSON.
pub(crate) fn escape_json(json: &str, out: &mut Vec<u8>) {
    for char in json.chars() {
        let mut bytes = [0; 4];
        if char == '\n' || escape(char.encode_utf8(&mut bytes)).len() == char.len_utf8() {
            out.extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
}

/// Writes JSON: as it is to a file or a pipe, and escaped to a terminal.
pub(crate) fn write_json(json: &[u8], screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    if !screen.is_terminal() {
        return out.write_all(json);
    }
    let mut escaped = Vec::with_capacity(json.len());
    escape_json(&String::from_utf8_lossy(json), &mut escaped);
    out.write_all(&escaped)
}

/// An error and its causes in one line. A cause that the text before it has already said is left out.
pub(crate) fn message_of(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut message, cause| {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&cause);
        }
        message
    })
}

/// The notes that wait until a pager has ended; `None` while there is no pager.
static HELD_NOTES: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Prints a line to stderr. Ignores errors: a message that cannot be printed must not end a command.
pub(crate) fn note(message: &str) {
    let message = escape(message);
    let mut held = HELD_NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        Some(notes) => notes.push(message),
        None => {
            let _ = writing(|| writeln!(io::stderr(), "{message}"));
        }
    }
}

/// Keeps notes back from now on: they would be printed across the page that a pager shows.
pub(crate) fn hold_notes() {
    let mut held = HELD_NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    held.get_or_insert_default();
}

/// Prints the notes that were kept back, and no longer keeps any.
pub(crate) fn release_notes() {
    let held = HELD_NOTES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    for message in held.into_iter().flatten() {
        let _ = writing(|| writeln!(io::stderr(), "{message}"));
    }
}

/// A progress bar on stderr; hidden if stderr is not a terminal.
pub(crate) fn progress_bar(length: u64, template: &str) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(length);
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A file that appears complete or not at all: it is written under another name, synced, and
/// renamed. If it is dropped before [`AtomicFile::finish`], no file remains.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins a file with mode 0600, and creates missing folders with mode 0700.
    pub(crate) fn create(path: &Path) -> anyhow::Result<AtomicFile> {
        let Some(folder) = path.parent() else {
            bail!("{} is not a file name: name a file", path.display())
        };
        // A path without folders is in the current one.
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        private_folder(folder)?;
        let file = tempfile::Builder::new()
            .prefix(".")
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .with_context(|| format!("cannot create a file in {}", folder.display()))?;
        Ok(AtomicFile {
            file,
            path: path.to_owned(),
        })
    }

    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(bytes)
            .with_context(|| self.cannot_write())
    }

    /// Syncs the file and renames it to its own name.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let path = self.path.clone();
        self.seal(path)?.place()
    }

    /// Syncs the file, which [`SealedFile::place`] will rename to `path` in the same folder.
    pub(crate) fn seal(mut self, path: PathBuf) -> anyhow::Result<SealedFile> {
        self.path = path;
        let message = self.cannot_write();
        self.file.as_file().sync_all().context(message)?;
        Ok(SealedFile {
            // Closed, because an export can have more files than a process may have open.
            file: self.file.into_temp_path(),
            path: self.path,
        })
    }
    pub(crate) fn cannot_write(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is complete and synced, under a temporary name. If it is dropped before
/// [`SealedFile::place`], no file remains.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: tempfile::TempPath,
    path: PathBuf,
}

impl SealedFile {
    /// Renames the file to its own name.
    pub(crate) fn place(self) -> anyhow::Result<()> {
        let message = || format!("cannot write {}", self.path.display());
        if self.path.is_dir() {
            bail!(
                "cannot write the file {}: a folder has that name, move it away",
                self.path.display()
            );
        }
        self.file
            .persist(&self.path)
            .map_err(|error| error.error)
            .with_context(message)?;
        sync_folder_of(&self.path).with_context(message)
    }
}

/// Syncs the folder of a file: without that, a power loss could undo a rename.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Creates a folder and the missing folders above it, with mode 0700.
pub(crate) fn private_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_cause_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let told = anyhow::Error::from(full()).context("cannot write a");
        assert_eq!(message_of(&told), format!("cannot write a: {}", full()));
        let twice = told.context(format!("cannot export: cannot write a: {}", full()));
        assert_eq!(
            message_of(&twice),
            format!("cannot export: cannot write a: {}", full())
        );
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/logs.jsonl");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_bytes(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_bytes(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

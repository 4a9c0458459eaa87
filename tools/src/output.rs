//! What goes to terminals and to files.

use anyhow::{Context, bail};
use gridctl_telemetry::ServerName;
use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Text from outside, with everything escaped that a terminal could take for a command.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_invisible(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// Characters that turn or hide the text around them.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Prints a line to stderr. What cannot be said is not worth failing for.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{}", escape(message));
}

/// A progress bar on stderr; hidden where stderr is no terminal.
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
/// renamed. Dropped before [`AtomicFile::finish`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins a file with mode 0600, whose folders are created with 0700.
    pub(crate) fn create(path: &Path) -> anyhow::Result<AtomicFile> {
        let Some(folder) = path.parent() else {
            bail!("{} is no file", path.display())
        };
        // A path without folders is in the present one.
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

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let path = self.path.clone();
        self.finish_as(&path)
    }

    /// Puts the file in another place of the same file system.
    pub(crate) fn finish_as(mut self, path: &Path) -> anyhow::Result<()> {
        path.clone_into(&mut self.path);
        if path.is_dir() {
            bail!("{} is a folder: move it away", path.display());
        }
        let message = self.cannot_write();
        self.file
            .as_file()
            .sync_all()
            .with_context(|| message.clone())?;
        self.file
            .persist(path)
            .map_err(|error| error.error)
            .with_context(|| message.clone())?;
        // Without this a power loss could take the name away again.
        match path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            Some(folder) => sync_folder(folder),
            None => sync_folder(Path::new(".")),
        }
        .context(message)
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

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Creates a folder and those above it that are missing, with 0700.
pub(crate) fn private_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}
/// The name of a server's folder: characters that a path cannot hold are percent-encoded, and so
/// is the percent sign, so that every name comes back.
///
/// Fails when the encoded name is longer than a file name can be.
pub(crate) fn folder_name(server: &ServerName) -> anyhow::Result<String> {
    let mut name = String::with_capacity(server.len());
    let relative = matches!(server.as_str(), "." | "..");
    for char in server.chars() {
        if relative || char == '/' || char == '%' || char.is_control() {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                name.push_str(percent_encoding::percent_encode_byte(byte));
            }
        } else {
            name.push(char);
        }
    }
    if name.len() > ServerName::BYTES_MAX {
        bail!("the server name {server:?} is too long for a folder once it is percent-encoded");
    }
    Ok(name)
}

/// The server whose folder has this name: the inverse of [`folder_name`], and any other name as it
/// is, for folders that this program did not make.
pub(crate) fn server_of_folder(name: &str) -> gridctl_telemetry::Result<ServerName> {
    let decoded = percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .ok();
    if let Some(server) = decoded.and_then(|server| ServerName::new(server).ok())
        && folder_name(&server).is_ok_and(|encoded| encoded == name)
    {
        return Ok(server);
    }
    ServerName::new(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_server_has_a_folder_of_its_own(server in ".{1,60}") {
            let server = ServerName::new(server).unwrap();
            let folder = folder_name(&server).unwrap();
            prop_assert!(!folder.contains(['/', '\0']) && folder != "." && folder != "..");
            prop_assert_eq!(server_of_folder(&folder).unwrap(), server);
        }
    }

    #[test]
    fn folders_of_others_keep_their_names() {
        for name in ["github", "50%", "%zz", "日本", "a b"] {
            assert_eq!(server_of_folder(name).unwrap().as_str(), name);
        }
        assert_eq!(
            folder_name(&ServerName::new("a/../b").unwrap()).unwrap(),
            "a%2F..%2Fb"
        );
        assert_eq!(
            folder_name(&ServerName::new("..").unwrap()).unwrap(),
            "%2E%2E"
        );
    }

    #[test]
    fn terminals_get_no_commands() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{202e}c\n"),
            "a\\u{1b}[31mb\\u{202e}c\\u{a}"
        );
        assert_eq!(escape("日本 ok"), "日本 ok");
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

//! The folders of servers below a stack's folder. Names and paths are mapped one to one in both
//! directions.
//!
//! gridctl's daemons have always written a server's files to a folder with the server's name, where a
//! name with slashes is a path: `org/repo/logs.jsonl`. An export writes the same folder if the name is
//! a valid file name. Otherwise (`org/repo`, `..`, control characters) the folder is `%` followed by the
//! percent-encoded name: `%org%2Frepo`. A name that looks like such a folder is encoded as well. An
//! encoded name that is too long for a file name ends with `%` and continues in the folder below.
//!
//! Every other folder belongs to the server of its own name, so that the folders of old daemons keep
//! their meaning: `50%` and `50%25` are two servers.

use anyhow::bail;
use gridctl_telemetry::ServerName;
use gridctl_telemetry_files::private_folder;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The longest name of a file, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;

/// The folder of a server below its stack's folder: one name, or the names of nested folders.
pub(crate) fn folder_of(server: &ServerName) -> Vec<String> {
    let is_file_name = !matches!(server.as_str(), "." | "..")
        && !server.chars().any(|char| char == '/' || char.is_control());
    let plain = vec![server.to_string()];
    if is_file_name && decode(&plain).is_none() {
        return plain;
    }
    encode(server)
}

/// The server of a folder, from the names of the folders down to it: the inverse of [`folder_of`]. A
/// folder that an export does not write belongs to the server with the path as its name.
///
/// Fails when no server can have that name.
pub(crate) fn server_of(folders: &[String]) -> gridctl_telemetry::Result<ServerName> {
    decode(folders).map_or_else(|| ServerName::new(folders.join("/")), Ok)
}

/// Whether the folder has an encoded name.
pub(crate) fn is_encoded(folders: &[String]) -> bool {
    decode(folders).is_some()
}

fn encode(server: &ServerName) -> Vec<String> {
    let relative = matches!(server.as_str(), "." | "..");
    let mut folders = Vec::new();
    let mut folder = String::from("%");
    for char in server.chars() {
        let mut bytes = [0; 4];
        let text = char.encode_utf8(&mut bytes);
        let encoded: String = if relative || matches!(char, '/' | '%') || char.is_control() {
            text.bytes()
                .map(percent_encoding::percent_encode_byte)
                .collect()
        } else {
            text.to_owned()
        };
        // The last byte is reserved for the sign that the name continues.
        if folder.len() + encoded.len() >= FILE_NAME_BYTES_MAX {
            folder.push('%');
            folders.push(std::mem::replace(&mut folder, String::from("%")));
        }
        folder.push_str(&encoded);
    }
    folders.push(folder);
    folders
}

/// The server of an encoded name; `None` when that is not the encoding of any server's name.
fn decode(folders: &[String]) -> Option<ServerName> {
    let (last, others) = folders.split_last()?;
    let mut encoded = String::new();
    for folder in others {
        encoded.push_str(folder.strip_prefix('%')?.strip_suffix('%')?);
    }
    encoded.push_str(last.strip_prefix('%')?);
    let name = percent_encoding::percent_decode_str(&encoded)
        .decode_utf8()
        .ok()?;
    let server = ServerName::new(name).ok()?;
    let plain = !encoded.contains('%');
    (!plain && encode(&server) == folders).then_some(server)
}

/// Fails when a symbolic link leads to a folder, or to one of those above it up to `highest`: what is written
/// there would be elsewhere.
pub(crate) fn refuse_links(path: &Path, highest: &Path) -> anyhow::Result<()> {
    for folder in path.ancestors() {
        if folder.is_symlink() {
            bail!(
                "{} is a symbolic link, and an export writes only to folders: move it away",
                folder.display()
            );
        }
        if folder == highest {
            break;
        }
    }
    Ok(())
}

/// The folders that an export writes to.
#[derive(Debug)]
pub(crate) struct Folders {
    stack: PathBuf,
    /// The server of each folder, by device and inode.
    owners: BTreeMap<(u64, u64), ServerName>,
}

impl Folders {
    /// The folders below `stack`.
    pub(crate) fn below(stack: PathBuf) -> Folders {
        Folders {
            stack,
            owners: BTreeMap::new(),
        }
    }

    /// The path of the folder of a server.
    pub(crate) fn path(&self, server: &ServerName) -> PathBuf {
        let mut path = self.stack.clone();
        path.extend(folder_of(server));
        path
    }

    /// Creates the folder of a server. Fails when it is also the folder of another server, because
    /// the file system does not distinguish the two names, and when a symbolic link leads there.
    pub(crate) fn create(&mut self, server: &ServerName) -> anyhow::Result<PathBuf> {
        let path = self.path(server);
        refuse_links(&path, &self.stack)?;
        private_folder(&path)?;
        refuse_links(&path, &self.stack)?;
        let metadata = fs::metadata(&path)?;
        let owner = self
            .owners
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| server.clone());
        if owner != server {
            bail!(
                "{} is the folder of the server {:?} as well as of {:?}: export them one at a time \
                 with --server, to different folders",
                path.display(),
                owner.as_str(),
                server.as_str()
            );
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(name: &str) -> ServerName {
        ServerName::new(name).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Names made of parts that are special somewhere.
    fn any_server() -> impl Strategy<Value = ServerName> {
        let piece = prop_oneof![
            Just("/"),
            Just("%"),
            Just("%2F"),
            Just("%25"),
            Just("."),
            Just(".."),
            Just(" "),
            Just("a"),
            Just("A"),
            Just("é"),
            Just("e\u{301}"),
            Just("日本"),
            Just("\0"),
            Just("\n"),
            Just("logs.jsonl"),
        ]
        .prop_map(str::to_owned);
        let name = prop_oneof![
            "\\PC{1,60}",
            ".{1,60}",
            proptest::collection::vec(
                prop_oneof![4 => piece, 1 => ".".prop_map(String::from)],
                1..100
            )
            .prop_map(|pieces| pieces.concat()),
            // Names of the maximum length.
            ("[a/%\0]", 200..255_usize).prop_map(|(piece, count)| piece.repeat(count)),
        ];
        name.prop_map(|mut name| {
            while name.len() > ServerName::BYTES_MAX {
                name.pop();
            }
            server(&name)
        })
    }

    proptest! {
        #[test]
        fn every_server_has_a_folder_of_its_own(server in any_server()) {
            let folders = folder_of(&server);
            for folder in &folders {
                prop_assert!((1..=FILE_NAME_BYTES_MAX).contains(&folder.len()), "{folder:?}");
                prop_assert!(!folder.contains(['/', '\0']) && folder != "." && folder != "..");
            }
            prop_assert_eq!(server_of(&folders).unwrap(), server);
        }

        #[test]
        fn every_folder_of_an_old_daemon_is_the_server_of_its_name(server in any_server()) {
            // Old daemons used the name as a path, and could not create one that leads elsewhere.
            let folders: Vec<String> = server.split('/').map(str::to_owned).collect();
            prop_assume!(!folders.iter().any(|folder| {
                folder.is_empty() || folder == "." || folder == ".." || folder.contains('\0')
            }));
            // A folder that looks like an encoded name is taken for one: such names begin with a
            // percent sign and have an escape.
            if is_encoded(&folders) {
                prop_assert!(server.starts_with('%') && server[1..].contains('%'));
            } else {
                prop_assert_eq!(server_of(&folders).unwrap(), server);
            }
        }

        #[test]
        fn folders_on_a_disk_keep_servers_apart(servers in proptest::collection::btree_set(any_server(), 1..8)) {
            let stack = tempfile::tempdir().unwrap();
            let mut folders = Folders::below(stack.path().to_owned());
            for server in &servers {
                let path = folders.create(server).unwrap();
                fs::write(path.join("logs.jsonl"), server.as_str()).unwrap();
            }
            for server in &servers {
                let text = fs::read(folders.path(server).join("logs.jsonl")).unwrap();
                prop_assert_eq!(text, server.as_bytes());
            }
        }
    }

    #[test]
    fn folders_have_the_names_of_their_servers_where_they_can() {
        for (name, folders) in [
            ("github", &["github"][..]),
            ("50%", &["50%"]),
            ("50%25", &["50%25"]),
            ("a%2Fb", &["a%2Fb"]),
            ("%zz", &["%zz"]),
            ("ends. ", &["ends. "]),
            ("org/repo", &["%org%2Frepo"]),
            ("%org%2Frepo", &["%%25org%252Frepo"]),
            (".", &["%%2E"]),
            ("..", &["%%2E%2E"]),
            ("a\0", &["%a%00"]),
        ] {
            assert_eq!(folder_of(&server(name)), names(folders));
            assert_eq!(server_of(&names(folders)).unwrap().as_str(), name);
        }
        let old = names(&["org", "repo"]);
        assert_eq!(server_of(&old).unwrap().as_str(), "org/repo");
    }

    #[test]
    fn a_link_to_a_folder_is_refused() {
        let stack = tempfile::tempdir().unwrap();
        let mut folders = Folders::below(stack.path().to_owned());
        folders.create(&server("github")).unwrap();
        std::os::unix::fs::symlink("github", stack.path().join("GitHub")).unwrap();
        let error = folders.create(&server("GitHub")).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        folders.create(&server("github")).unwrap();
    }
}

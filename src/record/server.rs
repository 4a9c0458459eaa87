//! The names of servers.

use crate::error::{Error, Result};
use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

/// The name of a server: 1 to 255 bytes of any UTF-8. It is a key in the database and is never used
/// as a path there. Cloning is cheap.
///
/// ```
/// use gridctl_telemetry::ServerName;
///
/// let github = ServerName::new("github")?;
/// assert_eq!(github.as_str(), "github");
/// assert!(ServerName::new("").is_err());
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// The maximum length of a name, in bytes: that of a file name on common file systems.
    pub const BYTES_MAX: usize = 255;

    /// Creates a name.
    ///
    /// Fails with [`Error::InvalidServerName`] when it is empty or too long.
    pub fn new(name: impl AsRef<str>) -> Result<ServerName> {
        let name = name.as_ref();
        if !ServerName::is_valid(name) {
            return Err(Error::InvalidServerName { bytes: name.len() });
        }
        Ok(ServerName(name.into()))
    }

    /// Whether [`ServerName::new`] accepts `name`.
    pub(crate) fn is_valid(name: &str) -> bool {
        (1..=ServerName::BYTES_MAX).contains(&name.len())
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for ServerName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ServerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ServerName {
    type Err = Error;

    fn from_str(name: &str) -> Result<ServerName> {
        ServerName::new(name)
    }
}

impl TryFrom<&str> for ServerName {
    type Error = Error;

    /// Fails like [`ServerName::new`].
    fn try_from(name: &str) -> Result<ServerName> {
        ServerName::new(name)
    }
}

impl TryFrom<String> for ServerName {
    type Error = Error;

    /// Fails like [`ServerName::new`].
    fn try_from(name: String) -> Result<ServerName> {
        ServerName::new(name)
    }
}

impl serde::Serialize for ServerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ServerName {
    /// Deserializes a string of 1 to 255 bytes.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ServerName, D::Error> {
        crate::error::deserialize_from_str(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_endless_names_are_refused() {
        assert!(matches!(
            ServerName::new(""),
            Err(Error::InvalidServerName { bytes: 0 })
        ));
        let endless = "x".repeat(64 << 10);
        assert!(matches!(
            ServerName::new(endless),
            Err(Error::InvalidServerName { bytes: 65_536 })
        ));
        for name in ["github", "../etc", "a/b", "nul\0", "日本", "__skills__"] {
            assert_eq!(ServerName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_come_back_from_text_and_from_json() {
        let longest = "x".repeat(ServerName::BYTES_MAX);
        for name in ["github", "nul\0\"", "日本", &longest] {
            let server = ServerName::new(name).unwrap();
            assert_eq!(ServerName::try_from(name).unwrap(), server);
            assert_eq!(ServerName::try_from(name.to_owned()).unwrap(), server);
            assert_eq!(server.to_string().parse::<ServerName>().unwrap(), server);
            let json = serde_json::to_string(&server).unwrap();
            assert_eq!(serde_json::from_str::<ServerName>(&json).unwrap(), server);
        }
        for json in ["\"\"", "5", "null"] {
            assert!(serde_json::from_str::<ServerName>(json).is_err(), "{json}");
        }
    }
}

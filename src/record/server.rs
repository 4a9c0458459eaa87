use crate::error::{Error, Result};
use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

/// The name of a server: 1 to 255 bytes of UTF-8, otherwise anything. It is a key in the database
/// and never part of a path there; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// The longest name, in bytes: what a file name can be.
    pub const BYTES_MAX: usize = 255;

    /// Takes a name. Fails with [`Error::InvalidServerName`] when it is empty or too long.
    pub fn new(name: impl AsRef<str>) -> Result<ServerName> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > ServerName::BYTES_MAX {
            return Err(Error::InvalidServerName { bytes: name.len() });
        }
        Ok(ServerName(name.into()))
    }

    /// The name.
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

impl serde::Serialize for ServerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
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
}

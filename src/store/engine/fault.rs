//! Failures inside the database, before it is known which one.

use crate::error::{Error, is_storage_full};
use std::{
    io::ErrorKind,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// What went wrong below a [`crate::Store`] operation.
#[derive(Debug)]
pub(crate) enum Fault {
    /// redb's answer.
    Engine(redb::Error),
    /// Stored bytes that no version of this crate wrote.
    Corrupt(String),
    /// An error that already says what it is about.
    Other(Error),
}

impl Fault {
    /// The error for users: what was tried, on which database, and why it failed.
    pub(crate) fn at(self, action: &'static str, path: &Path) -> Error {
        match self {
            Fault::Corrupt(what) | Fault::Engine(redb::Error::Corrupted(what)) => Error::Corrupt {
                path: path.to_owned(),
                what,
            },
            // No disk answers so: the file ends before what it says it has.
            Fault::Engine(redb::Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                Error::Corrupt {
                    path: path.to_owned(),
                    what: "the file was cut off".to_owned(),
                }
            }
            Fault::Engine(redb::Error::Io(source)) if is_storage_full(&source) => {
                Error::io(action, path, source)
            }
            Fault::Engine(source) => Error::Database {
                action,
                path: path.to_owned(),
                source: Box::new(source),
            },
            Fault::Other(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Other(error)
    }
}

macro_rules! from_engine {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Fault {
                Fault::Engine(error.into())
            }
        })*
    };
}

from_engine!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError,
    CompactionError
);

/// Runs `operation` and turns a panic into [`Fault::Corrupt`]: redb trusts the file, and may panic
/// when something else has changed or cut it. That must not become a panic of the daemon.
pub(crate) fn guarded<T>(operation: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Fault::Corrupt(format!(
            "the database engine stopped at {message:?}"
        )))
    })
}

/// Keeps the end of what it holds from panicking: a database that is dropped commits once more, and
/// may meet damage only then.
#[derive(Debug)]
pub(crate) struct GuardedDrop<T>(Option<T>);

impl<T> GuardedDrop<T> {
    pub(crate) fn new(inner: T) -> GuardedDrop<T> {
        GuardedDrop(Some(inner))
    }
}

impl<T> Deref for GuardedDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken out when it is dropped"),
        }
    }
}

impl<T> DerefMut for GuardedDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken out when it is dropped"),
        }
    }
}

impl<T> Drop for GuardedDrop<T> {
    fn drop(&mut self) {
        let inner = self.0.take();
        // Nobody is left to be told.
        let _ = guarded(|| {
            drop(inner);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_is_an_error_also_in_a_drop() {
        let outcome: Result<(), Fault> = guarded(|| {
            let _held = GuardedDrop::new(PanicsWhenDropped);
            // The drop comes while this one unwinds, which would abort the process.
            std::panic::panic_any("the first")
        });
        assert!(matches!(outcome, Err(Fault::Corrupt(what)) if what.contains("the first")));
        drop(GuardedDrop::new(PanicsWhenDropped));
    }
}

//! Failures inside the database, before they are attributed to an operation and a file.

use crate::error::{Error, is_storage_full};
use std::{
    io::ErrorKind,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// The cause of a failed [`crate::Store`] operation.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An error of redb.
    Engine(redb::Error),
    /// Stored bytes that no version of this crate writes.
    Corrupt(String),
    /// An error that already names its operation and file.
    Other(Error),
}

impl Fault {
    /// Whether it says that stored bytes are damaged, so that another attempt fails as well, but
    /// other bytes may be readable.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(
            self,
            Fault::Corrupt(_)
                | Fault::Engine(redb::Error::Corrupted(_))
                | Fault::Other(Error::Corrupt { .. })
        )
    }

    /// What went wrong, without the operation and the database.
    pub(crate) fn reason(self) -> String {
        match self {
            Fault::Corrupt(what) | Fault::Other(Error::Corrupt { what, .. }) => what,
            Fault::Engine(error) => error.to_string(),
            Fault::Other(error) => error.to_string(),
        }
    }

    /// Says of damage where it is.
    pub(crate) fn within(self, place: &str) -> Fault {
        match self {
            Fault::Corrupt(what) | Fault::Engine(redb::Error::Corrupted(what)) => {
                Fault::Corrupt(format!("{place}: {what}"))
            }
            other => other,
        }
    }

    /// The public error: the operation that failed, on which database, and why.
    pub(crate) fn at(self, action: &'static str, path: &Path) -> Error {
        match self {
            Fault::Corrupt(what) | Fault::Engine(redb::Error::Corrupted(what)) => Error::Corrupt {
                path: path.to_owned(),
                what,
            },
            // A working disk never returns this error: the file is shorter than its own header
            // says.
            Fault::Engine(redb::Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                Error::Corrupt {
                    path: path.to_owned(),
                    what: "the file is truncated".to_owned(),
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

/// Runs `operation` and turns a panic into [`Fault::Corrupt`]. redb trusts the file, and may panic
/// if another program has changed or truncated it; the daemon must not panic for that.
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

/// Keeps dropping the inner value from panicking: a redb database commits once more when it is
/// dropped, and may only then meet damage.
#[derive(Debug)]
pub(crate) struct GuardedDrop<T> {
    /// `None` while it is dropped.
    inner: Option<T>,
    is_left: AtomicBool,
}

impl<T> GuardedDrop<T> {
    pub(crate) fn new(inner: T) -> GuardedDrop<T> {
        GuardedDrop {
            inner: Some(inner),
            is_left: AtomicBool::new(false),
        }
    }

    /// A database that is [left](GuardedDrop::leave) as it is.
    pub(crate) fn left(inner: T) -> GuardedDrop<T> {
        let guarded = GuardedDrop::new(inner);
        guarded.leave(true);
        guarded
    }

    /// Sets whether a database is closed without a last commit, which must not be made to damaged pages: redb can
    /// panic in a destructor while it unwinds from a panic, and that ends the process.
    pub(crate) fn leave(&self, is_left: bool) {
        self.is_left.store(is_left, Ordering::Relaxed);
    }

    /// The inner value, which is no longer guarded.
    pub(crate) fn into_inner(mut self) -> T {
        match self.inner.take() {
            Some(inner) => inner,
            None => unreachable!("it is taken out when it is dropped"),
        }
    }
}

impl<T> Deref for GuardedDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("it is taken out when it is dropped"),
        }
    }
}

impl<T> DerefMut for GuardedDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.inner {
            Some(inner) => inner,
            None => unreachable!("it is taken out when it is dropped"),
        }
    }
}

impl<T> Drop for GuardedDrop<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let is_left = inner.is_some() && self.is_left.load(Ordering::Relaxed);
        if is_left && cfg!(panic = "abort") {
            std::mem::forget(inner);
            return;
        }
        // Nothing can return the error from here.
        let _ = guarded(|| -> Result<(), Fault> {
            let _inner = inner;
            if is_left {
                // While a panic unwinds, redb closes a database without a commit. Does not call the panic hook.
                resume_unwind(Box::new("closed without a commit"));
            }
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
            // The guarded drop happens while this panic unwinds; a second panic would abort the
            // process.
            std::panic::panic_any("the first")
        });
        assert!(matches!(outcome, Err(Fault::Corrupt(what)) if what.contains("the first")));
        drop(GuardedDrop::new(PanicsWhenDropped));
    }
}

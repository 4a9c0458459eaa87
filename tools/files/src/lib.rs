//! Files that the programs of `gridctl-telemetry` write: private, complete or absent, and never through a link.

mod atomic;
mod lock;
mod own_files;

pub use self::{
    atomic::{AtomicFile, SealedFile, private_folder},
    lock::lock_beside,
    own_files::{HeldFolder, read_named},
};

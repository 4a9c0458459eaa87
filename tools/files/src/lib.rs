//! Files that the programs of `gridctl-telemetry` write: private, complete or absent, and never through a link.

mod atomic;
mod own_files;

pub use self::{
    atomic::{AtomicFile, SealedFile, private_folder},
    own_files::{HeldFolder, read_named},
};

//! The options of opening a store.

use crate::store::{
    engine::{open::OpenOptions, schema::MigrationStep},
    migrations::MIGRATIONS,
    policy::system_clock::ClockReading,
};
#[cfg(feature = "simulation")]
use std::io;
use std::{fmt, sync::Arc};

/// How a [`Store`](crate::Store) is opened.
///
/// ```
/// use gridctl_telemetry::StoreOptions;
///
/// let options = StoreOptions::default()
///     .page_cache_bytes(64 << 20)
///     .on_migration(|step| println!("migrating to version {}", step.version));
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    opening: OpenOptions,
    clock: Arc<dyn Fn() -> ClockReading + Send + Sync>,
}

impl StoreOptions {
    /// The page cache of [`StoreOptions::default`]: 16 MiB, for long-lived processes.
    pub const PAGE_CACHE_BYTES_DEFAULT: usize = 16 << 20;
    /// The page cache of [`StoreOptions::for_tools`]: 4 MiB. A process that reads once gains
    /// nothing from more, and every commit of another process empties the cache.
    pub const PAGE_CACHE_BYTES_TOOLS: usize = 4 << 20;

    /// The options for short-lived programs.
    #[must_use]
    pub fn for_tools() -> StoreOptions {
        StoreOptions::default().page_cache_bytes(StoreOptions::PAGE_CACHE_BYTES_TOOLS)
    }

    /// Sets the size of the page cache, in bytes. The writing handle and the read-only handle
    /// beside it each have one.
    #[must_use]
    pub fn page_cache_bytes(mut self, bytes: usize) -> StoreOptions {
        self.opening.page_cache_bytes = bytes;
        self
    }

    /// Sets a callback that is called before each step of a migration from an older version.
    #[must_use]
    pub fn on_migration(
        mut self,
        callback: impl Fn(MigrationStep) + Send + Sync + 'static,
    ) -> StoreOptions {
        self.opening.on_migration = Arc::new(callback);
        self
    }

    /// Sets whether a file that cannot be opened as a database makes way for a new one: damaged beyond
    /// opening, of another program, or empty where a database was. [`Store::open`](crate::Store::open) and
    /// the [`Writer`](crate::Writer) then rename it to `telemetry.redb.damaged-<UTC>`, enter that in the
    /// ledger of the new database, and tell the listener of
    /// [`WriterOptions::on_outage`](crate::WriterOptions::on_outage). A database of a newer version is
    /// refused all the same. See [`list_set_aside`](crate::home::list_set_aside).
    ///
    /// For daemons, which should not be without telemetry because of it.
    /// [`Telemetry`](crate::Telemetry) always does this. Default: no.
    #[must_use]
    pub fn set_aside_damaged(mut self, wanted: bool) -> StoreOptions {
        self.opening.sets_aside = wanted;
        self
    }

    /// Calls `hook` before each operation on the file. For tests that need the disk to fail. The file is
    /// then not checked before it is changed: such a check reads all of it.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn disk_hook(
        mut self,
        hook: impl Fn(crate::store::DiskOperation<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> StoreOptions {
        self.opening.disk_hook = Some(Arc::new(hook));
        self.opening.checks_pages = false;
        self
    }

    /// Checks the pages of a file that has a hook, too.
    #[cfg(test)]
    pub(crate) fn checking_pages(mut self) -> StoreOptions {
        self.opening.checks_pages = true;
        self
    }

    /// Judges the age of records by `clock`. For tests that need the clock to jump.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn clock(
        mut self,
        clock: impl Fn() -> ClockReading + Send + Sync + 'static,
    ) -> StoreOptions {
        self.clock = Arc::new(clock);
        self
    }

    /// How the file is opened.
    pub(crate) fn opening(&self) -> &OpenOptions {
        &self.opening
    }

    /// A reading of the clocks by which age is judged.
    pub(crate) fn clock_reading(&self) -> ClockReading {
        (self.clock)()
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            opening: OpenOptions {
                page_cache_bytes: StoreOptions::PAGE_CACHE_BYTES_DEFAULT,
                migrations: MIGRATIONS,
                on_migration: Arc::new(|_| {}),
                sets_aside: false,
                disk_hook: None,
                checks_pages: true,
                overwrites_cut: false,
            },
            clock: Arc::new(ClockReading::now),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("page_cache_bytes", &self.opening.page_cache_bytes)
            .finish_non_exhaustive()
    }
}

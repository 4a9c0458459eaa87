//! A disk that keeps apart what is durable and what is only written.

use crate::common::{Random, STACK};
use gridctl_telemetry::testing::DiskOperation;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// The number of bytes that a disk writes completely or not at all.
const SECTOR: usize = 512;
/// The length of redb's header with both commit slots. The simulated disk tears it between any two bytes,
/// which no real disk does.
const HEADER_BYTES: usize = 320;
/// The number of earlier states of the files beside the database that a crash can bring back.
const BESIDE_VERSIONS: usize = 4;

/// A change of the database file.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Write { offset: usize, bytes: Box<[u8]> },
    SetLength(usize),
    Sync,
}

/// The files of spills, by name.
pub(crate) type Beside = BTreeMap<String, Vec<u8>>;

/// An entry of a journal.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The database is about to change.
    Operation(Operation),
    /// The files beside the database have changed.
    Beside(Arc<Beside>),
    /// This step of the workload begins.
    Begin(usize),
    /// This step of the workload is acknowledged.
    End(usize),
}

/// Everything that happened to the files of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    events: Arc<Mutex<Vec<Event>>>,
    is_on: bool,
}

impl Journal {
    /// A journal that records, or one that ignores everything.
    pub(crate) fn new(is_on: bool) -> Journal {
        Journal {
            events: Arc::default(),
            is_on,
        }
    }

    pub(crate) fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn len(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// A hook that records the operations of the store in `folder`.
    pub(crate) fn hook(
        &self,
        folder: &Path,
    ) -> impl Fn(DiskOperation<'_>) -> io::Result<()> + Send + Sync + use<> {
        let journal = self.clone();
        let folder = folder.to_owned();
        let last = Mutex::new(Arc::new(beside(&folder)));
        move |operation| {
            if !journal.is_on {
                return Ok(());
            }
            let change = match operation {
                DiskOperation::Write { offset, bytes } => Some(Operation::Write {
                    offset: usize::try_from(offset).unwrap(),
                    bytes: bytes.into(),
                }),
                DiskOperation::SetLength(length) => {
                    Some(Operation::SetLength(usize::try_from(length).unwrap()))
                }
                DiskOperation::Sync => Some(Operation::Sync),
                DiskOperation::Spill { .. } => None,
                _ => return Ok(()),
            };
            let mut last = last.lock().unwrap();
            let now = beside(&folder);
            if now != **last {
                *last = Arc::new(now);
                journal.push(Event::Beside(Arc::clone(&last)));
            }
            if let Some(change) = change {
                journal.push(Event::Operation(change));
            }
            Ok(())
        }
    }
}

/// The folder of the store below `home`.
pub(crate) fn folder(home: &Path) -> PathBuf {
    home.join("telemetry").join(STACK)
}

/// The files of spills in `folder`.
pub(crate) fn beside(folder: &Path) -> Beside {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Beside::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_spill = name.contains(".spill");
            // The store can remove it in the meantime.
            is_spill.then(|| Some((name, std::fs::read(path).ok()?)))?
        })
        .collect()
}

/// The files that a crash leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) database: Vec<u8>,
    pub(crate) beside: Beside,
    /// Whether nothing that was written is lost, as after a kill of the process.
    pub(crate) is_complete: bool,
}

/// A disk: what is certainly on it, and the changes since, which may be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    durable: Vec<u8>,
    pending: Vec<Operation>,
    /// The last states of the files beside the database, of which nothing is ever synced.
    beside: Vec<Arc<Beside>>,
}

impl Disk {
    pub(crate) fn new(image: &Image) -> Disk {
        Disk {
            durable: image.database.clone(),
            pending: Vec::new(),
            beside: vec![Arc::new(image.beside.clone())],
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Operation(Operation::Sync) => {
                for operation in self.pending.drain(..) {
                    operation.apply(&mut self.durable);
                }
            }
            Event::Operation(operation) => self.pending.push(operation.clone()),
            Event::Beside(files) => {
                if self.beside.len() == BESIDE_VERSIONS {
                    self.beside.remove(0);
                }
                self.beside.push(Arc::clone(files));
            }
            Event::Begin(_) | Event::End(_) => {}
        }
    }

    /// The files after a crash at this moment.
    pub(crate) fn crash(&self, random: &mut Random) -> Image {
        let mut database = self.durable.clone();
        let count = self.pending.len();
        let kind = random.below(10);
        let chosen = random.below(count.max(1));
        // From none to nearly all of the changes that were not synced.
        let kept = random.below(9);
        for (place, operation) in self.pending.iter().enumerate() {
            let fate = match kind {
                // Everything in order until the power fails.
                1 if place < chosen => Fate::Kept,
                // That, or one change of all is torn, lost, or the only one that is there.
                1 | 3 if place == chosen => Fate::Torn(kept),
                2 if place == chosen => Fate::Lost,
                4 if place == chosen => Fate::Kept,
                // The header is there and nothing else, or the other way round.
                5 | 6 if operation.is_of_header() == (kind == 5) => Fate::Kept,
                5 | 6 if random.one_in(2) => Fate::Torn(kept),
                // Any of them.
                7.. if random.one_in(4) => Fate::Torn(kept),
                7.. if random.below(8) < kept => Fate::Kept,
                // The process is killed, or all other changes are there.
                0 | 2 | 3 => Fate::Kept,
                _ => Fate::Lost,
            };
            operation.apply_with(fate, &mut database, random);
        }
        let is_complete = kind == 0;
        let newest = self.beside.last().cloned().unwrap_or_default();
        let beside = if is_complete {
            Beside::clone(&newest)
        } else {
            self.beside_after_power_loss(random)
        };
        Image {
            database,
            beside,
            is_complete,
        }
    }

    /// Each file is missing, whole, an earlier one, or torn.
    fn beside_after_power_loss(&self, random: &mut Random) -> Beside {
        let mut left = Beside::new();
        if self.beside.is_empty() || random.one_in(2) {
            return left;
        }
        let names: Vec<&String> = self.beside.iter().flat_map(|files| files.keys()).collect();
        for name in names {
            let Some(bytes) = self.beside[random.below(self.beside.len())].get(name) else {
                continue;
            };
            let mut bytes = bytes.clone();
            match random.below(4) {
                // The length is there, and some bytes are not.
                0 => {
                    for sector in bytes.chunks_mut(SECTOR) {
                        if random.one_in(2) {
                            sector.fill(0);
                        }
                    }
                }
                1 => bytes.truncate(random.below(bytes.len() + 1)),
                _ => {}
            }
            left.insert(name.clone(), bytes);
        }
        left
    }
}

/// What becomes of a change that was not synced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Kept,
    Lost,
    /// This many eighths of it are there.
    Torn(usize),
}

impl Operation {
    fn is_of_header(&self) -> bool {
        matches!(self, Operation::Write { offset, .. } if *offset < HEADER_BYTES)
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Operation::Write { offset, bytes } => put(file, *offset, bytes),
            Operation::SetLength(length) => file.resize(*length, 0),
            Operation::Sync => {}
        }
    }

    fn apply_with(&self, fate: Fate, file: &mut Vec<u8>, random: &mut Random) {
        let eighths = match fate {
            Fate::Kept => return self.apply(file),
            Fate::Lost => return,
            Fate::Torn(eighths) => eighths,
        };
        match self {
            Operation::Write { offset, bytes } => {
                let mut offset = *offset;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let part = match offset {
                        0..HEADER_BYTES => 1,
                        _ => SECTOR - offset % SECTOR,
                    };
                    let (part, after) = rest.split_at(part.min(rest.len()));
                    if random.below(8) < eighths {
                        put(file, offset, part);
                    }
                    offset += part.len();
                    rest = after;
                }
            }
            Operation::SetLength(_) if random.below(8) < eighths => self.apply(file),
            _ => {}
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

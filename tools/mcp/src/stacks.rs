//! The stacks that agents may ask about.

use crate::asked::Refusal;
use gridctl_telemetry::{Store, StoreOptions, home::list_stacks};
use gridctl_telemetry_server::Problem;
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// The number of stacks that a message names.
const NAMED_MAX: usize = 10;

/// Where stores come from.
pub(crate) enum Stacks {
    /// The store of a daemon.
    One(Store),
    /// Databases below a home, which are opened when they are asked about.
    Below {
        home: PathBuf,
        /// The only stack that may be asked about.
        only: Option<String>,
        options: Box<StoreOptions>,
        open: Mutex<BTreeMap<String, Store>>,
    },
}

impl Stacks {
    /// The names of all stacks.
    pub(crate) fn names(&self) -> Result<Vec<String>, Refusal> {
        match self {
            Stacks::One(store) => Ok(vec![store.stack().to_owned()]),
            Stacks::Below {
                only: Some(only), ..
            } => Ok(vec![only.clone()]),
            Stacks::Below { home, .. } => Ok(list_stacks(home)?),
        }
    }

    /// The store of a stack; of the only one if none is named.
    pub(crate) fn store(&self, named: Option<&str>) -> Result<Store, Refusal> {
        let known = self.names()?;
        let name = match (named, known.as_slice()) {
            (Some(named), known) if known.iter().any(|name| name == named) => named,
            (None, [only]) => only,
            (_, []) => {
                return Err(Refusal::new(
                    "no stack has telemetry: check --home and GRIDCTL_HOME of the server",
                ));
            }
            (Some(named), known) => {
                return Err(Refusal::new(format!(
                    "stack: there is no stack {named:?}; there are {}",
                    listed(known)
                )));
            }
            (None, known) => {
                return Err(Refusal::new(format!(
                    "stack: name one of {}",
                    listed(known)
                )));
            }
        };
        match self {
            Stacks::One(store) => present(store.clone()),
            Stacks::Below {
                home,
                options,
                open,
                ..
            } => {
                let opened = lock(open).get(name).cloned();
                if let Some(store) = opened {
                    return match present(store) {
                        Err(away) => {
                            // The next question looks for a new one.
                            lock(open).remove(name);
                            Err(away)
                        }
                        found => found,
                    };
                }
                let store = Store::open_read_only(home, name, StoreOptions::clone(options))?;
                let store = store.ok_or_else(|| {
                    Refusal::new(format!(
                        "the stack {name:?} has no database below {}: nothing was stored yet, or it was deleted",
                        home.display()
                    ))
                })?;
                lock(open).insert(name.to_owned(), store.clone());
                Ok(store)
            }
        }
    }
}

/// A store whose file is there: an open handle would go on reading one that is deleted.
fn present(store: Store) -> Result<Store, Refusal> {
    match fs::metadata(store.path()) {
        Ok(_) => Ok(store),
        Err(error) => Err(Problem::away(&store.path(), &error).into()),
    }
}

fn lock(
    open: &Mutex<BTreeMap<String, Store>>,
) -> std::sync::MutexGuard<'_, BTreeMap<String, Store>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> =
        (names.iter().take(NAMED_MAX).map(|name| format!("{name:?}"))).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

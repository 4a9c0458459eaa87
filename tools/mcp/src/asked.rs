//! A question: its arguments, its deadline, and the store it is about.

use crate::{
    answer::{BYTES_DEFAULT, BYTES_MAX, BYTES_MIN, Said, said},
    schema::{self, Own},
    stacks::Stacks,
    tools::Tool,
};
use gridctl_telemetry::{Error, Snapshot, Store, Timestamp, query::Damage, redact::Redactor};
use gridctl_telemetry_server::{Problem, display::ago, params::Params};
use serde_json::{Map, Value};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a question may take.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(10);
/// How long counting may take beside the answer itself: half of what an agent waits for without noticing.
pub(crate) const COUNT_TIME_MAX: Duration = Duration::from_millis(40);
/// Maximum number of items that a tool reads for one answer.
pub(crate) const ITEMS_MAX: usize = 200;

/// Why a question is not answered, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(String);

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Refusal {
        Refusal(message.into())
    }

    pub(crate) fn message(&self) -> &str {
        &self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        Refusal(problem.to_string())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        if let Error::Cancelled { .. } = error {
            return Refusal(format!(
                "the question took longer than {} s and was stopped: narrow it with since and until, server, level or trace",
                TIME_MAX.as_secs()
            ));
        }
        Problem::from(error).into()
    }
}

/// The time that a question has, and whether it was cancelled.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Running>);

struct Running {
    began: Instant,
    /// Nanoseconds after `began`.
    limit: AtomicU64,
    is_cancelled: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Clock {
    pub(crate) fn new(is_cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(Running {
            began: Instant::now(),
            limit: AtomicU64::new(nanos(TIME_MAX)),
            is_cancelled: Box::new(is_cancelled),
        }))
    }

    /// Whether reading must end.
    pub(crate) fn is_over(&self) -> bool {
        nanos(self.0.began.elapsed()) >= self.0.limit.load(Ordering::Relaxed)
            || (self.0.is_cancelled)()
    }

    /// What `read` finds within so much time from now, which it may use without taking it from what follows; `None` if that
    /// is too short.
    pub(crate) fn within<T>(
        &self,
        time: Duration,
        read: impl FnOnce() -> gridctl_telemetry::Result<T>,
    ) -> gridctl_telemetry::Result<Option<T>> {
        let whole = self.0.limit.load(Ordering::Relaxed);
        let limit = nanos(self.0.began.elapsed().saturating_add(time));
        self.0.limit.store(limit.min(whole), Ordering::Relaxed);
        let found = read();
        self.0.limit.store(whole, Ordering::Relaxed);
        match found {
            Err(Error::Cancelled { .. }) if !self.is_over() => Ok(None),
            found => found.map(Some),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A question with arguments that were read.
pub(crate) struct Asked<'a> {
    stacks: &'a Stacks,
    redactor: &'a Redactor,
    clock: Clock,
    pub(crate) params: Params,
    own: Map<String, Value>,
    pub(crate) bytes_max: usize,
}

/// A store that is being read.
pub(crate) struct Open {
    pub(crate) store: Store,
    pub(crate) snapshot: Snapshot,
}

impl<'a> Asked<'a> {
    /// Reads the arguments of a tool. Names may have underscores in place of hyphens, and a single value may stand for a list
    /// of one.
    pub(crate) fn read(
        tool: &Tool,
        arguments: Map<String, Value>,
        stacks: &'a Stacks,
        redactor: &'a Redactor,
        clock: Clock,
    ) -> Result<Asked<'a>, Refusal> {
        let mut own = Map::new();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in arguments {
            let name = name.replace('_', "-");
            if let Some(known) = tool.own.iter().find(|known| known.name == name) {
                own.insert(known.name.to_owned(), known.check(value)?);
            } else if schema::accepts(tool, &name) {
                for text in texts(&name, value)? {
                    pairs.push((name.clone(), text));
                }
            } else {
                return Err(Refusal::new(format!(
                    "{name:?} is no argument of {}: accepted are {}",
                    tool.name,
                    schema::names(tool).join(", ")
                )));
            }
        }
        let params = Params::read(pairs, tool.view)?;
        let bytes_max = match own.get(Own::BYTES.name).and_then(Value::as_u64) {
            Some(bytes) => usize::try_from(bytes)
                .unwrap_or(BYTES_MAX)
                .clamp(BYTES_MIN, BYTES_MAX),
            None => BYTES_DEFAULT,
        };
        Ok(Asked {
            stacks,
            redactor,
            clock,
            params,
            own,
            bytes_max,
        })
    }

    pub(crate) fn stacks(&self) -> &Stacks {
        self.stacks
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// An argument that is a text, and not a parameter of the API.
    pub(crate) fn text(&self, own: &Own) -> Option<&str> {
        self.own.get(own.name).and_then(Value::as_str)
    }

    /// Where the wanted piece of a text begins.
    pub(crate) fn offset(&self) -> usize {
        let offset = self.own.get(Own::OFFSET.name).and_then(Value::as_u64);
        usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// The number of items of a list that are read.
    pub(crate) fn limit(&self, default: usize) -> usize {
        self.params.limit_or(default).min(ITEMS_MAX)
    }

    /// Opens the stack that the question is about. What is read of it ends with the time of the question.
    pub(crate) fn open(&self) -> Result<Open, Refusal> {
        self.open_stack(self.text(&Own::STACK))
    }

    pub(crate) fn open_stack(&self, stack: Option<&str>) -> Result<Open, Refusal> {
        let store = self.stacks.store(stack)?;
        let clock = self.clock.clone();
        let snapshot = store.snapshot()?.cancel_when(move || clock.is_over());
        Ok(Open { store, snapshot })
    }

    /// When something was, in words and exactly.
    pub(crate) fn when(&self, at: Timestamp) -> String {
        format!("{}, {at}", ago(self.params.now(), at))
    }

    /// How many bytes of one text of a record an item shows.
    pub(crate) fn width(&self) -> usize {
        (self.bytes_max / 16).min(2000)
    }

    /// A text of a record without secrets, in at most [`Asked::width`] bytes.
    pub(crate) fn said(&self, text: &str) -> Said {
        said(&self.redacted(text), self.width())
    }

    /// A name, in few bytes.
    pub(crate) fn name(&self, name: &str) -> Said {
        said(&self.redacted(name), 48)
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        self.redactor
    }

    fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.redactor.redact_text(&mut text);
        text
    }

    /// What to say about parts of a store that cannot be read.
    pub(crate) fn damage(&self, damage: &[Damage]) -> Option<String> {
        let first = damage.first()?;
        let more = match damage.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!(
            "Damaged parts of the store are left out: {}{more}.",
            said(&self.redacted(&first.what), 160).quoted()
        ))
    }
}

/// The values of an argument, as texts.
fn texts(name: &str, value: Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        Value::Bool(_) | Value::Number(_) => Ok(vec![value.to_string()]),
        Value::Array(values) => {
            let mut all = Vec::new();
            for value in values {
                if value.is_array() {
                    return Err(Refusal::new(format!(
                        "{name}: a list of lists is none of texts"
                    )));
                }
                all.extend(texts(name, value)?);
            }
            Ok(all)
        }
        Value::Object(_) => Err(Refusal::new(format!(
            "{name}: an object is no value; give a text, such as those of the tool's schema"
        ))),
    }
}

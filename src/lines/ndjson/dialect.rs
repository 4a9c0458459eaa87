//! How the lines of logs are spelled that other libraries write.

use super::line::LineReason;
use crate::{
    error::excerpt,
    lines::json::{value_text, write_f64},
    otlp::{FOREIGN, SEVERITY_TEXT},
    record::{Level, LogRecord, Value},
    time::Timestamp,
};
use ::time::UtcOffset;

/// The spelling of log lines: under which keys time, level and message stand.
///
/// | dialect | time | level | message |
/// |---|---|---|---|
/// | `slog` | `ts`, `time` | `level` | `msg` |
/// | `zap` | `ts`, `timestamp`, `time` | `level`, `severity` | `msg`, `message` |
/// | `pino` | `time` | `level` (10 to 60) | `msg` |
/// | `bunyan` | `time` | `level` (10 to 60) | `msg` |
/// | `logrus` | `time` | `level` | `msg` |
/// | `ecs` | `@timestamp` | `log.level` | `message` |
/// | `tracing` | `timestamp` | `level` | `fields.message`, `message` |
/// | `journald` | `__REALTIME_TIMESTAMP` (µs) | `PRIORITY` (0 to 7) | `MESSAGE` (text or bytes) |
/// | `otlp` | OTLP/JSON alone: no other line is a record | | |
/// | `auto` | all of these and a few more (`t`, `datetime`, …) | `lvl`, `@level`, … | `@message`, `event`, `log`, … |
///
/// A time is RFC 3339 (a space for the `T`, a comma before the fraction and a missing offset are
/// understood, and the latter as UTC), or a number of seconds, milliseconds, microseconds or
/// nanoseconds since 1970, which its magnitude tells apart. A level is a name in any case, or a number
/// as pino (10 to 60) or syslog (0 to 7) count. Every other key is an attribute, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// Each line for itself, by its keys.
    #[default]
    Auto,
    /// Go's `log/slog`, and gridctl's own files.
    Slog,
    /// Uber's zap, Caddy.
    Zap,
    /// pino.
    Pino,
    /// bunyan.
    Bunyan,
    /// logrus.
    Logrus,
    /// Elastic Common Schema.
    Ecs,
    /// The JSON of Rust's tracing-subscriber.
    Tracing,
    /// `journalctl -o json`.
    Journald,
    /// OTLP/JSON.
    Otlp,
}

/// The keys of a dialect, the preferred ones first. A dot leads into a group, where no key has it.
struct Keys {
    time: &'static [&'static str],
    level: &'static [&'static str],
    message: &'static [&'static str],
}

/// Numbers under this key are priorities of syslog.
const PRIORITY: &str = "PRIORITY";

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 10] = [
        Dialect::Auto,
        Dialect::Slog,
        Dialect::Zap,
        Dialect::Pino,
        Dialect::Bunyan,
        Dialect::Logrus,
        Dialect::Ecs,
        Dialect::Tracing,
        Dialect::Journald,
        Dialect::Otlp,
    ];

    /// The dialect's name, as the command line has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Dialect::Auto => "auto",
            Dialect::Slog => "slog",
            Dialect::Zap => "zap",
            Dialect::Pino => "pino",
            Dialect::Bunyan => "bunyan",
            Dialect::Logrus => "logrus",
            Dialect::Ecs => "ecs",
            Dialect::Tracing => "tracing",
            Dialect::Journald => "journald",
            Dialect::Otlp => "otlp",
        }
    }

    /// The dialect of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|it| it.as_str() == name)
    }

    fn keys(self) -> Keys {
        match self {
            Dialect::Slog => Keys {
                time: &["ts", "time"],
                level: &["level"],
                message: &["msg"],
            },
            Dialect::Zap => Keys {
                time: &["ts", "timestamp", "time"],
                level: &["level", "severity"],
                message: &["msg", "message"],
            },
            Dialect::Pino | Dialect::Bunyan | Dialect::Logrus => Keys {
                time: &["time"],
                level: &["level"],
                message: &["msg"],
            },
            Dialect::Ecs => Keys {
                time: &["@timestamp"],
                level: &["log.level"],
                message: &["message"],
            },
            Dialect::Tracing => Keys {
                time: &["timestamp"],
                level: &["level"],
                message: &["fields.message", "message"],
            },
            Dialect::Journald => Keys {
                time: &["__REALTIME_TIMESTAMP"],
                level: &[PRIORITY],
                message: &["MESSAGE"],
            },
            Dialect::Auto | Dialect::Otlp => Keys {
                time: &[
                    "ts",
                    "time",
                    "timestamp",
                    "@timestamp",
                    "__REALTIME_TIMESTAMP",
                    "t",
                    "@t",
                    "datetime",
                    "date",
                    "asctime",
                    "eventTime",
                ],
                level: &[
                    "level",
                    "lvl",
                    "severity",
                    "log.level",
                    "@level",
                    "@l",
                    "levelname",
                    "loglevel",
                    "log_level",
                    PRIORITY,
                ],
                message: &[
                    "msg",
                    "message",
                    "MESSAGE",
                    "fields.message",
                    "@message",
                    "@m",
                    "@mt",
                    "short_message",
                    "event",
                    "log",
                ],
            },
        }
    }
}

/// A log record of a line.
pub(crate) struct LineLog {
    pub(crate) record: LogRecord,
    /// Whether the line has a time; without one, the record's is 1970.
    pub(crate) has_time: bool,
}

/// The log record of the entries of a line; `None` when it has no time, no level and no message.
///
/// Of each of the three, the first entry counts that can be one; every other entry is an attribute. A
/// line of ours begins with the three, so it reads back as the record that was written, whatever its
/// attributes are called.
pub(crate) fn log_of_entries(
    mut entries: Vec<(String, Value)>,
    dialect: Dialect,
) -> Result<Option<LineLog>, LineReason> {
    let keys = dialect.keys();
    let time = first(&mut entries, keys.time, |_, value| time_of(value));
    if time.is_none() {
        refuse_time(&entries, keys.time)?;
    }
    let level = first(&mut entries, keys.level, level_of);
    let message = first(&mut entries, keys.message, message_of);
    if time.is_none() && level.is_none() && message.is_none() {
        return Ok(None);
    }
    let has_time = time.is_some();
    let (timestamp, utc_offset) = time.unwrap_or((Timestamp::default(), UtcOffset::UTC));
    let level = level.unwrap_or_default();
    let message = message.unwrap_or_default();
    let mut kept = Vec::new();
    kept.extend(level.text.map(|text| (SEVERITY_TEXT, Value::String(text))));
    kept.extend(message.body.map(|body| ("body", body)));
    if !kept.is_empty() {
        let kept = kept.into_iter().map(|(key, value)| (key.to_owned(), value));
        entries.push((FOREIGN.to_owned(), Value::Object(kept.collect())));
    }
    let record = LogRecord {
        timestamp,
        utc_offset,
        level: level.level,
        message: message.text,
        attributes: entries,
    };
    Ok(Some(LineLog { record, has_time }))
}

/// Whether a line that could be a snapshot or a span by its file is a log: it has a message, and a
/// time or a level.
pub(crate) fn is_log(entries: &[(String, Value)], dialect: Dialect) -> bool {
    let keys = dialect.keys();
    let has = |names: &[&str]| names.iter().any(|name| entry(entries, name).is_some());
    has(keys.message) && (has(keys.level) || has(keys.time))
}

/// The text of the level under which a line has the record, if its level has another name, and the
/// number of attributes that are then written.
///
/// So it is if the last attribute is what [`log_of_entries`] added for this alone.
pub(crate) fn text_of_level(record: &LogRecord) -> Option<(&str, usize)> {
    let ((key, Value::Object(kept)), others) = record.attributes.split_last()? else {
        return None;
    };
    match kept.as_slice() {
        [(name, text @ Value::String(shown))] if key == FOREIGN && name == SEVERITY_TEXT => {
            let level = level_of("level", text)?;
            let is_same = level.level == record.level && level.text.as_ref() == Some(shown);
            is_same.then_some((shown, others.len()))
        }
        _ => None,
    }
}

/// Takes out the first entry under one of `names` that `read` makes something of.
fn first<T>(
    entries: &mut Vec<(String, Value)>,
    names: &[&str],
    read: impl Fn(&str, &Value) -> Option<T>,
) -> Option<T> {
    names.iter().find_map(|name| {
        let read = |value: &Value| read(name, value);
        take(entries, name, read).or_else(|| {
            let (group, key) = name.split_once('.')?;
            let index = entries
                .iter()
                .position(|(name, value)| name == group && matches!(value, Value::Object(_)))?;
            let Some((_, Value::Object(inner))) = entries.get_mut(index) else {
                return None;
            };
            let taken = take(inner, key, read)?;
            if inner.is_empty() {
                entries.remove(index);
            }
            Some(taken)
        })
    })
}

fn take<T>(
    entries: &mut Vec<(String, Value)>,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    let (index, taken) = entries
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| name == key)
        .find_map(|(index, (_, value))| Some((index, read(value)?)))?;
    entries.remove(index);
    Some(taken)
}

fn entry<'a>(entries: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    let of = |entries: &'a [(String, Value)], key: &str| {
        let (_, value) = entries.iter().find(|(name, _)| name == key)?;
        Some(value)
    };
    of(entries, name).or_else(|| {
        let (group, key) = name.split_once('.')?;
        match of(entries, group)? {
            Value::Object(inner) => of(inner, key),
            _ => None,
        }
    })
}

/// Refuses a line whose time is there and cannot be read: it is another one than that of the record
/// before it.
fn refuse_time(entries: &[(String, Value)], names: &[&str]) -> Result<(), LineReason> {
    let usual = [
        "ts",
        "time",
        "timestamp",
        "@timestamp",
        "__REALTIME_TIMESTAMP",
    ];
    let names = names.iter().filter(|name| usual.contains(name));
    for name in names {
        match entry(entries, name) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let text = match value {
                    Value::String(text) => text.clone(),
                    value => value_text(value),
                };
                return Err(LineReason::NotATime {
                    key: (*name).to_owned(),
                    text: excerpt(&text),
                });
            }
        }
    }
    Ok(())
}

/// Reads a time, with the offset in which it is written.
fn time_of(value: &Value) -> Option<(Timestamp, UtcOffset)> {
    let nanos = match value {
        Value::String(text) => return time_of_text(text),
        Value::Int(number) => nanos_of_integer((*number).into())?,
        Value::UInt(number) => nanos_of_integer((*number).into())?,
        Value::Float(number) => {
            let mut text = Vec::new();
            write_f64(*number, &mut text);
            nanos_of_decimal(str::from_utf8(&text).ok()?)?
        }
        _ => return None,
    };
    Some((Timestamp::from_unix_nanos(nanos), UtcOffset::UTC))
}

fn time_of_text(text: &str) -> Option<(Timestamp, UtcOffset)> {
    if let Ok(time) = Timestamp::parse_rfc3339(text) {
        return Some(time);
    }
    let text = text.trim();
    if text.len() >= 9
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        let nanos = nanos_of_decimal(text)?;
        return Some((Timestamp::from_unix_nanos(nanos), UtcOffset::UTC));
    }
    let (date, rest) = text.split_at_checked(10)?;
    let clock = rest.strip_prefix([' ', 'T', 't'])?.replacen(',', ".", 1);
    let end = clock
        .find(|char: char| !(char.is_ascii_digit() || matches!(char, ':' | '.')))
        .unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(end)?;
    let zone = zone.trim();
    let zone = match (zone, zone.len()) {
        ("" | "z" | "UTC" | "GMT", _) => "Z".to_owned(),
        (_, 3) => format!("{zone}:00"),
        (_, 5) => {
            let (hours, minutes) = zone.split_at_checked(3)?;
            format!("{hours}:{minutes}")
        }
        _ => zone.to_owned(),
    };
    let date = date.replace('/', "-");
    Timestamp::parse_rfc3339(&format!("{date}T{clock}{zone}")).ok()
}

/// The exponent of ten that makes nanoseconds of a number since 1970, by its magnitude: seconds reach
/// to the year 5138, and later ones of a finer unit are before March 1973.
fn exponent(number: i128) -> usize {
    match number.unsigned_abs() {
        0..100_000_000_000 => 9,
        100_000_000_000..100_000_000_000_000 => 6,
        100_000_000_000_000..100_000_000_000_000_000 => 3,
        _ => 0,
    }
}

fn nanos_of_integer(number: i128) -> Option<i64> {
    let scale = 10_i128.pow(u32::try_from(exponent(number)).ok()?);
    i64::try_from(number.checked_mul(scale)?).ok()
}

/// By its digits, for a double cannot hold nanoseconds since 1970.
fn nanos_of_decimal(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i128 = whole.parse().ok()?;
    let exponent = exponent(number);
    let digits = fraction.bytes().chain(std::iter::repeat(b'0'));
    let fraction: String = digits.take(exponent).map(char::from).collect();
    let fraction = match fraction.as_str() {
        "" => 0,
        digits => digits.parse::<i64>().ok()?,
    };
    let nanos = nanos_of_integer(number)?;
    if text.starts_with('-') {
        nanos.checked_sub(fraction)
    } else {
        nanos.checked_add(fraction)
    }
}

/// A level of a line.
#[derive(Debug, Default)]
struct LineLevel {
    level: Level,
    /// What the line says, where the level has another name.
    text: Option<String>,
}

fn level_of(key: &str, value: &Value) -> Option<LineLevel> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let numbered = number.and_then(|number| {
        let of_tens = || (key != PRIORITY).then(|| Level::of_tens(number)).flatten();
        Level::of_syslog(number).or_else(of_tens)
    });
    if let Some(level) = numbered {
        return Some(LineLevel { level, text: None });
    }
    match value {
        Value::String(text) if !text.is_empty() => {
            let (level, is_its_name) = Level::of_text(text.trim());
            Some(LineLevel {
                level,
                text: (!is_its_name).then(|| text.clone()),
            })
        }
        _ => None,
    }
}

/// A message of a line.
#[derive(Debug, Default)]
struct LineMessage {
    text: String,
    /// What the line says, where that is no text.
    body: Option<Value>,
}

fn message_of(key: &str, value: &Value) -> Option<LineMessage> {
    match value {
        Value::String(text) => Some(LineMessage {
            text: text.clone(),
            body: None,
        }),
        Value::Array(items) if key == "MESSAGE" => {
            // The journal writes a message that is no UTF-8 as its bytes.
            let byte = |item: &Value| match item {
                Value::Int(byte) => u8::try_from(*byte).ok(),
                _ => None,
            };
            let bytes = items.iter().map(byte).collect::<Option<Vec<u8>>>()?;
            Some(LineMessage {
                text: String::from_utf8_lossy(&bytes).into_owned(),
                body: None,
            })
        }
        Value::Null => None,
        value if matches!(key, "msg" | "message") => Some(LineMessage {
            text: value_text(value),
            body: Some(value.clone()),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit_and_spelling() {
        let expected = "2024-05-26T11:42:52.6014807Z";
        for value in [
            Value::Float(1_716_723_772.601_480_7),
            Value::from("1716723772.6014807"),
            Value::from("2024-05-26 11:42:52,6014807"),
            Value::from("2024-05-26T13:42:52.6014807+0200"),
            Value::from("2024/05/26 11:42:52.6014807 UTC"),
            Value::Int(1_716_723_772_601_480_700),
        ] {
            let (time, _) = time_of(&value).unwrap();
            assert_eq!(time.to_string(), expected, "{value:?}");
        }
        for (value, expected) in [
            (Value::Int(1_716_723_772), "2024-05-26T11:42:52Z"),
            (Value::Int(1_716_723_772_601), "2024-05-26T11:42:52.601Z"),
            (
                Value::from("1716723772601480"),
                "2024-05-26T11:42:52.60148Z",
            ),
            (
                Value::Float(1_716_723_772_601.5),
                "2024-05-26T11:42:52.6015Z",
            ),
            (Value::Float(-0.5), "1969-12-31T23:59:59.5Z"),
        ] {
            let (time, _) = time_of(&value).unwrap();
            assert_eq!(time.to_string(), expected, "{value:?}");
        }
        for value in [
            Value::from("yesterday"),
            Value::from("12"),
            Value::Bool(true),
            Value::Float(f64::NAN),
            Value::Float(1e300),
            Value::from("日本日本日本日本"),
            Value::from("2024-05-26 é"),
            Value::UInt(u64::MAX),
        ] {
            assert!(time_of(&value).is_none(), "{value:?}");
        }
    }

    #[test]
    fn names_of_dialects_come_back() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::from_name(dialect.as_str()), Some(dialect));
        }
        assert_eq!(Dialect::from_name("log4j"), None);
    }
}

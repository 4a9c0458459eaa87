//! Stacks and traces by address: `telemetry://stack/{stack}` and `telemetry://stack/{stack}/trace/{id}`.

use crate::tools::{self, Tool};
use rmcp::model::{JsonObject, Resource, ResourceTemplate};
use std::fmt::Write as _;

const ROOT: &str = "telemetry://stack/";
pub(crate) const STACK: &str = "telemetry://stack/{stack}";
pub(crate) const TRACE: &str = "telemetry://stack/{stack}/trace/{id}";
/// The number of stacks that are listed.
pub(crate) const LISTED_MAX: usize = 16;

/// What a resource shows: a tool and its arguments.
pub(crate) struct Shown {
    pub(crate) tool: &'static Tool,
    pub(crate) arguments: JsonObject,
}

/// What the resource at an address shows; `None` if there is none.
pub(crate) fn at(uri: &str) -> Option<Shown> {
    let rest = uri.strip_prefix(ROOT)?;
    let (stack, trace) = match rest.split_once("/trace/") {
        Some((stack, trace)) => (stack, Some(trace)),
        None => (rest, None),
    };
    let stack = decoded(stack)?;
    let mut arguments = JsonObject::new();
    arguments.insert("stack".to_owned(), stack.into());
    let tool = match trace {
        Some(trace) => {
            arguments.insert("trace".to_owned(), decoded(trace)?.into());
            tools::find("get_trace")?
        }
        None => tools::find("inventory")?,
    };
    Some(Shown { tool, arguments })
}

/// The resource of a stack.
pub(crate) fn of_stack(stack: &str) -> Resource {
    Resource::new(format!("{ROOT}{}", encoded(stack)), stack)
        .with_title(format!("Telemetry of the stack {stack}"))
        .with_description("What is stored of its MCP servers")
        .with_mime_type("text/plain")
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(STACK, "stack")
            .with_title("Telemetry of a stack")
            .with_description("What is stored of the MCP servers of a stack")
            .with_mime_type("text/plain"),
        ResourceTemplate::new(TRACE, "trace")
            .with_title("A trace")
            .with_description("A trace as a tree of spans and log records, with why it failed")
            .with_mime_type("text/plain"),
    ]
}

/// A name as a segment of an address.
fn encoded(name: &str) -> String {
    let mut segment = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// The name that a segment of an address stands for.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?.to_owned();
                bytes.push(u8::from_str_radix(&digits, 16).ok()?);
            }
            b'/' => return None,
            byte => bytes.push(byte),
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for name in ["gw", "my stack", "50%", "a/trace/b", "ü"] {
            let uri = of_stack(name).uri;
            let shown = at(&uri).unwrap();
            assert_eq!(shown.tool.name, "inventory");
            assert_eq!(shown.arguments.get("stack").unwrap(), name);
            let shown = at(&format!("{uri}/trace/0af7")).unwrap();
            assert_eq!(shown.tool.name, "get_trace");
            assert_eq!(shown.arguments.get("trace").unwrap(), "0af7");
        }
        for other in [
            "telemetry://stack/",
            "telemetry://stack/a/b",
            "telemetry://stack/%zz",
            "telemetry://stack/%f",
            "telemetry://stack/gw/trace/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(at(other).is_none(), "{other}");
        }
    }
}

//! Stacks and traces by address: `telemetry://stack/{stack}` and `telemetry://stack/{stack}/trace/{id}`.

use crate::tools::{self, Tool};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::model::{JsonObject, Resource, ResourceTemplate};

const ROOT: &str = "telemetry://stack/";
pub(crate) const STACK: &str = "telemetry://stack/{stack}";
pub(crate) const TRACE: &str = "telemetry://stack/{stack}/trace/{id}";
/// What a segment of an address keeps as it is: the unreserved characters of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
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
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// The name that a segment of an address stands for.
fn decoded(segment: &str) -> Option<String> {
    // Decoding would leave what is not two digits as it is.
    let is_code = |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if segment.contains('/') || !segment.split('%').skip(1).all(is_code) {
        return None;
    }
    let name = percent_decode_str(segment).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
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
            "telemetry://stack/%+f",
            "telemetry://stack/%ff",
            "telemetry://stack/gw/trace/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(at(other).is_none(), "{other}");
        }
    }
}

//! The tool and the client that the attributes of a span name.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};

/// The span attributes that name the tool, in order of precedence. The last one is that of the
/// semantic conventions for MCP (<https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/>).
const TOOL_KEYS: [&str; 3] = ["tool.name", "tool", "gen_ai.tool.name"];
/// The span attributes that name the client, in order of precedence.
const CLIENT_KEYS: [&str; 2] = ["client.name", "client"];

/// The tool and the client that a span names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Names<'a> {
    pub(crate) tool: Option<&'a str>,
    pub(crate) client: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// Reads a span's attributes that are strings.
    pub(crate) fn read(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Names<'a> {
        let (mut tool, mut client) = (First::default(), First::default());
        for (key, text) in texts {
            tool.offer(&TOOL_KEYS, key, text);
            client.offer(&CLIENT_KEYS, key, text);
        }
        Names {
            tool: tool.text,
            client: client.text,
        }
    }

    /// Reads a decoded span's attributes.
    pub(super) fn of(attributes: &'a [KeyValue]) -> Names<'a> {
        Names::read(attributes.iter().filter_map(|attribute| {
            match attribute.value.as_ref()?.value.as_ref()? {
                any_value::Value::StringValue(text) => {
                    Some((attribute.key.as_str(), text.as_str()))
                }
                _ => None,
            }
        }))
    }
}

/// The text under the key of the highest precedence so far.
#[derive(Debug, Default)]
struct First<'a> {
    precedence: usize,
    text: Option<&'a str>,
}

impl<'a> First<'a> {
    fn offer(&mut self, keys: &[&str], key: &str, text: &'a str) {
        if let Some(precedence) = keys.iter().position(|known| *known == key)
            && (self.text.is_none() || precedence < self.precedence)
        {
            *self = First {
                precedence,
                text: Some(text),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_highest_precedence_names_the_tool() {
        let texts = [
            ("gen_ai.tool.name", "third"),
            ("tool", "second"),
            ("other", "none"),
            ("client", "desk"),
            ("tool.name", "first"),
            ("tool.name", "again"),
        ];
        let names = Names::read(texts.into_iter());
        assert_eq!((names.tool, names.client), (Some("first"), Some("desk")));
        let names = Names::read(texts.into_iter().take(2));
        assert_eq!((names.tool, names.client), (Some("second"), None));
    }
}

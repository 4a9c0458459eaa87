//! Parts of forms that filter records: those of logs and of traces.

use super::address::Address;
use crate::{display::escape, views::suggest::Suggestions};
use maud::{Markup, html};

/// The choices of a severity.
pub(super) const LEVELS: [(&str, &str); 8] = [
    ("", "Any"),
    ("trace", "Trace and above"),
    ("debug", "Debug and above"),
    ("info", "Info and above"),
    ("warn", "Warn and above"),
    ("error", "Error and above"),
    ("info..info", "Info only"),
    ("warn..warn", "Warn only"),
];

/// A filter's parameter, and what it is called.
pub(super) type Filter = (&'static str, &'static str);

/// The list without filters, for the same range of time.
pub(super) fn cleared(address: &Address, filters: &[Filter]) -> Address {
    let names: Vec<&str> = filters.iter().map(|(name, _)| *name).collect();
    address.clone().without(&names).without(&["cursor"])
}

/// An input for each value after the first `skipped` ones, and an empty one.
pub(super) fn text_fields(
    name: &str,
    label: &str,
    placeholder: &str,
    address: &Address,
    list: Option<&str>,
    skipped: usize,
) -> Markup {
    let values = address.values(name);
    html! {
        div.field role="group" aria-label=(label) {
            span { (label) }
            @for value in values.iter().skip(skipped).copied().chain([""]) {
                input type="text" name=(name) value=(value) placeholder=(placeholder) list=[list] aria-label=(label)
                    autocomplete="off" spellcheck="false";
            }
        }
    }
}

/// An input for a parameter that has one value.
pub(super) fn text_field(
    name: &str,
    label: &str,
    placeholder: &str,
    address: &Address,
    list: Option<&str>,
) -> Markup {
    html! {
        label.field {
            span { (label) }
            input type="text" name=(name) value=[address.get(name)] placeholder=(placeholder) list=[list]
                autocomplete="off" spellcheck="false";
        }
    }
}

/// A choice. A value in the address that is none of the options is one, too.
pub(super) fn select(name: &str, address: &Address, options: &[(&str, &str)]) -> Markup {
    let present = address.get(name).unwrap_or_default();
    let is_known = options.iter().any(|(value, _)| *value == present);
    html! {
        select name=(name) {
            @for (value, label) in options {
                option value=(value) selected[*value == present] { (label) }
            }
            @if !is_known { option value=(present) selected { (present) } }
        }
    }
}

/// A box for each server.
pub(super) fn servers(address: &Address, suggestions: &Suggestions) -> Markup {
    let chosen = address.values("server");
    html! {
        fieldset.field.filters-servers {
            legend { "Servers" }
            @for server in &suggestions.servers {
                label.check {
                    input type="checkbox" name="server" value=(server) checked[chosen.contains(&server.as_str())];
                    span { (escape(server)) }
                }
            }
            // A server that is not stored any more, or is misspelt, stays in the form.
            @for name in chosen.iter().filter(|name| !suggestions.servers.iter().any(|server| server.as_str() == **name)) {
                label.check { input type="checkbox" name="server" value=(name) checked; span { (escape(name)) } }
            }
        }
    }
}

/// How texts are searched for.
pub(super) fn words(address: &Address) -> Markup {
    html! {
        fieldset.field {
            legend { "Words" }
            @for (name, label) in [("fixed-strings", "Plain text, no regular expression"), ("word-regexp", "Whole words only"), ("case-sensitive", "Upper and lower case differ")] {
                label.check {
                    input type="checkbox" name=(name) value="true" checked[address.get(name).is_some()];
                    span { (label) }
                }
            }
        }
    }
}

/// The filters in force, each with a link to the list without it.
pub(super) fn chips(address: &Address, filters: &[Filter]) -> Markup {
    let chips: Vec<(&str, &str, &str)> = filters
        .iter()
        .flat_map(|(name, label)| {
            let values = address.values(name).into_iter();
            values.map(move |value| (*name, *label, value))
        })
        .collect();
    let bare = address.clone().without(&["cursor"]);
    html! {
        @if !chips.is_empty() {
            ul.chips aria-label="Filters in force" {
                @for (name, label, value) in chips {
                    li.chip {
                        span.faint { (label) }
                        @if value != "true" { " " (escape(value)) }
                        a href=(bare.clone().without_value(name, value)) aria-label={ "Remove: " (label) " " (escape(value)) } { "×" }
                    }
                }
                li { a href=(cleared(address, filters)) { "Clear all" } }
            }
        }
    }
}

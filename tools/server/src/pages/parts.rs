//! Small parts of pages: times, texts of records, meters, facts.

use crate::{
    display::{clock_millis, clock_seconds, escape, found_in, percent},
    input::Zone,
};
use gridctl_telemetry::{
    Timestamp,
    query::{Damage, TextPattern, plain_text},
};
use maud::{Markup, html};

/// A time to the second, in the zone of the viewer.
pub(super) fn time(time: Timestamp, zone: &Zone) -> Markup {
    html! { time datetime=(time) { (clock_seconds(zone.local(time))) } }
}

/// A time to the millisecond, in the zone of the viewer. A narrow page hides the date.
pub(super) fn exact_time(time: Timestamp, zone: &Zone) -> Markup {
    let clock = clock_millis(zone.local(time));
    let (date, clock) = clock.split_once(' ').unwrap_or(("", &clock));
    html! { time datetime=(time) { span.date { (date) " " } (clock) } }
}

/// How long ago a time was, with the time itself as its title.
pub(super) fn ago(at: Timestamp, now: Timestamp, zone: &Zone) -> Markup {
    let seconds = now.unix_nanos().saturating_sub(at.unix_nanos()) / 1_000_000_000;
    let text = match seconds {
        ..0 => "in the future".to_owned(),
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    };
    html! { time datetime=(at) title=(clock_seconds(zone.local(at))) { (text) } }
}

/// How many characters of a record a page still shows.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// The beginning of a text that there is room for, and how many characters are left out.
    fn cut<'a>(&mut self, text: &'a str) -> (&'a str, usize) {
        let end = text.char_indices().nth(self.0).map(|(at, _)| at);
        let kept = end.and_then(|end| text.get(..end)).unwrap_or(text);
        self.0 = self.0.saturating_sub(kept.chars().count());
        let left_out = text.get(kept.len()..).unwrap_or_default();
        (kept, left_out.chars().count())
    }
}

/// A text of a record: without the escape sequences of terminals, with invisible characters escaped, and with
/// what was searched for marked. Lines stay lines where the style of the element keeps them.
pub(super) fn text(text: &str, patterns: &[TextPattern], budget: &mut Budget) -> Markup {
    let (kept, left_out) = budget.cut(text);
    let plain = plain_text(kept);
    let mut parts = Vec::new();
    let mut end = 0;
    for found in found_in(&plain, patterns) {
        parts.push((false, plain.get(end..found.start)));
        parts.push((true, plain.get(found.clone())));
        end = found.end;
    }
    parts.push((false, plain.get(end..)));
    html! {
        @for (is_found, part) in parts {
            @let part = visible(part.unwrap_or_default());
            @if is_found { mark { (part) } } @else { (part) }
        }
        @if left_out > 0 {
            " " span.faint { "… " (left_out) " more characters" }
        }
    }
}

/// The text with invisible characters escaped, but for line breaks and tabs.
fn visible(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let parts: Vec<String> = line.split('\t').map(escape).collect();
        parts.join("\t")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What could not be read and is missing on the page, if there is something.
pub(super) fn unreadable(damage: &[Damage]) -> Markup {
    html! {
        @if let Some(first) = damage.first() {
            p.notice.is-error {
                "A part of the store cannot be read, and its records are missing here: "
                @if let Some(server) = &first.server { (escape(server)) ": " }
                (escape(&first.what)) ". "
                @if damage.len() > 1 { (damage.len() - 1) " more parts cannot be read either. " }
                code { "gridctl-telemetry verify" } " names all of them."
            }
        }
    }
}

/// A bar that shows a part of a whole, and says it.
pub(super) fn meter(part: u64, whole: u64, label: &str) -> Markup {
    let share = u128::from(part) * 1000 / u128::from(whole.max(1));
    let tenths = u32::try_from(share.min(1000)).unwrap_or(1000);
    // Something is never nothing.
    let width = if part > 0 { tenths.max(12) } else { 0 };
    let class = match tenths {
        950.. => "meter is-full",
        800.. => "meter is-high",
        _ => "meter",
    };
    html! {
        svg class=(class) width="100%" height="6" role="img" {
            title { (label) ": " (percent(part, whole)) }
            rect.meter-back width="100%" height="6" rx="3" {}
            rect.meter-part width={ (width / 10) "." (width % 10) "%" } height="6" rx="3" {}
        }
    }
}

/// A number with its name, and what there is to say about it.
pub(super) fn fact(name: &str, value: impl maud::Render, note: impl maud::Render) -> Markup {
    html! {
        div.fact {
            dt { (name) }
            dd { (value) }
            dd.note { (note) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: &str, pattern: &str, room: usize) -> String {
        let patterns = [TextPattern::regex(pattern).unwrap()];
        text(of, &patterns, &mut Budget(room)).into_string()
    }

    #[test]
    fn texts_are_escaped_marked_and_cut() {
        assert_eq!(
            shown("<script>alert('x')</script> & <b>", "alert", 99),
            "&lt;script&gt;<mark>alert</mark>('x')&lt;/script&gt; &amp; &lt;b&gt;"
        );
        assert_eq!(
            shown("a\u{202e}b\u{1b}[31mc\r\nd\te", "b", 99),
            "a\\u{202e}<mark>b</mark>c\nd\te"
        );
        assert!(shown("ääää", "x", 3).starts_with("äää <span"));
        assert!(shown("ääää", "x", 3).contains("… 1 more characters"));
        assert_eq!(shown("äää", "x", 3), "äää");
    }

    #[test]
    fn meters_show_something_of_anything() {
        let width = |part, whole| {
            let meter = meter(part, whole, "Size").into_string();
            let (_, rest) = meter.split_once("meter-part\" width=\"").unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        assert_eq!(width(0, 5), "0.0%");
        assert_eq!(width(1, 1_000_000), "1.2%");
        assert_eq!(width(1, 3), "33.3%");
        assert_eq!(width(9, 3), "100.0%");
        assert_eq!(width(u64::MAX, 0), "100.0%");
    }
}

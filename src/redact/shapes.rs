//! Secrets that are known by their shape, wherever they stand.

use std::ops::Range;

/// How far from `-----BEGIN` the words `PRIVATE KEY` are looked for.
const LABEL_BYTES_MAX: usize = 64;
/// A user name alone in a URL is taken for a token from this length on.
const USER_TOKEN_BYTES_MIN: usize = 20;

/// The bytes that a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Alphanumeric,
    Hex,
    /// Letters, digits and `_`.
    Word,
    /// Letters, digits, `_` and `-`.
    UrlSafe,
}

impl Class {
    fn holds(self, byte: u8) -> bool {
        match self {
            Class::Alphanumeric => byte.is_ascii_alphanumeric(),
            Class::Hex => byte.is_ascii_hexdigit(),
            Class::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Class::UrlSafe => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
        }
    }

    /// Where a run of the class that begins at `start` ends.
    fn end(self, text: &[u8], start: usize) -> usize {
        let rest = text.get(start..).unwrap_or_default();
        start + rest.iter().take_while(|byte| self.holds(**byte)).count()
    }
}

/// How the secret that begins with a literal goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A capability handle, `gca2a_c1_…`.
    Handle,
    /// A private key in PEM, to its last line, or to the end of a text that is cut off.
    PrivateKey,
    /// A JSON Web Token: two or more parts in base64 with dots between them.
    Jwt,
    /// User and password in a URL.
    Url,
    /// `sk-…`: a long random part, for `sk-learn` is a name.
    SkDash,
    /// `SG.…​.…`.
    SendGrid,
    /// `AKIA` and 16 capitals and digits.
    AwsKeyId,
    /// `xoxb-…` and its like.
    Slack,
    /// The path of a web hook that needs no other secret.
    WebHook,
    /// At least this many bytes of a class.
    Run(Class, usize),
}

impl Shape {
    pub(super) fn ignores_case(self) -> bool {
        matches!(self, Shape::Handle | Shape::WebHook | Shape::Url)
    }

    /// Whether the rest of such a secret could stand at `at` in `text`, where other data than text may
    /// surround it. Never wrong when it says no, and looks at few bytes.
    pub(super) fn may_follow(self, text: &[u8], at: usize) -> bool {
        let long = |class: Class, bytes| run(text, at, |byte| class.holds(byte), bytes) == bytes;
        match self {
            Shape::Handle | Shape::PrivateKey | Shape::WebHook => true,
            Shape::Jwt => long(Class::UrlSafe, 5),
            Shape::Url => user_info(text, at).is_some(),
            Shape::SkDash | Shape::SendGrid => long(Class::UrlSafe, 16),
            Shape::AwsKeyId => long(Class::Alphanumeric, 16),
            Shape::Slack => long(Class::UrlSafe, 12),
            Shape::Run(class, bytes_min) => long(class, bytes_min),
        }
    }

    /// The range of the secret whose literal is at `literal`, if it is one. Looks at a bounded
    /// number of bytes beside those that no other literal makes it look at again.
    pub(super) fn find(self, text: &[u8], literal: Range<usize>) -> Option<Range<usize>> {
        let Range { start, end: at } = literal;
        let byte = |at: usize| text.get(at).copied();
        let end = match self {
            Shape::Handle => {
                let version = byte(at).is_some_and(|byte| byte.is_ascii_alphabetic())
                    && byte(at + 1).is_some_and(|byte| byte.is_ascii_digit());
                let digits = at + 1 + run(text, at + 1, |byte| byte.is_ascii_digit(), 8);
                (version && byte(digits) == Some(b'_'))
                    .then(|| Class::UrlSafe.end(text, digits))
                    .filter(|end| *end > digits + 1)
            }
            Shape::PrivateKey => private_key(text, at),
            Shape::Jwt => stands_alone(text, start, Class::UrlSafe)
                .then(|| jwt(text, at))
                .flatten(),
            Shape::Url => return user_info(text, at),
            Shape::SkDash => stands_alone(text, start, Class::UrlSafe)
                .then(|| sk_dash(text, at))
                .flatten(),
            Shape::SendGrid => stands_alone(text, start, Class::UrlSafe)
                .then(|| {
                    let first = Class::UrlSafe.end(text, at);
                    let second = Class::UrlSafe.end(text, first + 1);
                    (byte(first) == Some(b'.') && first >= at + 16 && second >= first + 17)
                        .then_some(second)
                })
                .flatten(),
            Shape::AwsKeyId => {
                let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
                let end = at + run(text, at, capital, 17);
                let ends = !byte(end).is_some_and(|byte| byte.is_ascii_alphanumeric());
                (ends && end == at + 16 && stands_alone(text, start, Class::Alphanumeric))
                    .then_some(end)
            }
            Shape::Slack => {
                let kind = byte(at).is_some_and(|byte| byte.is_ascii_lowercase());
                let end = at + 2 + run(text, at + 2, |byte| Class::UrlSafe.holds(byte), 10);
                (kind && byte(at + 1) == Some(b'-') && end == at + 12)
                    .then(|| Class::UrlSafe.end(text, end))
            }
            Shape::WebHook => return web_hook(text, at),
            Shape::Run(class, bytes_min) => {
                let long = run(text, at, |byte| class.holds(byte), bytes_min) == bytes_min;
                long.then(|| class.end(text, at))
            }
        }?;
        Some(start..end)
    }
}

/// How many bytes from `start` on pass, at most `max`.
fn run(text: &[u8], start: usize, pass: impl Fn(u8) -> bool, max: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    rest.iter()
        .take(max)
        .take_while(|byte| pass(**byte))
        .count()
}

/// Whether what begins at `start` is not the rest of a longer run. An escape (`\n`, `%3D`) before it
/// is none.
fn stands_alone(text: &[u8], start: usize, class: Class) -> bool {
    let before = text.get(..start).unwrap_or_default();
    match before {
        [] | [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., last] => !class.holds(*last),
    }
}

fn private_key(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..).unwrap_or_default();
    let near = rest.get(..LABEL_BYTES_MAX).unwrap_or(rest);
    let label = near.get(..find(near, b"-----")?)?;
    let private = find(label, b"PRIVATE")?;
    find(label.get(private..)?, b"KEY")?;
    let Some(last) = find(rest, b"-----END") else {
        return Some(text.len());
    };
    let last = at + last + b"-----END".len();
    let rest = text.get(last..).unwrap_or_default();
    let near = rest.get(..LABEL_BYTES_MAX).unwrap_or(rest);
    Some(find(near, b"-----").map_or(last, |end| last + end + 5))
}

fn jwt(text: &[u8], at: usize) -> Option<usize> {
    let header = Class::UrlSafe.end(text, at);
    if header < at + 8 || text.get(header) != Some(&b'.') {
        return None;
    }
    let payload = Class::UrlSafe.end(text, header + 1);
    // The second part of an encrypted token with a shared key is empty.
    let is_empty = payload == header + 1;
    if text.get(payload) != Some(&b'.') || (!is_empty && payload < header + 9) {
        return None;
    }
    let mut end = Class::UrlSafe.end(text, payload + 1);
    if is_empty && end == payload + 1 {
        return None;
    }
    for _ in 0..2 {
        let next = Class::UrlSafe.end(text, end + 1);
        if text.get(end) == Some(&b'.') && next > end + 8 {
            end = next;
        }
    }
    Some(end)
}

fn sk_dash(text: &[u8], at: usize) -> Option<usize> {
    let end = Class::UrlSafe.end(text, at);
    let token = text.get(at..end)?;
    let longest = token
        .split(|byte| !byte.is_ascii_alphanumeric())
        .map(<[u8]>::len)
        .max()?;
    let has_digit = token.iter().any(u8::is_ascii_digit);
    let known = [&b"proj-"[..], b"ant-", b"svcacct-", b"admin-", b"or-v1-"]
        .iter()
        .any(|kind| token.starts_with(kind));
    let random = longest >= 20 || (has_digit && longest >= 12) || (known && longest >= 8);
    (random && token.len() >= 16).then_some(end)
}

/// User and password between `://` and the `@` before the host.
fn user_info(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..).unwrap_or_default();
    let mut at_sign = None;
    let mut colon = false;
    let mut digit = false;
    for (index, byte) in rest.iter().enumerate() {
        match byte {
            b'@' => at_sign = Some(index),
            b':' if at_sign.is_none() => colon = true,
            b'/' | b'?' | b'#' | b'\\' | b'"' | b'\'' | b'`' | b'<' | b'>' => break,
            byte if byte.is_ascii_whitespace() || byte.is_ascii_control() => break,
            byte if at_sign.is_none() => digit |= byte.is_ascii_digit(),
            _ => {}
        }
    }
    let end = at_sign?;
    let secret = end > 0 && (colon || (digit && end >= USER_TOKEN_BYTES_MIN));
    secret.then_some(start..start + end)
}

/// What follows `hooks.slack.com/services/` or `discord.com/api/webhooks/`.
fn web_hook(text: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..).unwrap_or_default();
    let kinds: [&[u8]; 4] = [b"/services/", b"/workflows/", b"/triggers/", b"/webhooks/"];
    let start = at + kinds.iter().find(|kind| rest.starts_with(kind))?.len();
    let path = |byte: u8| Class::UrlSafe.holds(byte) || byte == b'/';
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| path(**byte)).count();
    (length >= 16).then_some(start..start + length)
}

/// Where `needle` first stands in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|part| part == needle)
}

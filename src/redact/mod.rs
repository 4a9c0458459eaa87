//! Redaction: secrets are replaced with `[REDACTED]` before a record reaches the disk.
//!
//! A secret is recognised in four ways: by the keyword before it, by its own shape, by the key
//! beside it, and because its value was registered.
//!
//! ## In text
//!
//! Keywords count in any case, and their prefix stays. A value is a word, what is in quotes (in
//! several lines too, and in JSON that was escaped any number of times), or what is in brackets. A
//! test reads this table.
//!
//! | rule | input | output |
//! |---|---|---|
//! | `Authorization:` with a known scheme, which stays | `Authorization: Basic dXNlcjpw next` | `Authorization: Basic [REDACTED] next` |
//! | `Authorization:` without one: up to two words | `authorization: s3cr3t value next` | `authorization: [REDACTED] next` |
//! | `Authorization:` in quotes of a command line | `curl -H 'Authorization: s3cr3tvalue123' https://host/` | `curl -H 'Authorization: [REDACTED]' https://host/` |
//! | `Bearer` | `sent bearer abc.def to x` | `sent bearer [REDACTED] to x` |
//! | `Cookie:`, `Set-Cookie:` | `Set-Cookie: sid=abc; Path=/; HttpOnly` | `Set-Cookie: [REDACTED]` |
//! | `password passwd passphrase secret token credential(s)`, and `=` or `:` | `login password=hunter2 ok` | `login password=[REDACTED] ok` |
//! | `api_key access_key private_key account_key`, and `=` or `:` | `X-Api-Key: abc, next` | `X-Api-Key: [REDACTED] next` |
//! | a value in quotes | `password="correct horse" x` | `password="[REDACTED]" x` |
//! | JSON in a string | `{\"password\":\"a b\",\"n\":1}` | `{\"password\":\"[REDACTED]\",\"n\":1}` |
//! | a key in JSON or an environment that names a secret | `OPENAI_KEY=abc "ssh_key":"abc"` | `OPENAI_KEY=[REDACTED] "ssh_key":"[REDACTED]"` |
//! | an option of a command line, alone or in a list | `x --password abc, "--token","abc"` | `x --password [REDACTED] "--token","[REDACTED]"` |
//! | an entry with a name and a value | `{"name":"X-Api-Key","value":"abc"}` | `{"name":"X-Api-Key","value":"[REDACTED]"}` |
//! | an element of XML | `<password>a b</password>` | `<password>[REDACTED]</password>` |
//! | a truth value, null, a count | `token: 12, password: null` | `token: 12, password: null` |
//! | a parameter in a URL | `GET /x?access_token=abc&page=2` | `GET /x?access_token=[REDACTED]&page=2` |
//! | `sig signature key auth pwd pass jwt` in a URL | `https://h/x?page=2&sig=abc#top` | `https://h/x?page=2&sig=[REDACTED]#top` |
//! | user and password in a URL | `postgres://user:pass@host/db` | `postgres://[REDACTED]@host/db` |
//! | capability handles | `used gca2a_c1_abc.` | `used [REDACTED].` |
//! | private keys | `-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n` | `[REDACTED]\n` |
//! | JSON Web Tokens | `jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_-123 ok` | `jwt [REDACTED] ok` |
//! | GitHub | `x ghp_abcdefghijklmnop0123456789ABCDEFGHIJ y` | `x [REDACTED] y` |
//! | GitLab | `x glpat-abcdefghij0123456789 y` | `x [REDACTED] y` |
//! | Slack | `x xoxb-123456789012-abcdefghijkl y` | `x [REDACTED] y` |
//! | `OpenAI`, Anthropic | `x sk-ant-api03-abcdefghij0123456789 y` | `x [REDACTED] y` |
//! | AWS | `x AKIAIOSFODNN7EXAMPLE y` | `x [REDACTED] y` |
//! | Google | `x AIzaabcdefghijklmnopqrstuvwxyz012345678 y` | `x [REDACTED] y` |
//! | Stripe | `x rk_test_abcdefghij0123456789 y` | `x [REDACTED] y` |
//! | npm, `PyPI`, Hugging Face | `x npm_abcdefghijklmnopqrstuvwxyz0123456789 y` | `x [REDACTED] y` |
//! | `DigitalOcean`, Shopify, Databricks, `RubyGems` | `x dop_v1_0123456789abcdef0123456789abcdef y` | `x [REDACTED] y` |
//! | `SendGrid` | `x SG.abcdefghij0123456789ab.abcdefghij0123456789abcdefghij0123456789abc y` | `x [REDACTED] y` |
//! | web hooks of Slack and Discord | `https://hooks.slack.com/services/T00000000/B00000000/XXXX` | `https://hooks.slack.com/services/[REDACTED]` |
//!
//! GitHub's other tokens, Slack's app tokens, and those of Docker Hub, Vault, Linear, Groq and
//! Atlassian are known as well.
//!
//! ## Beside a key
//!
//! Numbers, booleans and nulls are never replaced. An attribute's key *names* a secret; in a map (a
//! group, environment variables, headers) it is enough that the key *contains* `password passwd
//! secret token key credential auth`.
//!
//! | rule | input | output |
//! |---|---|---|
//! | an attribute that names a secret | `{"client_secret":"abc","n":1}` | `{"client_secret":"[REDACTED]","n":1}` |
//! | a number or a boolean | `{"token":12,"password":true,"input_tokens":12}` | `{"token":12,"password":true,"input_tokens":12}` |
//! | every string in its value | `{"credentials":{"user":"a","port":1,"more":["b"]}}` | `{"credentials":{"user":"[REDACTED]","port":1,"more":["[REDACTED]"]}}` |
//! | `key` and `auth` as words | `{"OPENAI_KEY":"a","BASIC_AUTH":"b","key":"c","author":"d"}` | `{"OPENAI_KEY":"[REDACTED]","BASIC_AUTH":"[REDACTED]","key":"c","author":"d"}` |
//! | an entry of a map | `{"env":{"SSH_PRIVATE_KEY":"a","AWS_ACCESS_KEY_ID":"b","HOME":"c"}}` | `{"env":{"SSH_PRIVATE_KEY":"[REDACTED]","AWS_ACCESS_KEY_ID":"[REDACTED]","HOME":"c"}}` |
//! | a list of strings in a map | `{"headers":{"Cookie":["a=b"],"X-Auth":["c"],"Accept":["d"]}}` | `{"headers":{"Cookie":["[REDACTED]"],"X-Auth":["[REDACTED]"],"Accept":["d"]}}` |
//! | an entry of a list, with a name and a value | `{"env":[{"name":"GITHUB_TOKEN","value":"a"},{"name":"HOME","value":"b"}]}` | `{"env":[{"name":"GITHUB_TOKEN","value":"[REDACTED]"},{"name":"HOME","value":"b"}]}` |
//! | a handle in a key | `{"gca2a_t1_abc":{"gca2a_c1_abc":1}}` | `{"[REDACTED]":{"[REDACTED]":1}}` |
//!
//! ## Registered values
//!
//! They are replaced wherever they occur, also escaped in JSON (three times at most), encoded in a
//! URL, and inside of base64 wherever the value begins in it. Values of fewer than five bytes are
//! not looked for in base64. A value that is split across two strings is not found, nor is one in a
//! number.
//!
//! ## Where
//!
//! | | keywords | shapes and registered values | keys |
//! |---|---|---|---|
//! | log message, span name, scope name, status message, event name | yes | yes | |
//! | attribute values at any depth: of logs, spans, events, links, scopes and resources | yes | yes | yes |
//! | other keys of a snapshot | yes | yes | strings alone, for a tool's name is a key there |
//! | bytes | if they are text | yes | yes |
//! | keys, trace state, scope version, schema URLs | in URLs | yes | |
//!
//! ## Cost
//!
//! Almost no record has a secret. So a record's payload is searched first, as it is, for the
//! literals that secrets begin with or are announced by: a payload holds its strings unescaped, and
//! one without a literal needs no decoding. The strings that hold one are looked at where they
//! are, and the record is decoded when one of them has a secret. All of it takes a time that is
//! linear in the text.

mod candidates;
mod literals;
mod names;
mod scan;
mod scan_span;
mod shapes;
mod text;
mod values;
mod walk;

use self::{
    candidates::Candidates,
    literals::{NO_WINDOW, Search},
    text::Apply,
    values::Values,
};
use crate::{
    error::{Error, Result},
    record::{Record, payload::PayloadError},
    signal::Signal,
    time::Timestamp,
};
use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// The longest value that can be registered, in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The most that can be registered, in bytes of all values together.
const VALUES_BYTES_MAX: usize = 1 << 20;

/// Replaces secrets with `[REDACTED]` in every record before it is stored.
///
/// Always replaced are, in any case, what follows `Authorization:`, `Bearer`, `Cookie:`, and
/// `password`, `secret`, `token`, `api_key` and the like with a `=` or `:`; the value of any attribute
/// or map entry whose key names one of them, unless it is a number or a boolean; user and password in
/// a URL; private keys, and tokens that are known by their shape. Values that are known to be secret
/// are [registered](Redactor::register_values) besides.
///
/// Clones share what is registered: a value counts for every record that is written from then on,
/// whichever clone it was registered with.
///
/// ```
/// use gridctl_telemetry::{Writer, WriterOptions, redact::Redactor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let redactor = Redactor::new();
/// redactor.register_value("a value from the vault")?;
/// let options = WriterOptions::default().redactor(Some(redactor.clone()));
/// let (writer, guard) = Writer::start(&store, options)?;
/// redactor.register_value("another one, while the writer runs")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    rules: Arc<RwLock<Arc<Rules>>>,
}

impl Redactor {
    /// A redactor without registered values.
    #[must_use]
    pub fn new() -> Redactor {
        Redactor::default()
    }

    /// Registers `value` as a secret: [`Redactor::register_values`] for one.
    pub fn register_value(&self, value: impl Into<String>) -> Result<()> {
        self.register_values([value])
    }

    /// Registers `values` as secrets, which are replaced wherever they occur, in the exact case: as
    /// they are, escaped in JSON, encoded in a URL, and inside of base64. The white space around a value is no part of it, and an empty value is none. Registering several
    /// at once is cheaper than one after the other.
    ///
    /// Fails, and registers none of them, with [`Error::SecretTooLong`] when a value has more than
    /// 64 KiB, and with [`Error::TooManySecrets`] when all of them would have more than 1 MiB.
    pub fn register_values(
        &self,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<()> {
        let mut added = Vec::new();
        for value in values {
            let value = value.into();
            let value = value.trim();
            if value.len() > VALUE_BYTES_MAX {
                return Err(Error::SecretTooLong {
                    bytes: value.len(),
                    max: VALUE_BYTES_MAX,
                });
            }
            if !value.is_empty() {
                added.push(value.to_owned());
            }
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        added.extend_from_slice(rules.values.list());
        added.sort_unstable();
        added.dedup();
        let bytes = added.iter().map(String::len).sum();
        if bytes > VALUES_BYTES_MAX {
            return Err(Error::TooManySecrets {
                bytes,
                max: VALUES_BYTES_MAX,
            });
        }
        if added.len() > rules.values.list().len() {
            *rules = Arc::new(Rules::new(added));
        }
        Ok(())
    }

    /// Replaces the secrets of a record, and says whether there were any. A writer does that with every record; this is for
    /// readers of records that came into the store before a secret was known, or from a file.
    pub fn redact(&self, record: &mut Record) -> bool {
        self.rules().redact(record)
    }

    /// Replaces the secrets of a text, and says whether there were any.
    pub fn redact_text(&self, text: &mut String) -> bool {
        self.rules().redact_text(text, Apply::All)
    }

    /// The rules as they are now, for one batch of records.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Redactor {
    /// Says how many values are registered, and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("values", &self.rules().values.list().len())
            .finish_non_exhaustive()
    }
}

/// What is a secret, at one moment.
pub(crate) struct Rules {
    values: Values,
}

impl Rules {
    fn new(values: Vec<String>) -> Rules {
        Rules {
            values: Values::new(values),
        }
    }

    /// Whether a text, or the record that a payload encodes, could have a secret. Never wrong when it says
    /// no.
    fn may_contain_secret(&self, text: &[u8]) -> bool {
        let mut window = NO_WINDOW;
        Search::new(text, &mut window).next(0).is_some() || self.values.next(text, 0).is_some()
    }

    /// The payload without its secrets: as it is when it has none. Fails when `payload` could have one
    /// and holds no record of `signal`; it must then not be stored, because its content is unknown.
    pub(crate) fn redact_payload<'a>(
        &self,
        signal: Signal,
        payload: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, PayloadError> {
        let mut window = NO_WINDOW;
        let mut candidates = Candidates::new(self, payload, &mut window);
        let may_have_secret = candidates.may_be_in(0, payload.len())
            && match signal {
                Signal::Logs => scan::log_has_secret(candidates)?,
                Signal::Metrics => scan::snapshot_may_have_secret(candidates)?,
                Signal::Traces => scan_span::span_may_have_secret(candidates),
            };
        if !may_have_secret {
            return Ok(Cow::Borrowed(payload));
        }
        // A timestamp is a number, and none stands in the payload of a log or a snapshot.
        let mut record = Record::decode_payload(signal, Timestamp::default(), payload)?;
        if !self.redact(&mut record) {
            return Ok(Cow::Borrowed(payload));
        }
        let mut redacted = Vec::with_capacity(payload.len());
        record.encode_payload(&mut redacted)?;
        Ok(Cow::Owned(redacted))
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new(Vec::new())
    }
}

#[cfg(test)]
mod tests;

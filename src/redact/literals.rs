//! The literals that every secret begins with or is announced by, found in one scan.

use super::shapes::{Class, Shape};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, Span, packed};
use std::{ops::Range, sync::LazyLock};

/// The text that replaces a secret.
pub(super) const PLACEHOLDER: &str = "[REDACTED]";

/// Text is searched in copies in lowercase, this many bytes at a time.
const WINDOW_BYTES: usize = 512;
/// The memory of such a copy.
pub(super) type Window = [u8; WINDOW_BYTES];
pub(super) const NO_WINDOW: Window = [0; WINDOW_BYTES];
/// At least the length of the longest literal: windows overlap by it.
const LITERAL_BYTES_MAX: usize = 32;

/// A keyword, and what it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    /// `Authorization: <scheme> <value>`.
    Authorization,
    /// `Bearer <value>`.
    Bearer,
    /// `Cookie: <name>=<value>; …` and `Set-Cookie: …`.
    Cookie,
    /// `token=<value>`. Its own variant because tokens are counted as well.
    Token,
    /// `credential=<value>`, `credentials=<value>`.
    Credential,
    /// `password=<value>` and the like.
    Secret,
    /// `key` and `auth`: a secret in a key such as `OPENAI_KEY` or `BASIC_AUTH`, none in prose.
    Part,
    /// `sig=` and other short names that count in the query of a URL alone.
    Parameter,
}

/// What a literal stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Literal {
    Keyword(Keyword),
    Shape(Shape),
    /// A secret that was replaced before.
    Placeholder,
}

/// Found in any case.
const LITERALS: &[(&str, Literal)] = {
    use Class::{Alphanumeric, Hex, UrlSafe, Word};
    use Literal::{Keyword as K, Shape as S};
    const fn run(class: Class, bytes_min: usize) -> Literal {
        Literal::Shape(Shape::Run(class, bytes_min))
    }
    &[
        ("authorization", K(Keyword::Authorization)),
        ("bearer", K(Keyword::Bearer)),
        ("cookie", K(Keyword::Cookie)),
        ("token", K(Keyword::Token)),
        ("credential", K(Keyword::Credential)),
        ("password", K(Keyword::Secret)),
        ("passwd", K(Keyword::Secret)),
        ("passphrase", K(Keyword::Secret)),
        ("secret", K(Keyword::Secret)),
        ("api_key", K(Keyword::Secret)),
        ("api-key", K(Keyword::Secret)),
        ("apikey", K(Keyword::Secret)),
        ("access_key", K(Keyword::Secret)),
        ("access-key", K(Keyword::Secret)),
        ("accesskey", K(Keyword::Secret)),
        ("account_key", K(Keyword::Secret)),
        ("accountkey", K(Keyword::Secret)),
        ("private_key", K(Keyword::Secret)),
        ("private-key", K(Keyword::Secret)),
        ("privatekey", K(Keyword::Secret)),
        ("key", K(Keyword::Part)),
        ("auth", K(Keyword::Part)),
        ("signature=", K(Keyword::Parameter)),
        ("sig=", K(Keyword::Parameter)),
        ("pwd=", K(Keyword::Parameter)),
        ("pass=", K(Keyword::Parameter)),
        ("jwt=", K(Keyword::Parameter)),
        ("gca2a_", S(Shape::Handle)),
        ("-----BEGIN", S(Shape::PrivateKey)),
        ("eyJ", S(Shape::Jwt)),
        ("://", S(Shape::Url)),
        (r":\/\/", S(Shape::Url)),
        ("sk-", S(Shape::SkDash)),
        ("SG.", S(Shape::SendGrid)),
        ("AKIA", S(Shape::AwsKeyId)),
        ("ASIA", S(Shape::AwsKeyId)),
        ("xox", S(Shape::Slack)),
        ("xapp-", run(UrlSafe, 10)),
        ("hooks.slack.com", S(Shape::WebHook)),
        ("discord.com/api", S(Shape::WebHook)),
        ("ghp_", run(Word, 16)),
        ("gho_", run(Word, 16)),
        ("ghu_", run(Word, 16)),
        ("ghs_", run(Word, 16)),
        ("ghr_", run(Word, 16)),
        ("github_pat_", run(Word, 16)),
        ("glpat-", run(UrlSafe, 16)),
        ("glrt-", run(UrlSafe, 16)),
        ("gldt-", run(UrlSafe, 16)),
        ("sk_live_", run(Alphanumeric, 10)),
        ("sk_test_", run(Alphanumeric, 10)),
        ("rk_live_", run(Alphanumeric, 10)),
        ("rk_test_", run(Alphanumeric, 10)),
        ("whsec_", run(Alphanumeric, 16)),
        ("AIza", run(UrlSafe, 30)),
        ("GOCSPX-", run(UrlSafe, 20)),
        ("ya29.", run(UrlSafe, 20)),
        ("npm_", run(Alphanumeric, 30)),
        ("pypi-Ag", run(UrlSafe, 30)),
        ("hf_", run(Alphanumeric, 24)),
        ("dop_v1_", run(Hex, 32)),
        ("doo_v1_", run(Hex, 32)),
        ("dor_v1_", run(Hex, 32)),
        ("shpat_", run(Hex, 32)),
        ("shpss_", run(Hex, 32)),
        ("dapi", run(Hex, 32)),
        ("dckr_pat_", run(UrlSafe, 20)),
        ("hvs.", run(UrlSafe, 20)),
        ("lin_api_", run(Alphanumeric, 30)),
        ("rubygems_", run(Hex, 32)),
        ("gsk_", run(Alphanumeric, 30)),
        ("ATATT3", run(UrlSafe, 50)),
        (PLACEHOLDER, Literal::Placeholder),
    ]
};

/// Finds the literals.
struct Literals {
    automaton: AhoCorasick,
    /// Finds whether the automaton would find anything, several times as fast. `None` where the
    /// processor lacks the instructions.
    prefilter: Option<Prefilter>,
}

/// Three searches in text that is lowercase already: for keywords, for long literals and for short
/// ones. One search for all of them would take longer than three, because it would look closer at
/// most bytes.
struct Prefilter {
    /// Keywords first.
    groups: [Group; GROUPS],
}

const GROUPS: usize = 3;

struct Group {
    searcher: packed::Searcher,
    /// What each of its patterns stands for.
    literals: Vec<Literal>,
}

static FINDER: LazyLock<Literals> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the literals are constant, and every test builds this"
    )]
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(LITERALS.iter().map(|(text, _)| text))
        .expect("an automaton within its bounds");
    Literals {
        automaton,
        prefilter: Prefilter::new(),
    }
});

impl Prefilter {
    fn new() -> Option<Prefilter> {
        // A literal that holds a shorter one is found with it. A placeholder alone is no secret.
        let holds_other = |text: &str| {
            LITERALS.iter().any(|(other, _)| {
                *other != text
                    && text
                        .to_ascii_lowercase()
                        .contains(&other.to_ascii_lowercase())
            })
        };
        let group_of = |text: &str, literal: &Literal| match literal {
            Literal::Keyword(_) => 0,
            _ if text.len() > 3 => 1,
            _ => 2,
        };
        let group = |index| {
            let literals = LITERALS.iter().filter(|(text, literal)| {
                !matches!(literal, Literal::Placeholder)
                    && group_of(text, literal) == index
                    && !holds_other(text)
            });
            let (texts, literals): (Vec<_>, Vec<_>) = literals
                .map(|(text, literal)| (text.to_ascii_lowercase(), *literal))
                .unzip();
            let searcher = packed::Config::new().builder().extend(texts).build()?;
            Some(Group { searcher, literals })
        };
        Some(Prefilter {
            groups: [group(0)?, group(1)?, group(2)?],
        })
    }
}

impl Group {
    /// Where, from byte `from` on, the first literal that counts begins in the part of `text` at `start`,
    /// whose copy in lowercase is `lowercase`.
    fn first(&self, lowercase: &[u8], mut from: usize, text: &[u8], start: usize) -> Option<usize> {
        while from < lowercase.len() {
            let span = Span::from(from..lowercase.len());
            let found = self.searcher.find_in(lowercase, span)?;
            let literal = self.literals.get(found.pattern().as_usize());
            if literal.is_none_or(|literal| literal.may_count(text, start + found.end())) {
                return Some(start + found.start());
            }
            from = found.start() + 1;
        }
        None
    }
}

/// Goes from one literal to the next that could tell a secret in a text, in which other data than text may
/// surround what is text. Every secret that a literal tells has one.
///
/// The window is not in it, because moving it would take as long as the search of a short text.
pub(super) struct Search<'a> {
    text: &'a [u8],
    /// The copy in lowercase of the part of the text that is looked at.
    window: &'a mut Window,
    /// Where that part begins and ends.
    start: usize,
    end: usize,
    /// Where in it the next literal of each group begins.
    firsts: [Option<usize>; GROUPS],
}

impl<'a> Search<'a> {
    pub(super) fn new(text: &'a [u8], window: &'a mut Window) -> Search<'a> {
        let mut search = Search {
            text,
            window,
            start: 0,
            end: 0,
            firsts: [None; GROUPS],
        };
        if let Some(prefilter) = &FINDER.prefilter {
            search.look_from(0, prefilter);
        }
        search
    }

    /// Where the first literal begins from `from` on, which must not be less than before.
    pub(super) fn next(&mut self, from: usize) -> Option<usize> {
        let Some(prefilter) = &FINDER.prefilter else {
            let rest = self.text.get(from..).unwrap_or_default();
            return find(rest)
                .find(|(literal, range)| literal.may_count(self.text, from + range.end))
                .map(|(_, range)| from + range.start);
        };
        loop {
            let lowercase = self.window.get(..self.end - self.start).unwrap_or_default();
            for (group, first) in prefilter.groups.iter().zip(&mut self.firsts) {
                if first.is_some_and(|first| first < from) {
                    *first = group.first(lowercase, from - self.start, self.text, self.start);
                }
            }
            let first = self.firsts.iter().flatten().min();
            if first.is_some() || self.end >= self.text.len() {
                return first.copied();
            }
            self.look_from(from.max(self.end - LITERAL_BYTES_MAX), prefilter);
        }
    }

    /// Whether no literal between the last `from` and `end` is more than a keyword. Not always known.
    pub(super) fn has_only_keywords_before(&self, end: usize) -> bool {
        let [_, others @ ..] = &self.firsts;
        end <= self.end && others.iter().flatten().all(|first| *first >= end)
    }

    fn look_from(&mut self, start: usize, prefilter: &Prefilter) {
        let rest = self.text.get(start..).unwrap_or_default();
        let part = rest.get(..WINDOW_BYTES).unwrap_or(rest);
        self.start = start;
        self.end = start + part.len();
        let Some(lowercase) = self.window.get_mut(..part.len()) else {
            return;
        };
        lowercase.copy_from_slice(part);
        lowercase.make_ascii_lowercase();
        for (group, first) in prefilter.groups.iter().zip(&mut self.firsts) {
            *first = group.first(lowercase, 0, self.text, start);
        }
    }
}

impl Literal {
    /// Whether the literal that ends at `at` could make a secret of something.
    fn may_count(self, text: &[u8], at: usize) -> bool {
        match self {
            Literal::Keyword(_) => true,
            Literal::Shape(shape) => shape.may_follow(text, at),
            Literal::Placeholder => false,
        }
    }
}

/// Every literal in `text`, in the order of their ends; one inside of another as well.
pub(super) fn find(text: &[u8]) -> impl Iterator<Item = (Literal, Range<usize>)> + use<'_> {
    FINDER
        .automaton
        .find_overlapping_iter(Input::new(text))
        .filter_map(|found| {
            let (literal_text, literal) = LITERALS.get(found.pattern().as_usize())?;
            let exact = match literal {
                Literal::Keyword(_) => true,
                Literal::Shape(shape) => shape.ignores_case(),
                Literal::Placeholder => false,
            };
            (exact || text.get(found.range()) == Some(literal_text.as_bytes()))
                .then(|| (*literal, found.range()))
        })
}

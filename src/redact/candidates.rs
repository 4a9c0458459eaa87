//! Where the secrets of an encoded record could begin.

use super::{
    Rules,
    literals::{Search, Window},
    names::{KeyNames, key_names},
    text::Apply,
};

/// Goes through a payload from one place to the next where a secret, or what announces it, could begin. No
/// string that has neither is a secret.
pub(super) struct Candidates<'a> {
    rules: &'a Rules,
    payload: &'a [u8],
    literals: Search<'a>,
    /// The next literal, and the next value that was registered.
    literal: Option<usize>,
    value: Option<usize>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        payload: &'a [u8],
        window: &'a mut Window,
    ) -> Candidates<'a> {
        let mut literals = Search::new(payload, window);
        Candidates {
            rules,
            payload,
            literal: literals.next(0),
            value: rules.values.next(payload, 0),
            literals,
        }
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether there is a place from `start` to `end`. `start` must not be less than before.
    pub(super) fn may_be_in(&mut self, start: usize, end: usize) -> bool {
        if self.literal.is_some_and(|literal| literal < start) {
            self.literal = self.literals.next(start);
        }
        if self.value.is_some_and(|value| value < start) {
            self.value = self.rules.values.next(self.payload, start);
        }
        [self.literal, self.value]
            .into_iter()
            .flatten()
            .any(|at| at < end)
    }

    /// Whether `text` has a secret.
    pub(super) fn finds(&self, text: &[u8], apply: Apply) -> bool {
        self.rules.finds(text, apply)
    }

    /// What a key that ends at `end` says about the value beside it, if [`Candidates::may_be_in`] has found a
    /// place in it; `None` when it has a secret itself.
    pub(super) fn key(&self, key: &str, end: usize) -> Option<KeyNames> {
        // In a key, a keyword announces a secret in a URL alone.
        let is_url = || key.bytes().any(|byte| matches!(byte, b'?' | b'&' | b'\\'));
        let is_harmless = self.value.is_none_or(|value| value >= end)
            && self.literals.has_only_keywords_before(end)
            && !is_url();
        (is_harmless || !self.finds(key.as_bytes(), Apply::Shapes)).then(|| key_names(key))
    }
}

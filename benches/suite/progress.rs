//! Progress on a terminal, and a line for each part elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{cell::RefCell, time::Duration};

pub(crate) struct Progress {
    bar: ProgressBar,
    part: RefCell<String>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress {
            bar,
            part: RefCell::default(),
        }
    }

    pub(crate) fn part(&self, name: &str) {
        name.clone_into(&mut self.part.borrow_mut());
        self.step("");
        if self.bar.is_hidden() {
            eprintln!("{name} …");
        }
    }

    /// Says what the part does now.
    pub(crate) fn step(&self, step: &str) {
        self.bar
            .set_message(format!("{}: {step}", self.part.borrow()));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

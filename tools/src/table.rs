//! Tables on a terminal.

use crate::screen::{Role, Screen};
use comfy_table::{CellAlignment, presets};
use std::{
    io::{self, Write},
    ops::Range,
};
use unicode_width::UnicodeWidthStr;

/// The least and the greatest number of columns of the longest bar.
const BAR_COLUMNS: Range<usize> = 8..40;
/// Blocks of one eighth to eight eighths of a column.
const BLOCKS: [&str; 8] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// A table whose cells are escaped texts of one line.
///
/// Where the terminal is too narrow for a row, each row is a list of its cells under their headings.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    numbers: Range<usize>,
    rows: Vec<Vec<String>>,
    total: Option<Vec<String>>,
    /// The share of each row that has a bar, from 0 to 1.
    bars: Vec<f64>,
}

impl Table {
    /// A table whose columns in `numbers` are aligned to the right.
    pub(crate) fn new(header: impl Into<Vec<&'static str>>, numbers: Range<usize>) -> Table {
        Table {
            header: header.into(),
            numbers,
            rows: Vec::new(),
            total: None,
            bars: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: impl Into<Vec<String>>) {
        self.rows.push(row.into());
    }

    /// Adds a row, and a bar for its `share` of the longest bar, from 0 to 1. Bars are printed where a
    /// terminal has room for them.
    pub(crate) fn add_with_bar(&mut self, row: impl Into<Vec<String>>, share: f64) {
        self.add(row);
        self.bars.push(share);
    }

    /// Sets the last row.
    pub(crate) fn total(&mut self, row: impl Into<Vec<String>>) {
        self.total = Some(row.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table.
    pub(crate) fn print(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let lines = self.lines();
        let width = lines.iter().map(|line| line.width()).max().unwrap_or(0);
        if screen.width().is_some_and(|columns| width > columns) {
            return self.print_lists(screen, out);
        }
        let room = screen.width().unwrap_or(0).saturating_sub(width + 2);
        let bars = (room >= BAR_COLUMNS.start).then_some(room.min(BAR_COLUMNS.end));
        let (bold, color) = (screen.style(Role::Heading), screen.style(Role::Name));
        for (number, line) in lines.iter().enumerate() {
            if number == 0 || number > self.rows.len() {
                writeln!(out, "{bold}{line}{bold:#}")?;
                continue;
            }
            write!(out, "{line}")?;
            if let (Some(columns), Some(share)) = (bars, self.bars.get(number - 1)) {
                let gap = width + 2 - line.width();
                write!(out, "{:gap$}{color}{}{color:#}", "", bar(*share, columns))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Prints the columns separated by tabs, for programs.
    pub(crate) fn print_plain(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.header.join("\t"))?;
        for row in &self.rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(&self.header);
        table.add_rows(self.rows.iter().chain(&self.total));
        for index in self.numbers.clone() {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
            .lines()
            // Every cell has a space on each side.
            .map(|line| {
                line.strip_prefix(' ')
                    .unwrap_or(&line)
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    fn print_lists(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let bold = screen.style(Role::Heading);
        for (number, row) in self.rows.iter().chain(&self.total).enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            for (heading, cell) in self.header.iter().zip(row) {
                writeln!(out, "{bold}{heading}{bold:#} {cell}")?;
            }
        }
        Ok(())
    }
}

/// A bar of `share` of `columns`, to the eighth of a column. Every share above zero is seen.
fn bar(share: f64, columns: usize) -> String {
    let whole = u32::try_from(columns * BLOCKS.len()).unwrap_or(u32::MAX);
    let eighths = (share.clamp(0.0, 1.0) * f64::from(whole)).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between zero and the number of eighths"
    )]
    let eighths = (eighths as usize).max(usize::from(share > 0.0));
    let mut bar = "█".repeat(eighths / BLOCKS.len());
    if let Some(index) = (eighths % BLOCKS.len()).checked_sub(1) {
        bar.push_str(BLOCKS.get(index).copied().unwrap_or_default());
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(0.0, 3), "");
        assert_eq!(bar(1e-9, 3), "▏");
        assert_eq!(bar(f64::NAN, 3), "");
    }
}

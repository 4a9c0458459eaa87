//! Tables on a terminal.

use crate::screen::{Role, Screen, cut};
use comfy_table::{CellAlignment, presets};
use serde::Serialize;
use std::{
    io::{self, Write},
    ops::Range,
};
use unicode_width::UnicodeWidthStr;

/// The least and the greatest number of columns of the longest bar.
const BAR_COLUMNS: Range<usize> = 8..40;
/// The least width to which a last column is cut.
const LAST_COLUMNS_MIN: usize = 8;
/// Blocks of one eighth to eight eighths of a column.
const BLOCKS: [&str; 8] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// The form of a report: a table, unless another is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct FormArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values, with a line of headings
    #[arg(long)]
    csv: bool,
}

impl FormArgs {
    /// Prints `report`, or what `csv` or `table` prints of it.
    pub(crate) fn print<W: Write>(
        &self,
        out: &mut W,
        report: &impl Serialize,
        csv: impl FnOnce(&mut W) -> io::Result<()>,
        table: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.json {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)?;
        } else if self.csv {
            csv(out)?;
        } else {
            table(out)?;
        }
        out.flush()
    }
}

/// A table whose cells are escaped texts of one line.
///
/// Where the terminal is too narrow for a row, each row is a list of its cells under their headings.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    numbers: Range<usize>,
    rows: Vec<Vec<String>>,
    total: Option<Vec<String>>,
    /// The sizes of the rows that have a bar.
    bars: Vec<u64>,
    cuts_last: bool,
}

impl Table {
    /// A table whose columns in `numbers` are aligned to the right.
    pub(crate) fn new(
        header: impl IntoIterator<Item = impl Into<String>>,
        numbers: Range<usize>,
    ) -> Table {
        Table {
            header: header.into_iter().map(Into::into).collect(),
            numbers,
            rows: Vec::new(),
            total: None,
            bars: Vec::new(),
            cuts_last: false,
        }
    }

    /// Cuts the cells of the last column where the terminal is too narrow for them, before rows become lists.
    pub(crate) fn cut_last(mut self) -> Table {
        self.cuts_last = true;
        self
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Adds a row with a bar, whose length is its `size` as compared with the largest. Bars are printed
    /// where a terminal has room for them.
    pub(crate) fn add_with_bar(&mut self, row: impl IntoIterator<Item = String>, size: u64) {
        self.add(row);
        self.bars.push(size);
    }

    /// Sets the last row: the totals of the columns after the first `names`.
    pub(crate) fn total(&mut self, names: usize, totals: impl IntoIterator<Item = String>) {
        let label = |number| if number == 0 { "total" } else { "" };
        let names = (0..names).map(|number| label(number).to_owned());
        self.total = Some(names.chain(totals).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table.
    pub(crate) fn print(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let mut lines = self.lines(usize::MAX);
        let mut width = widest(&lines);
        if let Some(columns) = screen.width()
            && self.cuts_last
            && width > columns
        {
            let last = self.rows.iter().filter_map(|row| row.last());
            let last = last.map(|cell| cell.width()).max().unwrap_or(0);
            let room = last.saturating_sub(width - columns);
            if room >= LAST_COLUMNS_MIN {
                lines = self.lines(room);
                width = widest(&lines);
            }
        }
        if screen.width().is_some_and(|columns| width > columns) {
            return self.print_lists(screen, out);
        }
        let room = screen.width().unwrap_or(0).saturating_sub(width + 2);
        let bars = (room >= BAR_COLUMNS.start).then_some(room.min(BAR_COLUMNS.end));
        let largest = self.bars.iter().max().copied().unwrap_or_default();
        let (bold, color) = (screen.style(Role::Heading), screen.style(Role::Name));
        for (number, line) in lines.iter().enumerate() {
            if number == 0 || number > self.rows.len() {
                writeln!(out, "{bold}{line}{bold:#}")?;
                continue;
            }
            write!(out, "{line}")?;
            if let (Some(columns), Some(size)) = (bars, self.bars.get(number - 1)) {
                let gap = width + 2 - line.width();
                let bar = bar(*size, largest, columns);
                write!(out, "{:gap$}{color}{bar}{color:#}", "")?;
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

    /// The lines of the table, with the cells of the last column cut to `last_columns`.
    fn lines(&self, last_columns: usize) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(&self.header);
        for row in self.rows.iter().chain(&self.total) {
            let last = row.len().saturating_sub(1);
            let cells = row.iter().enumerate();
            table.add_row(cells.map(|(index, cell)| {
                let columns = if index == last {
                    last_columns
                } else {
                    usize::MAX
                };
                cut(cell, columns).into_owned()
            }));
        }
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

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| line.width()).max().unwrap_or(0)
}

/// A bar for `size`, to the eighth of a column, if the bar for `largest` has `columns`. Every size above
/// zero is seen.
fn bar(size: u64, largest: u64, columns: usize) -> String {
    let whole = (columns * BLOCKS.len()) as u128;
    let rounded = (u128::from(size) * whole + u128::from(largest) / 2) / u128::from(largest.max(1));
    let eighths = usize::try_from(rounded.min(whole)).unwrap_or_default();
    let eighths = eighths.max(usize::from(size > 0));
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
        assert_eq!(bar(7, 7, 3), "███");
        assert_eq!(bar(2, 4, 3), "█▌");
        assert_eq!(bar(0, 4, 3), "");
        assert_eq!(bar(1, u64::MAX, 3), "▏");
        assert_eq!(bar(u64::MAX, u64::MAX, 3), "███");
        assert_eq!(bar(0, 0, 3), "");
    }
}

//! Tables on a terminal.

use crate::screen::{Role, Screen};
use comfy_table::{CellAlignment, presets};
use std::{
    io::{self, Write},
    ops::Range,
};
use unicode_width::UnicodeWidthStr;

/// A table whose cells are escaped texts of one line.
///
/// Where the terminal is too narrow for a row, each row is a list of its cells under their headings.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    header: [&'static str; COLUMNS],
    numbers: Range<usize>,
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table whose columns in `numbers` are aligned to the right.
    pub(crate) fn new(header: [&'static str; COLUMNS], numbers: Range<usize>) -> Table<COLUMNS> {
        Table {
            header,
            numbers,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
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
        let bold = screen.style(Role::Heading);
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                writeln!(out, "{bold}{line}{bold:#}")?;
            } else {
                writeln!(out, "{line}")?;
            }
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
        table.set_header(self.header);
        table.add_rows(&self.rows);
        for index in self.numbers.clone() {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    fn print_lists(&self, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let bold = screen.style(Role::Heading);
        for (number, row) in self.rows.iter().enumerate() {
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

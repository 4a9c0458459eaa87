//! The figures as a table for the README.

use super::{Beside, Figure, Figures, Target};
use anyhow::{Context, Result};
use std::{collections::BTreeMap, fmt::Write as _};

/// The figures of the parts in this order, as a Markdown table.
#[must_use]
pub fn figures_table(figures: &Figures, parts: &[&str]) -> String {
    let heads = [
        "what",
        "gridctl-telemetry",
        "target",
        "reached",
        "beside it",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for name in parts {
        let part = figures.parts.get(*name);
        rows.extend(part.into_iter().flat_map(|part| &part.figures).map(row));
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate();
        for (column, (cell, width)) in cells {
            // The last column is as long as a paragraph.
            let width = if column == 4 { 0 } else { width };
            // Writing to a string cannot fail.
            _ = write!(table, "| {cell:<width$} ");
        }
        table.push_str("|\n");
        if number == 0 {
            table.push_str("|---|--:|---|---|---|\n");
        }
    }
    table
}

fn row(figure: &Figure) -> [String; 5] {
    let beside = |beside: &Beside| format!("{} {}", beside.name, figure.unit.show(beside.value));
    let reached = |target: &Target| {
        if target.met {
            format!("yes, {}", target.found)
        } else {
            format!("**no**, {}", target.found)
        }
    };
    [
        figure.what.clone(),
        figure.unit.show(figure.value),
        join(figure.targets.iter().map(|target| target.bound.clone())),
        join(figure.targets.iter().map(reached)),
        join(figure.beside.iter().map(beside)),
    ]
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<String>>().join("; ")
}

/// Where and when the parts were measured: a sentence for each machine and commit.
#[must_use]
pub fn machines(figures: &Figures) -> String {
    let mut runs: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for (name, part) in &figures.parts {
        let run = (&*part.machine, &*part.measured, &*part.commit);
        runs.entry(run).or_default().push(name);
    }
    let sentences = runs.iter().map(|((machine, measured, commit), parts)| {
        format!(
            "{} at commit {commit} on {measured}: {machine}.",
            parts.join(", ")
        )
    });
    sentences.collect::<Vec<String>>().join("\n")
}

/// The document with other text between two of its lines.
pub fn replace_between(document: &str, begin: &str, end: &str, text: &str) -> Result<String> {
    let missing = || format!("the document has no line {begin} before a line {end}");
    let (before, rest) = document.split_once(begin).with_context(missing)?;
    let (_, after) = rest.split_once(end).with_context(missing)?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Part, Unit};

    #[test]
    fn a_line_says_which_targets_are_reached() {
        let figure = Figure::new("a", "a figure", Unit::Bytes, 2e6)
            .beside("entropy", 1e6)
            .at_most(3e6)
            .at_most_times(1.5, 1e6, "the entropy");
        let mut figures = Figures::default();
        let part = Part {
            measured: "today".to_owned(),
            machine: "here".to_owned(),
            commit: "abc".to_owned(),
            yardstick_nanos: 1,
            figures: vec![figure],
            curves: Vec::new(),
        };
        figures.parts.insert("sizes".to_owned(), part);
        let table = figures_table(&figures, &["sizes", "absent"]);
        let line = table.lines().nth(2).unwrap_or_default();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let reached = "yes, 2.0 MB; **no**, 2.00x";
        let target = "≤ 3.0 MB; ≤ 1.50x the entropy";
        assert_eq!(
            cells,
            [
                "",
                "a figure",
                "2.0 MB",
                target,
                reached,
                "entropy 1.0 MB",
                ""
            ]
        );
        assert_eq!(machines(&figures), "sizes at commit abc on today: here.");
    }

    #[test]
    fn only_what_is_between_the_lines_is_replaced() -> Result<()> {
        let document = "a\n<!-- b -->\nold\n<!-- c -->\nd\n";
        let new = replace_between(document, "<!-- b -->", "<!-- c -->", "new")?;
        assert_eq!(new, "a\n<!-- b -->\nnew\n<!-- c -->\nd\n");
        assert!(replace_between(document, "<!-- c -->", "<!-- b -->", "new").is_err());
        Ok(())
    }
}

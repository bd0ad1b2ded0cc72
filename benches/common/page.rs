//! What a benchmark has to say: on stdout while it runs, and kept for the summary of all in target/bench.
#![forbid(unsafe_code)]

use super::results;
use anyhow::Result;
use std::fmt::Write;

/// The tables of one benchmark, and what they lack.
pub struct Page {
    name: &'static str,
    text: String,
    missing: Vec<String>,
}

impl Page {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            text: String::new(),
            missing: Vec::new(),
        }
    }

    /// A paragraph.
    pub fn say(&mut self, paragraph: &str) {
        println!("{paragraph}\n");
        self.text += paragraph;
        self.text += "\n\n";
    }

    /// See `table`.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) {
        self.say(&table(headings, rows));
    }

    /// What could not be measured, and why.
    pub fn miss(&mut self, what: String) {
        if !self.missing.contains(&what) {
            self.missing.push(what);
        }
    }

    /// Says what is missing, and writes NAME.md and NAME.missing.
    pub fn finish(self) -> Result<()> {
        let mut missing = String::new();
        for what in &self.missing {
            println!("Not measured: {what}");
            writeln!(missing, "{what}")?;
        }
        results::write(&format!("{}.md", self.name), &self.text)?;
        results::write(&format!("{}.missing", self.name), &missing)
    }
}

/// A table of Markdown that is one for the eye too. The first column is of words, the others of figures.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        let heading = headings.get(column).map_or(0, |text| text.chars().count());
        widths.max().unwrap_or(0).max(heading).max(3)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        format!("| {} |", padded.join(" | "))
    };
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, &width)| match column {
            0 => "-".repeat(width),
            _ => format!("{}:", "-".repeat(width - 1)),
        })
        .collect();
    let mut lines = vec![
        line(&mut headings.iter().copied()),
        line(&mut rules.iter().map(String::as_str)),
    ];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

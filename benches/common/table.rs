//! What the rates say: a table for people on stdout, raw rows as CSV in target/bench.
#![forbid(unsafe_code)]

use super::load::{Cell, Errors};
use super::rate::{Measured, Plan};
use super::stats::Spread;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The measured rates of some rows.
pub struct Table<'a> {
    pub plan: &'a Plan,
    /// The rows' names.
    pub names: Vec<&'a str>,
    /// Rows that the others are compared with: what the column is called, and the row's name.
    pub beside: &'a [(&'a str, &'a str)],
    pub measured: &'a [Measured],
}

impl Table<'_> {
    /// Prints one table for each number of clients.
    pub fn print(&self) {
        let headings: String = self
            .beside
            .iter()
            .map(|(heading, _)| format!(" {heading} |"))
            .collect();
        let rule = "--- | ".repeat(self.beside.len());
        for &clients in &self.plan.clients {
            println!(
                "Clients at the same time: {clients}. Medians of {} rounds [quartiles].\n",
                self.plan.rounds
            );
            println!("| server | connections/s |{headings} median us | p99 us |");
            println!("| --- | --- | {rule}--- | --- |");
            for (row, name) in self.names.iter().enumerate() {
                println!("{}", self.line(row, name, clients));
            }
            println!();
        }
    }

    fn line(&self, row: usize, name: &str, clients: usize) -> String {
        let cells: Vec<(usize, &Cell)> = self.cells(row, clients).collect();
        let figures =
            |figure: fn(&Cell) -> f64| Spread::of(cells.iter().map(|(_, cell)| figure(cell)));
        let ratios = self
            .beside
            .iter()
            .map(|(_, other)| format!(" {} |", self.ratio(&cells, other, clients)));
        format!(
            "| {name}{} | {} |{} {} | {} |",
            self.flag(row, clients),
            figures(Cell::rate),
            ratios.collect::<String>(),
            whole(figures(|cell| cell.median_us).median),
            whole(figures(|cell| cell.p99_us).median),
        )
    }

    /// The cells of one row and number of clients, with their rounds.
    fn cells(&self, row: usize, clients: usize) -> impl Iterator<Item = (usize, &Cell)> {
        let wanted = self
            .measured
            .iter()
            .filter(move |one| one.row == row && one.clients == clients);
        wanted.filter_map(|one| one.outcome.as_ref().ok().map(|cell| (one.round, cell)))
    }

    /// The median of the ratios within the same round: what else the machine did meanwhile falls out.
    fn ratio(&self, cells: &[(usize, &Cell)], other: &str, clients: usize) -> String {
        let Some(other) = self.names.iter().position(|name| *name == other) else {
            return "-".into();
        };
        let others: Vec<(usize, &Cell)> = self.cells(other, clients).collect();
        let ratios = cells.iter().filter_map(|(round, cell)| {
            let (_, beside) = others
                .iter()
                .find(|(other_round, _)| other_round == round)?;
            Some(cell.rate() / beside.rate())
        });
        let median = Spread::of(ratios).median;
        if median.is_nan() {
            "-".into()
        } else {
            format!("{median:.2}")
        }
    }

    /// What makes a row's figures worthless, if anything.
    fn flag(&self, row: usize, clients: usize) -> String {
        let mut errors = Errors::default();
        for (_, cell) in self.cells(row, clients) {
            errors.add(&cell.errors);
        }
        let failure = self.measured.iter().find_map(|one| {
            let error = one.outcome.as_ref().err();
            error.filter(|_| one.row == row)
        });
        if let Some(failure) = failure {
            return format!(" **FAILED: {failure:#}**");
        }
        if errors.total() > 0 {
            format!(" **ERRORS: {errors}**")
        } else {
            String::new()
        }
    }

    /// All cells, one a line.
    pub fn csv(&self) -> Result<String> {
        let mut csv = "round,server,clients,connections,seconds,median_us,p99_us,refused,again,reset,short,other\n".to_owned();
        for one in self.measured {
            let (Some(name), Ok(cell)) = (self.names.get(one.row), &one.outcome) else {
                continue;
            };
            let Cell {
                connections,
                seconds,
                median_us,
                p99_us,
                errors,
            } = cell;
            let Errors {
                refused,
                again,
                reset,
                short,
                other,
            } = errors;
            writeln!(
                csv,
                "{},\"{name}\",{},{connections},{seconds},{median_us},{p99_us},{refused},{again},{reset},{short},{other}",
                one.round, one.clients
            )?;
        }
        Ok(csv)
    }
}

/// A figure without decimals, `-` if there is none.
pub fn whole(figure: f64) -> String {
    if figure.is_finite() {
        format!("{figure:.0}")
    } else {
        "-".into()
    }
}

/// Writes a file of target/bench.
pub fn write_csv(name: &str, text: &str) -> Result<()> {
    let directory: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("unable to write {}", path.display()))
}

//! What the rates say: tables for people, raw rows as CSV.
#![forbid(unsafe_code)]

use super::cell::{Cell, Errors};
use super::page::Page;
use super::rate::{Measured, Plan};
use super::results;
use super::stats::Spread;
use anyhow::Result;
use std::fmt::Write;

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
    /// Adds one table for each number of clients, and the rows that failed to what is missing.
    pub fn add_to(&self, page: &mut Page) {
        let mut headings = vec!["server".to_owned(), "connections/s".to_owned()];
        headings.extend(self.beside.iter().map(|(heading, _)| (*heading).to_owned()));
        headings.extend(["median us", "p99 us"].map(str::to_owned));
        headings.extend(
            self.beside
                .iter()
                .take(1)
                .map(|(heading, _)| format!("median {heading}")),
        );
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        for &clients in &self.plan.clients {
            page.say(&format!(
                "Clients at the same time: {clients}. Medians of {} rounds [quartiles], in each {:.2} s of load by {} turns.",
                self.plan.rounds, self.plan.seconds, self.plan.turns
            ));
            let rows: Vec<Vec<String>> = self
                .names
                .iter()
                .enumerate()
                .map(|(row, name)| self.line(row, name, clients))
                .collect();
            page.table(&headings, &rows);
        }
        for one in self.measured {
            if let (Some(name), Err(error)) = (self.names.get(one.row), &one.outcome) {
                page.miss(format!("{name}: {error:#}"));
            }
        }
    }

    fn line(&self, row: usize, name: &str, clients: usize) -> Vec<String> {
        let cells: Vec<(usize, &Cell)> = self.cells(row, clients).collect();
        let figures =
            |figure: fn(&Cell) -> f64| Spread::of(cells.iter().map(|(_, cell)| figure(cell)));
        let mut line = vec![
            format!("{name}{}", self.flag(row, clients)),
            figures(Cell::rate).to_string(),
        ];
        line.extend(
            self.beside
                .iter()
                .map(|(_, other)| self.ratio(&cells, other, clients, Cell::rate)),
        );
        line.push(whole(figures(|cell| cell.median_us).median));
        line.push(whole(figures(|cell| cell.p99_us).median));
        line.extend(
            self.beside
                .iter()
                .take(1)
                .map(|(_, other)| self.ratio(&cells, other, clients, |cell| cell.median_us)),
        );
        line
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
    fn ratio(
        &self,
        cells: &[(usize, &Cell)],
        other: &str,
        clients: usize,
        figure: fn(&Cell) -> f64,
    ) -> String {
        let Some(other) = self.names.iter().position(|name| *name == other) else {
            return "-".into();
        };
        let others: Vec<(usize, &Cell)> = self.cells(other, clients).collect();
        let ratios = cells.iter().filter_map(|(round, cell)| {
            let (_, beside) = others
                .iter()
                .find(|(other_round, _)| other_round == round)?;
            Some(figure(cell) / figure(beside))
        });
        Spread::of(ratios).ratio()
    }

    /// What makes a row's figures worthless, if anything.
    fn flag(&self, row: usize, clients: usize) -> String {
        let mut errors = Errors::default();
        for (_, cell) in self.cells(row, clients) {
            errors.add(&cell.errors);
        }
        if self
            .measured
            .iter()
            .any(|one| one.row == row && one.outcome.is_err())
        {
            return " **FAILED, see below**".into();
        }
        if errors.total() > 0 {
            return format!(" **ERRORS: {errors}**");
        }
        String::new()
    }

    /// All cells, one a line.
    pub fn csv(&self) -> Result<String> {
        let mut csv = "round,server,clients,connections,seconds,median_us,p99_us,refused,again,reset,short,other\n".to_owned();
        // As they were measured, the rows of a round are shuffled.
        let mut measured: Vec<&Measured> = self.measured.iter().collect();
        measured.sort_by_key(|one| (one.round, one.row, one.clients));
        for one in measured {
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

/// A figure with two decimals, `-` if there is none.
pub fn decimals(figure: f64) -> String {
    if figure.is_finite() {
        format!("{figure:.2}")
    } else {
        "-".into()
    }
}

/// Writes a file of target/bench.
pub fn write_csv(name: &str, text: &str) -> Result<()> {
    results::write(name, text)
}

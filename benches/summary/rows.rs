//! Reads the raw rows back.
#![forbid(unsafe_code)]

use super::common::results;
use super::common::stats::Spread;
use std::collections::HashMap;

/// The rows of one file; none if it is not there.
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn read(name: &str) -> Self {
        let text = results::read(name).unwrap_or_default();
        let mut lines = text.lines();
        let names = fields(lines.next().unwrap_or_default());
        let row = |line| names.iter().cloned().zip(fields(line)).collect();
        Self(lines.map(row).collect())
    }

    /// The different values of a column, in the order in which they stand.
    pub fn distinct(&self, column: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for value in self.0.iter().filter_map(|row| row.get(column)) {
            if !values.contains(&value.as_str()) {
                values.push(value.as_str());
            }
        }
        values
    }

    /// Numbers in order.
    pub fn numbers(&self, column: &str) -> Vec<usize> {
        let mut values: Vec<usize> = self
            .distinct(column)
            .iter()
            .filter_map(|value| value.parse().ok())
            .collect();
        values.sort_unstable();
        values
    }

    /// The rows in which each of the columns has this value.
    pub fn only(&self, wanted: &[(&str, &str)]) -> Self {
        let fits = |row: &&Row| {
            let mut pairs = wanted.iter();
            pairs.all(|(column, value)| row.get(*column).is_some_and(|has| has == value))
        };
        Self(self.0.iter().filter(fits).cloned().collect())
    }

    /// What the rounds came to.
    pub fn spread(&self, take: Take) -> Spread {
        Spread::of(self.0.iter().filter_map(take))
    }

    /// The ratios to `others`, each within its round.
    pub fn relative_to(&self, others: &Rows, take: Take) -> Spread {
        self.beside(others, take, |one, other| one / other)
    }

    /// What each row's figure and that of the same round in `others` come to.
    pub fn beside(&self, others: &Rows, take: Take, compare: impl Fn(f64, f64) -> f64) -> Spread {
        let compared = |row: &Row| {
            let round = row.get("round")?;
            let mut others = others.0.iter();
            let other = others.find(|other| other.get("round") == Some(round))?;
            Some(compare(take(row)?, take(other)?))
        };
        Spread::of(self.0.iter().filter_map(compared))
    }

    /// How many connections went wrong.
    pub fn errors(&self) -> f64 {
        let columns = ["errors", "refused", "again", "reset", "short", "other"];
        let counts = self
            .0
            .iter()
            .flat_map(|row| columns.iter().filter_map(|column| number(row, column)));
        counts.sum()
    }
}

/// Values by the names of their columns.
type Row = HashMap<String, String>;

/// What is taken of a row.
pub type Take = fn(&Row) -> Option<f64>;

pub fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column)?.parse().ok()
}

/// Connections per second.
pub fn rate(row: &Row) -> Option<f64> {
    Some(number(row, "connections")? / number(row, "seconds")?)
}

/// The rate of who holds connections, beside that of its twin.
pub fn beside_twin(row: &Row) -> Option<f64> {
    Some(number(row, "connections_per_second")? / number(row, "twin_per_second")?)
}

pub fn median_us(row: &Row) -> Option<f64> {
    number(row, "median_us")
}

/// Names stand between quotation marks, as they may hold a comma.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(character);
                }
            }
        }
    }
    fields
}

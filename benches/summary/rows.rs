//! Reads the raw rows back.
#![forbid(unsafe_code)]

use super::common::results;
use super::common::stats::Spread;
use std::collections::HashMap;

/// The rows of one file; none if it is not there.
pub struct Rows(Vec<HashMap<String, String>>);

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
        let fits = |row: &&HashMap<String, String>| {
            let mut pairs = wanted.iter();
            pairs.all(|(column, value)| row.get(*column).is_some_and(|has| has == value))
        };
        Self(self.0.iter().filter(fits).cloned().collect())
    }

    /// What the rounds came to.
    pub fn spread(&self, figure: Figure) -> Spread {
        Spread::of(self.0.iter().filter_map(figure))
    }

    /// The ratios to `others`, each within its round.
    pub fn relative_to(&self, others: &Rows, figure: Figure) -> Spread {
        let ratio = |row: &HashMap<String, String>| {
            let round = row.get("round")?;
            let mut others = others.0.iter();
            let other = others.find(|other| other.get("round") == Some(round))?;
            Some(figure(row)? / figure(other)?)
        };
        Spread::of(self.0.iter().filter_map(ratio).collect::<Vec<_>>())
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

/// What is taken of a row.
pub type Figure = fn(&HashMap<String, String>) -> Option<f64>;

pub fn number(row: &HashMap<String, String>, column: &str) -> Option<f64> {
    row.get(column)?.parse().ok()
}

/// Connections per second.
pub fn rate(row: &HashMap<String, String>) -> Option<f64> {
    Some(number(row, "connections")? / number(row, "seconds")?)
}

pub fn median_us(row: &HashMap<String, String>) -> Option<f64> {
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

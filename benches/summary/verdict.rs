//! How the figures stand to the goals. A report and never a test: what a busy machine measures must not fail a run.
#![forbid(unsafe_code)]

use super::common::page;
use super::common::stats::Spread;
use super::goals::{Figure, GOALS, Goal, Wanted};
use super::rows::{Rows, Take, beside_twin, median_us, number, rate};

/// The server whose connections are held.
const HOLDING: &str = "doorward spawn";

/// One line for each goal.
pub fn table() -> String {
    let lines: Vec<Vec<String>> = GOALS.iter().map(line).collect();
    page::table(&["what", "wanted", "measured", "reached?"], &lines)
}

fn line(goal: &Goal) -> Vec<String> {
    let decimals = decimals(&goal.figure);
    let measured = measure(&goal.figure);
    let figures: Vec<String> = measured.iter().map(|one| one.words(decimals)).collect();
    vec![
        goal.what.to_owned(),
        match goal.wanted {
            Wanted::AtLeast(least) => format!("at least {least:.decimals$}"),
            Wanted::AtMost(most) => format!("at most {most:.decimals$}"),
        },
        figures.join(", "),
        verdict(goal, &measured),
    ]
}

/// One of a goal's figures.
struct Measured {
    /// What sets it apart from the goal's others; may be empty.
    label: String,
    spread: Spread,
    /// It does not count.
    errors: bool,
}

impl Measured {
    fn words(&self, decimals: usize) -> String {
        let colon = if self.label.is_empty() { "" } else { ": " };
        let errors = if self.errors { " errors!" } else { "" };
        format!(
            "{}{colon}{}{errors}",
            self.label,
            self.spread.words(decimals)
        )
    }

    fn counts(&self) -> bool {
        self.spread.median.is_finite() && !self.errors
    }
}

/// Of the median alone, as it is shown: the quartiles say how sure that is.
fn verdict(goal: &Goal, measured: &[Measured]) -> String {
    let scale = 10_f64.powi(decimals(&goal.figure) as i32);
    let reached = |one: &Measured| {
        let shown = (one.spread.median * scale).round() / scale;
        match goal.wanted {
            Wanted::AtLeast(least) => shown >= least,
            Wanted::AtMost(most) => shown <= most,
        }
    };
    let missed: Vec<&str> = measured
        .iter()
        .filter(|one| one.counts() && !reached(one))
        .map(|one| one.label.as_str())
        .collect();
    if !missed.is_empty() {
        // With one figure there is nothing to choose from.
        let which = if measured.len() > 1 {
            format!(": {}", missed.join(", "))
        } else {
            String::new()
        };
        return format!("**not reached**{which}");
    }
    if !measured.iter().all(Measured::counts) || measured.is_empty() {
        return "not measured".into();
    }
    "reached".into()
}

/// Of the figure.
fn decimals(figure: &Figure) -> usize {
    match figure {
        Figure::HeldMemory | Figure::Lost(_) => 0,
        _ => 2,
    }
}

fn measure(figure: &Figure) -> Vec<Measured> {
    match *figure {
        Figure::Rate(file, one, other, clients) => {
            let clients = clients.iter();
            clients
                .map(|clients| versus(file, one, other, *clients, rate))
                .collect()
        }
        Figure::Latency(file, one, other) => vec![versus(file, one, other, 1, median_us)],
        Figure::Held(held) => while_held(held),
        Figure::HeldMemory => held_memory(),
        Figure::Lost(children) => vec![lost(children)],
        Figure::Idle(one, other) => vec![ratio("spawn-memory.csv", "server", one, other, |row| {
            number(row, "idle_rss_kib")
        })],
        Figure::Startup(one, other) => {
            vec![ratio("startup.csv", "link", one, other, median_us)]
        }
        Figure::Relay(way, one, other) => vec![relay(way, one, other)],
    }
}

/// Both with so many clients.
fn versus(file: &str, one: &str, other: &str, clients: usize, figure: Take) -> Measured {
    let label = clients.to_string();
    let rows = Rows::read(file).only(&[("clients", &label)]);
    let [one, other] = [one, other].map(|name| rows.only(&[("server", name)]));
    Measured {
        label,
        spread: one.relative_to(&other, figure),
        errors: one.errors() + other.errors() > 0.0,
    }
}

fn ratio(file: &str, column: &str, one: &str, other: &str, figure: Take) -> Measured {
    let rows = Rows::read(file);
    let [one, other] = [one, other].map(|name| rows.only(&[(column, name)]));
    Measured {
        label: String::new(),
        spread: one.relative_to(&other, figure),
        errors: false,
    }
}

fn while_held(held: usize) -> Vec<Measured> {
    let held = held.to_string();
    let rows = Rows::read("spawn-held.csv").only(&[("server", HOLDING), ("held", &held)]);
    let of = |clients: &&str| {
        let rows = rows.only(&[("clients", clients)]);
        Measured {
            label: (*clients).to_owned(),
            spread: rows.spread(beside_twin),
            errors: rows.errors() > 0.0,
        }
    };
    rows.distinct("clients").iter().map(of).collect()
}

/// By how much it grew since none were held, in the life of the same server.
fn held_memory() -> Vec<Measured> {
    // The row of each number of clients says the same.
    let rows = Rows::read("spawn-held.csv").only(&[("server", HOLDING), ("clients", "1")]);
    let none = rows.only(&[("held", "0")]);
    let of = |held: &usize| {
        let some = rows.only(&[("held", &held.to_string())]);
        let each = |some: f64, none: f64| (some - none) * 1024.0 / *held as f64;
        Measured {
            label: format!("{held} held"),
            spread: some.beside(&none, |row| number(row, "rss_kib"), each),
            errors: false,
        }
    };
    let steps = rows.numbers("held").into_iter().filter(|held| *held > 0);
    steps.collect::<Vec<_>>().iter().map(of).collect()
}

fn lost(children: usize) -> Measured {
    let rows = Rows::read("spawn-crowd.csv").only(&[("children", &children.to_string())]);
    Measured {
        label: String::new(),
        spread: rows.spread(|row| number(row, "lost")),
        errors: false,
    }
}

fn relay(way: &str, one: &str, other: &str) -> Measured {
    let rows = Rows::read("relay.csv").only(&[("way", way)]);
    let [one, other] = [one, other].map(|name| rows.only(&[("relay", name)]));
    Measured {
        label: String::new(),
        // Seconds for the same bytes: twice as many are half as fast.
        spread: other.relative_to(&one, |row| number(row, "seconds")),
        errors: false,
    }
}

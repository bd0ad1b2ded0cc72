//! Which figures the plot shows: each panel is filled from one file, and left out where there is nothing.
#![forbid(unsafe_code)]

use super::chart::{Bar, Group, Panel};
use super::rows::{Rows, Take, beside_twin, median_us, number, rate};

const SPAWN: (&str, &str) = ("spawn-rate.csv", "floor, 4 threads");
const HANDOFF: (&str, &str) = ("handoff-rate.csv", "floor");

/// All panels, in the order in which they are placed.
pub fn all() -> Vec<Panel> {
    let panels = [
        rates("spawn: a child for each connection", SPAWN),
        rates("handoff: a backend that lives on", HANDOFF),
        latencies("spawn: connect to end of file, 1 client", SPAWN),
        latencies("handoff: connect to end of file, 1 client", HANDOFF),
        held(),
        rules(),
        memory(),
        startup(),
        relay(),
    ];
    panels
        .into_iter()
        .filter(|panel| !panel.groups.is_empty())
        .collect()
}

fn rates(title: &'static str, (file, floor): (&str, &str)) -> Panel {
    let rows = Rows::read(file);
    let clients = rows.numbers("clients");
    let mut panel = Panel::new(title, "connections per second, floor = 1");
    panel.series = clients
        .iter()
        .map(|clients| format!("{clients} client{}", plural(*clients)))
        .collect();
    panel.groups = versus(&rows, "server", floor, rate, &clients);
    panel
}

fn latencies(title: &'static str, (file, floor): (&str, &str)) -> Panel {
    let mut panel = Panel::new(title, "median latency, floor = 1 (shorter is better)");
    panel.groups = versus(&Rows::read(file), "server", floor, median_us, &[1]);
    panel
}

/// Each name of `column` beside `other`, with a bar for each number of clients.
fn versus(rows: &Rows, column: &str, other: &str, take: Take, clients: &[usize]) -> Vec<Group> {
    let group = |name: &&str| {
        let bar = |clients: &usize| {
            let clients = clients.to_string();
            let one = rows.only(&[(column, name), ("clients", &clients)]);
            let other = rows.only(&[(column, other), ("clients", &clients)]);
            Bar {
                spread: one.relative_to(&other, take),
                errors: one.errors() > 0.0,
            }
        };
        Group {
            label: (*name).to_owned(),
            bars: clients.iter().map(bar).collect(),
        }
    };
    rows.distinct(column)
        .iter()
        .map(group)
        .filter(Group::says_something)
        .collect()
}

fn held() -> Panel {
    let rows = Rows::read("spawn-held.csv");
    let steps: Vec<usize> = rows
        .numbers("held")
        .into_iter()
        .filter(|held| *held > 0)
        .collect();
    let mut panel = Panel::new(
        "spawn: while connections are held open",
        "rate, a twin that holds none = 1",
    );
    panel.series = steps.iter().map(|held| format!("{held} held")).collect();
    for server in rows.distinct("server") {
        for clients in rows.distinct("clients") {
            let of_server = rows.only(&[("server", server), ("clients", clients)]);
            let bar = |held: &usize| {
                let some = of_server.only(&[("held", &held.to_string())]);
                Bar {
                    spread: some.spread(beside_twin),
                    errors: some.errors() > 0.0,
                }
            };
            panel.groups.push(Group {
                label: format!(
                    "{server}, {clients} client{}",
                    plural(clients.parse().unwrap_or(0))
                ),
                bars: steps.iter().map(bar).collect(),
            });
        }
    }
    panel.groups.retain(Group::says_something);
    panel
}

/// The reader of 1,000,000 records beside itself with 10.
fn rules() -> Panel {
    let rows = Rows::read("spawn-rules.csv");
    let clients = rows.numbers("clients");
    let mut panel = Panel::new("spawn: 1,000,000 rules in a cdb", "rate, with 10 rules = 1");
    panel.series = clients
        .iter()
        .map(|clients| format!("{clients} client{}", plural(*clients)))
        .collect();
    for server in rows.distinct("server") {
        let Some(reader) = server.strip_suffix(", 1,000,000 records") else {
            continue;
        };
        let ten = format!("{reader}, 10 records");
        let many = versus(&rows, "server", &ten, rate, &clients)
            .into_iter()
            .filter(|group| group.label == server);
        panel.groups.extend(many.map(|group| Group {
            label: reader.to_owned(),
            ..group
        }));
    }
    panel
}

fn memory() -> Panel {
    let rows = Rows::read("spawn-memory.csv");
    let mut panel = Panel::new(
        "memory of the server alone",
        "KiB resident (shorter is better)",
    );
    panel.series = vec!["up".into(), "has served 64 clients".into()];
    panel.decimals = 0;
    panel.reference = None;
    for server in rows.distinct("server") {
        let of_server = rows.only(&[("server", server)]);
        let bar = |figure| Bar {
            spread: of_server.spread(figure),
            errors: false,
        };
        panel.groups.push(Group {
            label: server.to_owned(),
            bars: vec![
                bar(|row| number(row, "idle_rss_kib")),
                bar(|row| number(row, "served_rss_kib")),
            ],
        });
    }
    panel
}

fn startup() -> Panel {
    let rows = Rows::read("startup.csv");
    let mut panel = Panel::new(
        "start of a chain's link",
        "time of a whole process, s6's = 1 (shorter is better)",
    );
    for link in rows.distinct("link") {
        let one = rows.only(&[("link", link)]);
        // A row says itself which of s6's two links it is measured by.
        for beside in one.distinct("beside") {
            let other = rows.only(&[("link", beside)]);
            panel.groups.push(Group {
                label: link.to_owned(),
                bars: vec![Bar {
                    spread: one.relative_to(&other, median_us),
                    errors: false,
                }],
            });
        }
    }
    panel.groups.retain(Group::says_something);
    panel
}

/// For want of a floor beside socat, who is everybody's.
fn relay() -> Panel {
    let rows = Rows::read("relay.csv");
    let ways = rows.distinct("way");
    let mut panel = Panel::new("relay: bytes through it", "bytes per second, socat = 1");
    panel.series = ways.iter().map(|way| (*way).to_owned()).collect();
    for relay in rows.distinct("relay") {
        let bar = |way: &&str| {
            let of = |relay| rows.only(&[("relay", relay), ("way", way)]);
            Bar {
                // Seconds for the same bytes: twice as many are half as fast.
                spread: of("socat").relative_to(&of(relay), |row| number(row, "seconds")),
                errors: false,
            }
        };
        panel.groups.push(Group {
            label: relay.to_owned(),
            bars: ways.iter().map(bar).collect(),
        });
    }
    panel.groups.retain(Group::says_something);
    panel
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

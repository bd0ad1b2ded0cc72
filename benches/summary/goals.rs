//! What doorward wants to reach, as one table of values. The names are those of the rows in the files of target/bench.
#![forbid(unsafe_code)]

use Figure::*;
use Wanted::*;

/// One line of the table.
pub struct Goal {
    pub what: &'static str,
    pub wanted: Wanted,
    pub figure: Figure,
}

/// Of each figure.
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// What is measured by what. All but the last two are ratios within the rounds.
pub enum Figure {
    /// Connections a second: the file, whose, beside whose, with how many clients.
    Rate(&'static str, &'static str, &'static str, &'static [usize]),
    /// Median latency with one client: the file, whose, beside whose.
    Latency(&'static str, &'static str, &'static str),
    /// Connections a second while so many are held, beside a twin that holds none.
    Held(usize),
    /// Resident memory of a server that is up: whose, beside whose.
    Idle(&'static str, &'static str),
    /// Time of a link of a chain: whose, beside whose.
    Startup(&'static str, &'static str),
    /// Bytes a second: which way, whose, beside whose.
    Relay(&'static str, &'static str, &'static str),
    /// Bytes of the server's own memory for each connection held.
    HeldMemory,
    /// Lost children of so many at once.
    Lost(usize),
}

const SPAWN: &str = "spawn-rate.csv";
const ALLOW: &str = "doorward spawn --allow";
const DIR: &str = "doorward spawn --rules DIR";
const FILE: &str = "doorward spawn --rules FILE";
const FLOOR: &str = "floor, 4 threads";
const S6: &str = "s6-ipcserver";
const S6_ACCESS: &str = "s6-ipcserver + access";
const S6_ADMIT: &str = "s6-ipcserver + doorward admit";

const RULES: &str = "spawn-rules.csv";
const MANY: &str = "doorward spawn --rules FILE, 1,000,000 records";
const TEN: &str = "doorward spawn --rules FILE, 10 records";

const HANDOFF: &str = "handoff-rate.csv";
const PLAIN: &str = "doorward handoff --max 0";
const EIGHT: &str = "doorward handoff --max 0, library in batches of 8";
const FLOOR_HANDOFF: &str = "floor";

const ACCESS: &str = "s6-ipcserver-access";
const CONNECT: &str = "doorward connect";
const CLIENT: &str = "s6-ipcclient";

const fn goal(what: &'static str, wanted: Wanted, figure: Figure) -> Goal {
    Goal {
        what,
        wanted,
        figure,
    }
}

// A table is read by its columns.
#[rustfmt::skip]
pub const GOALS: &[Goal] = &[
    goal("spawn --allow: rate, x floor",                  AtLeast(0.90), Rate(SPAWN, ALLOW, FLOOR, &[1, 8, 64])),
    goal("spawn --rules FILE: rate, x floor",             AtLeast(0.90), Rate(SPAWN, FILE,  FLOOR, &[1, 8, 64])),
    goal("spawn --rules DIR: rate, x floor",              AtLeast(0.90), Rate(SPAWN, DIR,   FLOOR, &[1, 8, 64])),
    goal("spawn --allow: rate, x s6-ipcserver",           AtLeast(2.0),  Rate(SPAWN, ALLOW, S6, &[8, 64])),
    goal("spawn --rules FILE: rate, x s6-ipcserver",      AtLeast(2.0),  Rate(SPAWN, FILE,  S6, &[8, 64])),
    goal("spawn --rules DIR: rate, x s6-ipcserver",       AtLeast(2.0),  Rate(SPAWN, DIR,   S6, &[8, 64])),
    goal("spawn --allow: rate, x s6 + access",            AtLeast(9.0),  Rate(SPAWN, ALLOW, S6_ACCESS, &[8, 64])),
    goal("spawn --rules FILE: rate, x s6 + access",       AtLeast(9.0),  Rate(SPAWN, FILE,  S6_ACCESS, &[8, 64])),
    goal("spawn --rules DIR: rate, x s6 + access",        AtLeast(9.0),  Rate(SPAWN, DIR,   S6_ACCESS, &[8, 64])),
    goal("spawn --allow: median latency, x floor",        AtMost(1.10),  Latency(SPAWN, ALLOW, FLOOR)),
    goal("spawn --rules FILE: median latency, x floor",   AtMost(1.10),  Latency(SPAWN, FILE,  FLOOR)),
    goal("spawn --rules DIR: median latency, x floor",    AtMost(1.10),  Latency(SPAWN, DIR,   FLOOR)),
    goal("1,000,000 rules in a cdb: rate, x 10 rules",    AtLeast(0.95), Rate(RULES, MANY, TEN, &[1, 8])),
    goal("5,000 held: rate, x none held",                 AtLeast(0.85), Held(5_000)),
    goal("12,000 held: rate, x none held",                AtLeast(0.85), Held(12_000)),
    goal("own memory for each held, bytes",               AtMost(256.0), HeldMemory),
    goal("lost of 16,000 children at once",               AtMost(0.0),   Lost(16_000)),
    goal("handoff --max 0: rate, x floor",                AtLeast(0.95), Rate(HANDOFF, PLAIN, FLOOR_HANDOFF, &[64])),
    goal("handoff, library in eights: rate, x floor",     AtLeast(1.15), Rate(HANDOFF, EIGHT, FLOOR_HANDOFF, &[64])),
    goal("handoff --max 0: median latency, x floor",      AtMost(1.15),  Latency(HANDOFF, PLAIN, FLOOR_HANDOFF)),
    goal("idle: resident, x s6-ipcserverd",               AtMost(1.7),   Idle(DIR, S6)),
    goal("idle, static glibc: resident, x s6-ipcserverd", AtMost(1.1),   Idle("also static glibc --rules DIR", S6)),
    goal("idle, static musl: resident, x s6-ipcserverd",  AtMost(0.5),   Idle("also static musl --rules DIR", S6)),
    goal("admit: time, x s6-ipcserver-access",            AtMost(1.2),   Startup("doorward admit", ACCESS)),
    goal("admit: not slower than s6-ipcserver-access",    AtMost(1.0),   Startup("doorward admit", ACCESS)),
    goal("admit, static musl: x s6-ipcserver-access",     AtMost(0.4),   Startup("also static musl admit", ACCESS)),
    goal("connect: time, x s6-ipcclient",                 AtMost(1.2),   Startup(CONNECT, CLIENT)),
    goal("connect, static musl: x s6-ipcclient",          AtMost(0.4),   Startup("also static musl connect", CLIENT)),
    goal("s6-ipcserver + admit: rate, x s6 + access",     AtLeast(1.0),  Rate(SPAWN, S6_ADMIT, S6_ACCESS, &[1, 8, 64])),
    goal("connect, pipe to server: bytes/s, x socat",     AtLeast(1.0),  Relay("A pipe to the server", CONNECT, "socat")),
    goal("connect, file to server: bytes/s, x socat",     AtLeast(1.0),  Relay("A file to the server", CONNECT, "socat")),
    goal("connect, server to pipe: bytes/s, x socat",     AtLeast(1.0),  Relay("The server to a pipe", CONNECT, "socat")),
];

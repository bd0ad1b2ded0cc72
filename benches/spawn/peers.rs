//! The rows: who is measured, and by which command line or units each is started.
#![forbid(unsafe_code)]

use super::common::options::Also;
use super::common::parts::Parts;
use super::common::server::SOCKET;
use super::units::Units;
use std::path::Path;

/// The names that ratios and other parts refer to.
pub const FLOOR: &str = "floor, 4 threads";
pub const S6: &str = "s6-ipcserver";
pub const DOORWARD: &str = "doorward spawn";

/// Every check of doorward's at work, with as much room as s6-ipcserver is given below; and as quiet.
pub const DOORWARD_OPTIONS: &str = "spawn -q --max 1000 --max-per-user 1000 --rate 1000000/1";
pub const S6_ACCESS: &str = "s6-ipcserver + access";

/// One row of the table.
pub struct Peer {
    pub name: String,
    /// Where its program comes from, for who lacks it.
    pub package: &'static str,
    /// A command of doorward's that it takes.
    pub needs_command: Option<&'static str>,
    pub start: Start,
}

/// How a row is started.
pub enum Start {
    /// A command that listens on the socket.
    Process(Vec<String>),
    /// A socket unit and its service, under a systemd of our own.
    Units(Units),
}

/// What the commands need to name.
pub struct Places<'a> {
    /// Ten rules as a directory, and the same as a database.
    pub rules: &'a Path,
    pub database: &'a Path,
    pub parts: &'a Parts,
    pub doorward: &'a Path,
    /// Other builds of doorward.
    pub also: &'a [Also],
}

/// The rows that are one command each.
pub fn processes(places: &Places) -> Vec<Peer> {
    let mut rows = floor(places);
    rows.extend(doorward(DOORWARD, places.doorward, places));
    for also in places.also {
        rows.extend(doorward(&also.name, &also.path, places));
    }
    let [rules, child] = [places.rules, &places.parts.child].map(|path: &Path| path.display());
    let s6 = format!("s6-ipcserver -q -c 1000 -C 1000 {SOCKET}");
    let access = format!("s6-ipcserver-access -v0 -i {rules}");
    let doorward_program = places.doorward.display();
    rows.extend([
        process(S6, "s6", &format!("{s6} {child} 1"), &[]),
        process(S6_ACCESS, "s6", &format!("{s6} {access} {child} 1"), &[]),
        Peer {
            needs_command: Some("admit"),
            ..process(
                "s6-ipcserver + doorward admit",
                "s6",
                &format!("{s6} {doorward_program} admit -q --rules {rules} {child} 1"),
                &[],
            )
        },
        process(
            "unixserver",
            "ucspi-unix",
            &format!("unixserver -q -c 1000 -b 1000 {SOCKET} {child} 1"),
            &[],
        ),
        process(
            "socat fork",
            "socat",
            &format!("socat UNIX-LISTEN:{SOCKET},fork,backlog=1000"),
            &[&format!("EXEC:{child} 1,nofork")],
        ),
        process(
            "systemd-socket-activate -a",
            "systemd",
            &format!("systemd-socket-activate -a --inetd -l {SOCKET} {child} 1"),
            &[],
        ),
    ]);
    rows
}

fn floor(places: &Places) -> Vec<Peer> {
    let [floor, child] = [&places.parts.floor, &places.parts.child].map(|path| path.display());
    [(FLOOR, 4), ("floor, 1 thread", 1)]
        .map(|(name, threads)| {
            process(
                name,
                "gcc",
                &format!("{floor} {SOCKET} {threads} {child} 7"),
                &[],
            )
        })
        .into()
}

/// One build of doorward with each form of rules; the second and the third hold the same ten.
fn doorward(name: &str, program: &Path, places: &Places) -> [Peer; 3] {
    let [program, rules, database, child] =
        [program, places.rules, places.database, &places.parts.child].map(Path::display);
    [
        ("--allow", "--allow all"),
        ("--rules DIR", &format!("--rules {rules}")),
        ("--rules FILE", &format!("--rules {database}")),
    ]
    .map(|(kind, admission)| {
        let command =
            format!("{program} {DOORWARD_OPTIONS} --bind {SOCKET} {admission} -- {child} 7");
        process(&format!("{name} {kind}"), "doorward", &command, &[])
    })
}

/// No path of ours holds white space, so a command line may be written as one; `more` are words that do.
fn process(name: &str, package: &'static str, command: &str, more: &[&str]) -> Peer {
    let words = command
        .split_whitespace()
        .chain(more.iter().copied())
        .map(str::to_owned)
        .collect();
    Peer {
        name: name.to_owned(),
        package,
        needs_command: None,
        start: Start::Process(words),
    }
}

/// The servers whose children can be held open, for `room` connections: the child also waits for the end of its input.
pub fn holding(name: &str, room: usize, places: &Places) -> Vec<String> {
    let [child, floor, doorward] = [&places.parts.child, &places.parts.floor, places.doorward]
        .map(|path: &Path| path.display());
    let command = match name {
        FLOOR => format!("{floor} {SOCKET} 4 {child} 7 6"),
        S6 => format!("s6-ipcserver -q -c {room} -C {room} {SOCKET} {child} 1 0"),
        _ => format!(
            "{doorward} spawn -q --bind {SOCKET} --max {room} --max-per-user {room} --rate 1000000/1 --allow all -- {child} 7 6"
        ),
    };
    command.split_whitespace().map(str::to_owned).collect()
}

/// The servers that decide by a database of `records` rules, at `file`.
pub fn with_database(places: &Places, file: &Path, records: &str) -> [Peer; 2] {
    let [child, doorward, file] = [&places.parts.child, places.doorward, file].map(Path::display);
    [
        process(
            &format!("{DOORWARD} --rules FILE, {records} records"),
            "doorward",
            &format!("{doorward} {DOORWARD_OPTIONS} --bind {SOCKET} --rules {file} -- {child} 7"),
            &[],
        ),
        process(
            &format!("{S6_ACCESS}, {records} records"),
            "s6",
            &format!(
                "s6-ipcserver -q -c 1000 -C 1000 {SOCKET} s6-ipcserver-access -v0 -x {file} {child} 1"
            ),
            &[],
        ),
    ]
}

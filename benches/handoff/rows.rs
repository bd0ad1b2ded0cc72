//! The rows: by which command line each is started. All but `direct` feed the same backend.
#![forbid(unsafe_code)]

use std::path::Path;

/// The names that ratios refer to.
pub const FLOOR: &str = "floor";
pub const DIRECT: &str = "direct";
const DOORWARD: &str = "doorward handoff";

/// One row of the table.
pub struct Row {
    pub name: String,
    pub command: Vec<String>,
}

/// What the commands need to name.
pub struct Places<'a> {
    pub socket: &'a Path,
    pub rules: &'a Path,
    pub floor: &'a Path,
    pub backend: &'a Path,
    pub doorward: &'a Path,
    /// Another build of doorward.
    pub also: Option<&'a Path>,
}

/// All rows.
pub fn all(places: &Places) -> Vec<Row> {
    let [socket, floor, backend] = [places.socket, places.floor, places.backend].map(Path::display);
    let mut rows = vec![
        row(FLOOR, &format!("{floor} {socket} 3 {backend}")),
        row(
            "floor, no socketpair",
            &format!("{floor} {socket} 1 {backend}"),
        ),
        row(DIRECT, &format!("{backend} {socket}")),
    ];
    rows.extend(doorward(DOORWARD, places.doorward, places));
    if let Some(also) = places.also {
        rows.extend(doorward(&format!("also {}", also.display()), also, places));
    }
    rows
}

/// The first does what the floor does, and knows who comes; each of the others adds or leaves out one thing.
fn doorward(name: &str, program: &Path, places: &Places) -> [Row; 4] {
    let [program, socket, rules, backend] =
        [program, places.socket, places.rules, places.backend].map(Path::display);
    [
        ("--max 0", "--max 0 --allow all".to_owned()),
        ("--max 0 --rules", format!("--max 0 --rules {rules}")),
        ("with leases", "--allow all".to_owned()),
        (
            "--max 0 --notify-to none",
            "--max 0 --allow all --notify-to none".to_owned(),
        ),
    ]
    .map(|(kind, options)| {
        row(
            &format!("{name} {kind}"),
            &format!("{program} handoff -q --bind {socket} {options} -- {backend}"),
        )
    })
}

/// No path of ours holds white space, so a command line may be written as one.
fn row(name: &str, command: &str) -> Row {
    Row {
        name: name.to_owned(),
        command: command.split_whitespace().map(str::to_owned).collect(),
    }
}

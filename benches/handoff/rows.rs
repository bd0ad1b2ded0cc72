//! The rows: by which command line each is started. All but `direct` and those of the library feed the same backend.
#![forbid(unsafe_code)]

use super::backend;
use super::common::options::Also;
use super::common::server::SOCKET;
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
    pub rules: &'a Path,
    pub floor: &'a Path,
    pub backend: &'a Path,
    /// What serves as a backend with the library.
    pub library: &'a Path,
    pub doorward: &'a Path,
    /// Other builds of doorward.
    pub also: &'a [Also],
}

/// All rows.
pub fn all(places: &Places) -> Vec<Row> {
    let [floor, backend] = [places.floor, places.backend].map(Path::display);
    let mut rows = vec![
        row(FLOOR, &format!("{floor} {SOCKET} 3 {backend}")),
        row(
            "floor, no socketpair",
            &format!("{floor} {SOCKET} 1 {backend}"),
        ),
        row(DIRECT, &format!("{backend} {SOCKET}")),
    ];
    rows.extend(doorward(DOORWARD, places.doorward, places));
    for also in places.also {
        rows.extend(doorward(&also.name, &also.path, places));
    }
    rows
}

/// The first does what the floor does, and knows who comes; each of the others adds, leaves out or replaces one thing.
fn doorward(name: &str, program: &Path, places: &Places) -> [Row; 6] {
    let [program, rules, backend, library] =
        [program, places.rules, places.backend, places.library].map(Path::display);
    let library = format!("{library} {}", backend::WORD);
    let [plain, one, eight] = [
        backend.to_string(),
        format!("{library} 1"),
        format!("{library} 8"),
    ];
    let rules = format!("--max 0 --rules {rules}");
    [
        ("--max 0", "--max 0 --allow all", &plain),
        ("--max 0 --rules", &rules, &plain),
        ("with leases", "--allow all", &plain),
        (
            "--max 0 --notify-to none",
            "--max 0 --allow all --notify-to none",
            &plain,
        ),
        ("--max 0, library", "--max 0 --allow all", &one),
        (
            "--max 0, library in batches of 8",
            "--max 0 --allow all",
            &eight,
        ),
    ]
    .map(|(kind, options, backend)| {
        row(
            &format!("{name} {kind}"),
            &format!("{program} handoff -q --bind {SOCKET} {options} -- {backend}"),
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

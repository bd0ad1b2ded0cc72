//! A `--max` that the limits of the process cannot carry is told, with the figures.

use super::reachable;
use crate::support::{Door, Report, Served, probe};

fn warnings(door: &Served) -> Vec<String> {
    let warnings = door
        .log()
        .into_iter()
        .filter(|line| line.starts_with("doorward: warning: --max "));
    warnings.collect()
}

/// Serves under `wrap`; every line of the start stands in the log before "ready".
#[track_caller]
fn warned<const N: usize>(door: Door, wrap: [&str; N]) -> (Served, Vec<String>) {
    let probe = probe();
    let door = door
        .wrap(wrap)
        .serve([probe.to_str().unwrap(), "report", "7"]);
    door.wait_log("doorward: ready");
    let warnings = warnings(&door);
    (door, warnings)
}

#[test]
fn a_descriptor_limit_that_is_too_low_is_told_with_both_figures() {
    need!("prlimit");
    let (door, told) = warned(
        reachable().args(["--max", "500"]),
        ["prlimit", "--nofile=200:300"],
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("--max 500 ") && told[0].contains(" 300 "),
        "{told:?}"
    );
    assert!(told[0].contains("descriptors"), "{told:?}");
    // It is a warning: the service works, doorward has taken the hard limit and the child has the soft one.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", door.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["300", "300"]);
    assert_eq!(
        Report::parse(door.connect().read_to_end()).get("nofile"),
        "200 300"
    );
}

#[test]
fn a_limit_that_carries_it_is_no_matter() {
    need!("prlimit");
    let (_door, told) = warned(
        reachable().args(["--max", "20"]),
        ["prlimit", "--nofile=200:300"],
    );
    assert_eq!(told, Vec::<String>::new());
    // No promise, no warning.
    let (_door, told) = warned(
        reachable().args(["--max", "0"]),
        ["prlimit", "--nofile=200:200"],
    );
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn notify_needs_two_descriptors_a_connection() {
    need!("prlimit");
    let wrap = ["prlimit", "--nofile=400:400"];
    let (_door, told) = warned(reachable().args(["--max", "200"]), wrap);
    assert_eq!(told, Vec::<String>::new());
    let (_door, told) = warned(reachable().args(["--max", "200", "--notify"]), wrap);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_process_limit_of_the_user_that_is_too_low_is_told() {
    need!(root, "prlimit", "setpriv");
    let door = reachable().args(["--max", "50"]);
    std::os::unix::fs::chown(door.dir(), Some(7654), None).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=7654",
        "--regid=7654",
        "--clear-groups",
        "prlimit",
        "--nproc=40:40",
    ];
    let (_door, told) = warned(door, wrap);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("--max 50 ") && told[0].ends_with(" 40"),
        "{told:?}"
    );
}

#[test]
fn a_task_limit_of_the_control_group_that_is_too_low_is_told() {
    need!(root);
    let Some(group) = Group::limited_to(60) else {
        let skipped = "SKIPPED a_task_limit_of_the_control_group_that_is_too_low_is_told: needs a pids controller\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped.as_bytes());
        return;
    };
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.0.display());
    let (door, told) = warned(
        reachable().args(["--max", "100"]),
        ["sh", "-c", &enter, "sh"],
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("--max 100 ") && told[0].contains("TasksMax") && told[0].ends_with(" 60"),
        "{told:?}"
    );
    drop(door);
}

/// A control group of the pids controller, removed when dropped.
struct Group(std::path::PathBuf);

impl Group {
    fn limited_to(tasks: u32) -> Option<Group> {
        let name = format!("doorward-test-{}", std::process::id());
        let homes = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        homes.iter().find_map(|home| {
            let group = Group(std::path::Path::new(home).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join("pids.max"), tasks.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was killed just now may still be leaving it.
        let end = std::time::Instant::now() + crate::support::DEADLINE;
        while self.0.exists()
            && std::fs::remove_dir(&self.0).is_err()
            && std::time::Instant::now() < end
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

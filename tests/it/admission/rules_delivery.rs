//! What a matched rule does beyond letting in: `env` and `exec`.

use super::{Rules, comes_in, greeter, reachable, user};
use crate::support::{Door, Report, User, probe};

fn door_with_rules() -> (Door, Rules) {
    let door = reachable();
    let rules = Rules::of(&door);
    let door = door.args(["--rules".into(), rules.path("")]);
    (door, rules)
}

fn reporter() -> [String; 3] {
    [
        probe().to_str().unwrap().into(),
        "report".into(),
        "7".into(),
    ]
}

#[test]
fn env_sets_and_removes_variables_for_this_connection_alone() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.allow("uid/1000");
    rules.file("uid/1000/env/NEW", "one\ntwo\n");
    rules.file("uid/1000/env/INHERITED", "changed \t\n");
    rules.file("uid/1000/env/GONE", "");
    rules.file("uid/1000/env/EMPTY", "\n");
    rules.file("uid/1000/env/IPCREMOTEPATH", "/of/the/rule");
    rules.file("uid/1000/env/IPCREMOTEEGID", "");
    rules.allow("uid/1001");
    let door = door
        .env("INHERITED", "old")
        .env("GONE", "here")
        .serve(reporter());

    for _ in 0..3 {
        let report = Report::parse(door.connect_as(&user(1000)).read_to_end());
        assert_eq!(report.env("NEW").as_deref(), Some("one"));
        assert_eq!(report.env("INHERITED").as_deref(), Some("changed"));
        assert_eq!(report.env("EMPTY").as_deref(), Some(""));
        assert_eq!(report.env("GONE"), None);
        assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some("/of/the/rule"));
        assert_eq!(report.env("IPCREMOTEEGID"), None);
        assert_eq!(report.env("IPCREMOTEEUID").as_deref(), Some("1000"));

        let report = Report::parse(door.connect_as(&user(1001)).read_to_end());
        assert_eq!(report.env("NEW"), None);
        assert_eq!(report.env("INHERITED").as_deref(), Some("old"));
        assert_eq!(report.env("GONE").as_deref(), Some("here"));
        assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some(""));
        assert_eq!(report.env("IPCREMOTEEGID").as_deref(), Some("1001"));
    }
}

#[test]
fn no_rule_touches_the_variables_that_tell_of_descriptors_and_the_socket() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.allow("uid/0");
    let names = [
        "IPCLOCALPATH",
        "PIDFD",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "LISTEN_ODD",
        "NOTIFYFD",
        "HANDOFF",
        "HANDOFF_FDS",
    ];
    for name in names {
        rules.file(&format!("uid/0/env/{name}"), "forged");
    }
    let probe = probe();
    let door = door.args(["--layout", "systemd", "--pidfd"]).serve([
        probe.to_str().unwrap(),
        "report",
        "3",
    ]);
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(
        report.env("IPCLOCALPATH"),
        door.socket().to_str().map(str::to_owned)
    );
    assert_eq!(report.env("PIDFD").as_deref(), Some("9"));
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(report.env("LISTEN_PID"), Some(report.get("pid")));
    assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("connection"));
    for name in ["LISTEN_ODD", "NOTIFYFD", "HANDOFF", "HANDOFF_FDS"] {
        assert_eq!(report.env(name), None, "{name}");
    }

    // Nor does one remove them.
    for name in names {
        rules.file(&format!("uid/0/env/{name}"), "");
    }
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.env("PIDFD").as_deref(), Some("9"));
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(
        report.env("IPCLOCALPATH"),
        door.socket().to_str().map(str::to_owned)
    );
}

#[test]
fn a_path_that_a_rule_sets_is_the_childs_and_not_the_one_to_find_the_program_by() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.allow("uid/0");
    rules.file("uid/0/env/PATH", "/nowhere");
    let door = door.args(["--inetd"]).serve(["env"]);
    let text = door.connect().read_text();
    assert!(text.lines().any(|line| line == "PATH=/nowhere"), "{text}");

    rules.file("uid/0/env/PATH", "");
    let text = door.connect().read_text();
    assert!(
        !text.is_empty() && !text.lines().any(|line| line.starts_with("PATH=")),
        "{text}"
    );
}

#[test]
fn exec_runs_in_place_of_the_program_with_the_connections_environment() {
    need!(root, "execlineb");
    let (door, rules) = door_with_rules();
    rules.allow("uid/1000");
    rules.file(
        "uid/1000/exec",
        "importas -i who IPCREMOTEEUID\necho by-rule $who $FROM_RULE\n",
    );
    rules.file("uid/1000/env/FROM_RULE", "set");
    rules.allow("uid/1001");
    let door = greeter(door.args(["-v"]));
    for _ in 0..2 {
        // $FROM_RULE is execline's word alone: without importas it stays as it is.
        assert_eq!(
            door.connect_as(&user(1000)).read_text(),
            "by-rule 1000 $FROM_RULE\n"
        );
        assert_eq!(door.connect_as(&user(1001)).read_text(), "in\n");
    }
    rules.file("uid/1000/exec", "importas -i rule FROM_RULE\necho $rule\n");
    assert_eq!(door.connect_as(&user(1000)).read_text(), "set\n");
}

#[test]
fn exec_gets_the_words_that_s6_gives_execlineb_and_the_layouts_descriptors() {
    need!(root, "execlineb");
    let (door, rules) = door_with_rules();
    rules.allow("uid/0");
    let probe = probe();
    rules.file("uid/0/exec", format!("{} report 7", probe.display()));
    let door = door.serve(["false"]);
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7]);
    assert_eq!(report.number("pgid"), report.number("pid"));
    assert_eq!(report.env("IPCREMOTEEUID").as_deref(), Some("0"));
}

#[test]
fn execlineb_is_found_by_doorwards_path_and_not_by_the_rules() {
    need!(root, "execlineb");
    let (door, rules) = door_with_rules();
    rules.allow("uid/0");
    rules.file("uid/0/env/PATH", "/nowhere");
    rules.file("uid/0/exec", "/bin/echo found");
    let door = greeter(door);
    assert_eq!(door.connect().read_text(), "found\n");
}

#[test]
fn exec_without_execlineb_is_a_denial_that_says_so() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.allow("uid/1000");
    rules.file("uid/1000/exec", "echo by-rule");
    rules.allow("uid/1001");
    std::fs::create_dir(door.path("bin")).unwrap();
    let path = door.path("bin");
    let door = door
        .env("PATH", path)
        .args(["--inetd"])
        .serve(["/bin/echo", "in"]);
    assert!(!comes_in(&door, &user(1000)));
    let line = door.wait_log("doorward: deny user=1000 ");
    assert!(
        line.contains(" reason=rule ") && line.ends_with(" rule=uid/1000 exec=cannot-run"),
        "{line}"
    );
    assert!(comes_in(&door, &User::new(1001, 1001)));
}

//! What a child inherits beside descriptors and environment.

use super::{report_of, reporter};
use crate::support::{Door, Report, User, inspect, probe};

#[test]
fn all_signals_are_at_their_defaults_and_none_is_blocked() {
    let report = report_of(Door::new());
    for set in ["blocked", "ignored", "caught"] {
        assert_eq!(report.get(set), "0000000000000000", "{set}");
    }
}

#[test]
fn that_holds_whatever_doorward_was_started_with() {
    let probe = probe();
    let wrap = [probe.to_str().unwrap(), "deaf"];
    let mut door = Door::new().wrap(wrap).args(["-v"]).serve(reporter("7"));
    // More than there are doors.
    for _ in 0..20 {
        let report = Report::parse(door.connect().read_to_end());
        for set in ["blocked", "ignored", "caught"] {
            assert_eq!(report.get(set), "0000000000000000", "{set}");
        }
        // With SIGCHLD ignored the kernel would reap them, and their status would be lost.
        assert!(door.wait_log("doorward: end ").contains(" status=0 "));
    }
    assert!(
        door.stop().success(),
        "SIGTERM is heard though it was ignored and blocked"
    );
}

#[test]
fn each_child_leads_a_process_group_of_its_own_in_doorwards_session() {
    let door = Door::new().serve(reporter("7"));
    let session = |pid: i32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap();
    let mut groups = Vec::new();
    for _ in 0..5 {
        let report = Report::parse(door.connect().read_to_end());
        assert_eq!(report.number("pgid"), report.number("pid"));
        assert_eq!(report.number("ppid"), door.pid());
        assert_eq!(report.number("sid"), session(door.pid()).as_raw());
        groups.push(report.number("pgid"));
    }
    groups.dedup();
    assert!(
        groups.len() > 1 && !groups.contains(&door.pid()),
        "{groups:?}"
    );
}

#[test]
fn the_descriptor_limit_is_the_one_that_doorward_was_started_with() {
    need!("prlimit");
    for limit in ["256:1024", "512:512"] {
        let option = format!("--nofile={limit}");
        let report = report_of(Door::new().wrap(["prlimit", &option]));
        assert_eq!(report.get("nofile"), limit.replace(':', " "));
    }
}

#[test]
fn umask_and_directory_are_doorwards() {
    let wrap = ["sh", "-c", "umask 0027; cd /usr; exec \"$@\"", "sh"];
    let report = report_of(Door::new().wrap(wrap));
    assert_eq!(
        (report.get("umask"), report.get("cwd")),
        ("0027".into(), "/usr".into())
    );
}

#[test]
fn a_child_runs_as_doorward_does_whoever_connects() {
    need!(root);
    let door = Door::new().args(["--mode", "0666"]).serve(reporter("7"));
    let client = &User::new(1000, 1000).groups([5]);
    let report = Report::parse(door.connect_as(client).read_to_end());
    assert_eq!(
        (report.get("uid"), report.get("gid")),
        ("0 0 0".into(), "0 0 0".into())
    );
    let own = inspect::status_line(door.pid(), "Groups").unwrap();
    assert_eq!(
        report.get("groups").split_whitespace().collect::<Vec<_>>(),
        own.split_whitespace().collect::<Vec<_>>()
    );
}

#[test]
fn arguments_are_passed_as_they_were_given() {
    let probe = probe();
    let door = Door::new().args(["--inetd"]).serve([
        "sh",
        "-c",
        "printf '%s|' \"$0\" \"$@\"",
        "-v",
        "--",
        "a b",
        "",
        "\n",
        "--inetd",
    ]);
    assert_eq!(door.connect().read_text(), "-v|--|a b||\n|--inetd|");
    // The word that was typed is the program's own name, wherever it was found.
    let dir = probe.parent().unwrap().to_str().unwrap().to_owned();
    let door = Door::new()
        .env("PATH", format!("/nowhere:{dir}"))
        .serve(["probe", "report", "7"]);
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.argv(), ["probe", "report", "7"]);
}

#[test]
fn standard_descriptors_that_doorward_lacks_are_no_connection() {
    let wrap = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    for (options, fd, numbers) in [
        (vec![], "7", vec![0, 1, 2, 6, 7]),
        (vec!["--inetd"], "1", vec![0, 1, 2]),
    ] {
        let door = Door::new().args(options).wrap(wrap).serve(reporter(fd));
        let report = Report::parse(door.connect().read_to_end());
        assert_eq!(report.fd_numbers(), numbers);
        assert_eq!(report.fds()[&2].link, "/dev/null");
    }
}

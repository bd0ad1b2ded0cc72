//! The environment of a child.

use std::process::id;

use super::{report_of, reporter};
use crate::support::{Client, Door, Report, User, eventually};

#[test]
fn a_connection_has_these_variables_and_no_others() {
    need!(root);
    let door = Door::new().args(["--mode", "0666"]).serve(reporter("7"));
    let user = User::new(1000, 1001).groups([7, 1001, 5]);
    let report = Report::parse(door.connect_as(&user).read_to_end());
    assert_eq!(
        report.env_names(),
        [
            "DOORWARD_TEST",
            "IPCCONNNUM",
            "IPCLOCALPATH",
            "IPCREMOTEEGID",
            "IPCREMOTEEUID",
            "IPCREMOTEGROUPS",
            "IPCREMOTEPATH",
            "IPCREMOTEPID",
            "PATH",
            "PROTO",
        ]
    );
    let value = |name| report.env(name).unwrap();
    assert_eq!(value("PROTO"), "IPC");
    assert_eq!(value("IPCREMOTEEUID"), "1000");
    assert_eq!(value("IPCREMOTEEGID"), "1001");
    assert_eq!(value("IPCREMOTEPID"), id().to_string());
    assert_eq!(value("IPCREMOTEPATH"), "");
    assert_eq!(value("IPCLOCALPATH"), door.socket().to_str().unwrap());
    assert_eq!(value("IPCCONNNUM"), "1");
    // The effective one first, each once.
    let mut groups: Vec<String> = value("IPCREMOTEGROUPS")
        .split(',')
        .map(str::to_owned)
        .collect();
    assert_eq!(groups[0], "1001");
    groups.sort();
    assert_eq!(groups, ["1001", "5", "7"]);
}

#[test]
fn what_doorward_inherits_passes_byte_for_byte() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff=\n\x1b[2J");
    let report = report_of(
        Door::new()
            .env("HOME", "/some where")
            .env("EMPTY", "")
            .env("ODD", odd)
            .env("IPC", "no name of ours")
            .env("LISTENER", "neither")
            .env("PROTOCOL", "nor this"),
    );
    assert_eq!(report.env("HOME").as_deref(), Some("/some where"));
    assert_eq!(report.env("EMPTY").as_deref(), Some(""));
    assert_eq!(report.env_bytes("ODD").unwrap(), odd.as_bytes());
    for (name, value) in [
        ("IPC", "no name of ours"),
        ("LISTENER", "neither"),
        ("PROTOCOL", "nor this"),
    ] {
        assert_eq!(report.env(name).as_deref(), Some(value));
    }
}

#[test]
fn nothing_that_was_meant_for_doorward_or_for_another_connection_leaks() {
    let stale = [
        "PROTO",
        "IPCREMOTEEUID",
        "IPCREMOTEEGID",
        "IPCREMOTEPID",
        "IPCREMOTEPATH",
        "IPCREMOTEGROUPS",
        "IPCLOCALPATH",
        "IPCCONNNUM",
    ];
    let gone = [
        "IPCREMOTEGROUPS_TRUNCATED",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "NOTIFYFD",
        "PIDFD",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDNAMES",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "FDSTORE",
        "SKALIBS_CHILD_SPAWN_FDS",
        "HANDOFF",
        "HANDOFF_FDS",
        "HANDOFF_ANYTHING",
        "NOTIFY_SOCKET",
    ];
    let mut door = Door::new();
    for name in stale
        .iter()
        .chain(&gone)
        .filter(|name| **name != "NOTIFY_SOCKET")
    {
        door = door.env(name, "stale");
    }
    let report = report_of(door);
    for name in gone {
        assert_eq!(report.env(name), None, "{name}");
    }
    for name in stale {
        assert_ne!(report.env(name).as_deref(), Some("stale"), "{name}");
    }
}

#[test]
fn proto_is_the_prefix_and_stale_variables_of_either_prefix_are_gone() {
    let door = Door::new()
        .args(["--proto", "UNIX"])
        .env("UNIXREMOTEEUID", "stale")
        .env("UNIXREMOTEGROUPS_TRUNCATED", "stale")
        .env("IPCREMOTEEUID", "stale")
        .env("IPCCONNNUM", "stale");
    let report = report_of(door);
    assert_eq!(report.env("PROTO").as_deref(), Some("UNIX"));
    let me = User::me();
    assert_eq!(report.env("UNIXREMOTEEUID"), Some(me.uid.to_string()));
    assert_eq!(report.env("UNIXREMOTEEGID"), Some(me.gid.to_string()));
    assert_eq!(report.env("UNIXREMOTEPID"), Some(id().to_string()));
    assert_eq!(report.env("UNIXREMOTEPATH").as_deref(), Some(""));
    assert_eq!(report.env("UNIXCONNNUM").as_deref(), Some("1"));
    assert!(report.env("UNIXLOCALPATH").unwrap().ends_with("/s"));
    assert_eq!(report.env("UNIXREMOTEGROUPS_TRUNCATED"), None);
    let left: Vec<String> = report
        .env_names()
        .into_iter()
        .filter(|name| name.starts_with("IPC"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_prefix_that_can_begin_no_name_is_wrong_use() {
    for proto in ["", "1A", "A=B", "A B", "a-b", "\u{e4}"] {
        Door::new()
            .args([format!("--proto={proto}")])
            .fails(["true"])
            .assert(100, ["--proto"]);
    }
}

#[test]
fn groups_are_listed_up_to_eight_kib_and_not_at_all_beyond() {
    need!(root);
    let door = Door::new().args(["--mode", "0666"]).serve(reporter("7"));
    // Ten digits and a comma each.
    let many: Vec<u32> = (0..744).map(|n| 1_000_000_000 + n).collect();
    for (gid, length) in [(10_000_000, Some(8192)), (100_000_000, None)] {
        let user = User::new(1000, gid).groups(many.clone());
        let report = Report::parse(door.connect_as(&user).read_to_end());
        let groups = report.env("IPCREMOTEGROUPS");
        assert_eq!(groups.as_ref().map(String::len), length);
        let truncated = report.env("IPCREMOTEGROUPS_TRUNCATED");
        assert_eq!(truncated.as_deref(), length.is_none().then_some("1"));
        if let Some(groups) = groups {
            let expected: Vec<String> = [gid].iter().chain(&many).map(u32::to_string).collect();
            assert_eq!(groups, expected.join(","));
        }
    }
    // A list that is cut is no list to decide by: the rules still know them all.
    let door = Door::new()
        .args(["--mode", "0666", "--inetd", "--allow", "group:5"])
        .serve(["echo", "in"]);
    let most: Vec<u32> = (0..65_535).map(|n| 1_000_000_000 + n).chain([5]).collect();
    assert_eq!(
        door.connect_as(&User::new(1000, 1000).groups(most))
            .read_text(),
        "in\n"
    );
}

#[test]
fn connnum_counts_what_this_user_has_open() {
    need!(root);
    let door = Door::new().args(["--mode", "0666", "--inetd"]).serve([
        "sh",
        "-c",
        "echo $IPCCONNNUM; exec cat",
    ]);
    let connect = |id: u32| -> (Client, String) {
        let mut client = door.connect_as(&User::new(id, id));
        let number = client.read_line();
        (client, number)
    };
    let (first, one) = connect(1000);
    let (_second, two) = connect(1000);
    let (_third, three) = connect(1000);
    let (_other, other) = connect(1001);
    assert_eq!([one, two, three, other], ["1", "2", "3", "1"]);
    drop(first);
    // It is a count and no serial number.
    eventually("a slot that was given back", || {
        let (client, number) = connect(1000);
        assert!(
            number == "3" || number.parse::<u32>().unwrap() > 3,
            "{number}"
        );
        drop(client);
        number == "3"
    });
}

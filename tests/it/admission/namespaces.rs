//! Peers from elsewhere: users that doorward's user namespace does not map, processes that its pid namespace does not see.

use super::{Rules, comes_in, greeter, reachable, user};
use crate::support::{Door, Report, Served, User, probe};

/// doorward in a user namespace that maps root alone.
fn mapping_root_alone(door: Door) -> Door {
    door.wrap(["unshare", "--user", "--map-root-user"])
}

/// doorward as process 1 of a pid namespace. `Served::pid` is then the one of `unshare`.
fn process_one(door: Door) -> Door {
    door.wrap(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
}

fn reporting(door: Door) -> Served {
    let probe = probe();
    door.args(["-v"])
        .serve([probe.to_str().unwrap(), "report", "7"])
}

#[test]
fn an_unmapped_peer_is_nobody_in_particular() {
    need!(root, "unshare");
    // The overflow id, by number, by name and as a supplementary group: none of it is him.
    let options = [
        "--allow",
        "user:65534",
        "--allow",
        "group:65534",
        "--allow",
        "group:0",
        "--allow",
        "self",
    ];
    let door = greeter(mapping_root_alone(reachable().args(options)));
    for stranger in [user(1000), User::nobody(), user(1000).groups([65534, 1001])] {
        assert!(!comes_in(&door, &stranger), "{stranger:?}");
        let line = door.wait_log("deny ");
        assert!(
            line.contains(" deny user=unmapped group=unmapped pid="),
            "{line}"
        );
    }
    // Whom the namespace knows is who he is; also by a group.
    assert!(comes_in(&door, &user(0)));
    assert!(comes_in(&door, &user(1000).groups([0])));
}

#[test]
fn all_matches_an_unmapped_peer_and_its_environment_names_no_ids() {
    need!(root, "unshare");
    let door = reporting(mapping_root_alone(reachable().args(["--allow", "all"])));
    let report = Report::parse(door.connect_as(&user(1000)).read_to_end());
    assert_eq!(report.env("IPCREMOTEEUID"), None);
    assert_eq!(report.env("IPCREMOTEEGID"), None);
    assert_eq!(report.env("IPCREMOTEGROUPS").as_deref(), Some(""));
    assert_eq!(
        report.env("IPCREMOTEPID"),
        Some(std::process::id().to_string())
    );
    assert!(
        door.wait_log("allow user=unmapped group=unmapped ")
            .contains(" rule=all ")
    );
    door.wait_log("user=unmapped status=0 ");

    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.env("IPCREMOTEEUID").as_deref(), Some("0"));
    assert_eq!(report.env("IPCREMOTEEGID").as_deref(), Some("0"));
}

#[test]
fn of_a_rules_directory_only_the_default_matches_an_unmapped_peer() {
    need!(root, "unshare");
    let door = reachable();
    let rules = Rules::of(&door);
    for key in [
        "uid/65534",
        "gid/65534",
        "uid/self",
        "gid/self",
        "uid/1000",
        "gid/1000",
    ] {
        rules.allow(key);
    }
    let door = greeter(mapping_root_alone(door.args([
        "-v".into(),
        "--rules".into(),
        rules.path(""),
    ])));
    assert!(!comes_in(&door, &user(1000)));
    assert!(!comes_in(&door, &User::nobody()));
    assert!(comes_in(&door, &user(0)));
    rules.allow("uid/default");
    assert!(comes_in(&door, &user(1000)));
    assert!(
        door.wait_log("allow user=unmapped ")
            .contains(" rule=uid/default ")
    );
}

#[test]
fn unmapped_peers_share_one_count() {
    need!(root, "unshare");
    let door =
        mapping_root_alone(reachable().args(["--allow", "all", "--max-per-user", "1", "--inetd"]));
    let door = door.serve(["cat"]);
    let mut first = door.connect_as(&user(1000));
    first.send(b"x");
    first.read_exactly(1);
    door.connect_as(&user(1001)).assert_closed();
    let line = door.wait_log("deny user=unmapped ");
    assert!(line.ends_with(" reason=max-per-user limit=1"), "{line}");
    let mut root = door.connect();
    root.send(b"x");
    root.read_exactly(1);
}

#[test]
fn a_pid_that_cannot_be_known_is_unknown_and_no_failure() {
    need!(root, "unshare");
    let door = reporting(process_one(reachable()));
    let report = Report::parse(door.connect_as(&user(1000)).read_to_end());
    assert_eq!(report.env("IPCREMOTEPID"), None);
    assert_eq!(report.env("IPCREMOTEEUID").as_deref(), Some("1000"));
    assert!(
        door.wait_log("allow user=1000 group=1000 ")
            .contains(" pid=- ")
    );

    let door = greeter(process_one(reachable().args(["--deny", "user:1000"])));
    assert!(!comes_in(&door, &user(1000)));
    assert!(
        door.wait_log("deny user=1000 group=1000 ")
            .contains(" pid=- ")
    );
}

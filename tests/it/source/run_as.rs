//! `--run-as`: who doorward is when it serves.

use super::{assert_plain_child, owner, reporter, stream};
use crate::support::{Door, Report, Served, inspect};

/// Real, effective, saved and filesystem id.
fn ids(door: &Served, key: &str) -> Vec<String> {
    let line = inspect::status_line(door.pid(), key).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn run_as_changes_every_id_and_drops_the_groups_and_capabilities_of_before() {
    need!(root, "setpriv");
    let door = Door::new()
        .args(["--run-as", "4321:1234"])
        .wrap(["setpriv", "--groups", "4,24,27"])
        .serve(reporter());

    assert_eq!(ids(&door, "Uid"), ["4321"; 4]);
    assert_eq!(ids(&door, "Gid"), ["1234"; 4]);
    for group in ["0", "4", "24", "27"] {
        assert!(
            !ids(&door, "Groups").contains(&group.to_owned()),
            "group {group} is left"
        );
    }
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(ids(&door, set), ["0000000000000000"], "{set}");
    }
    let report = Report::parse(door.connect().read_to_end());
    assert_plain_child(&report);
    assert_eq!(
        (report.get("uid"), report.get("gid")),
        ("4321 4321 4321".into(), "1234 1234 1234".into())
    );
}

#[test]
fn run_as_a_name_takes_the_primary_group_of_that_user() {
    need!(root);
    let door = Door::new().args(["--run-as", "nobody"]).serve(reporter());
    assert_eq!(
        (ids(&door, "Uid"), ids(&door, "Gid")),
        (vec!["65534".to_owned(); 4], vec!["65534".to_owned(); 4])
    );
    let door = Door::new()
        .args(["--run-as", "nobody:daemon"])
        .serve(reporter());
    assert_eq!(
        (ids(&door, "Uid"), ids(&door, "Gid")),
        (vec!["65534".to_owned(); 4], vec!["1".to_owned(); 4])
    );
}

#[test]
fn clients_see_who_doorward_runs_as_on_its_own_socket() {
    need!(root);
    let door = Door::new()
        .args(["--run-as", "4321:1234"])
        .serve(reporter());
    assert_eq!(door.connect().server(), (door.pid(), 4321, 1234));
}

#[test]
fn run_as_works_on_an_inherited_socket_and_with_relisten_clients_see_it() {
    need!(root);
    let door = Door::new()
        .no_bind()
        .args(["--run-as", "4321:1234", "--relisten"]);
    let socket = stream(&door.path("s"));
    let door = door.listen_fds([socket], &[]).serve(reporter());
    assert_eq!(ids(&door, "Uid"), ["4321"; 4]);
    let mut client = door.connect();
    assert_eq!(client.server(), (door.pid(), 4321, 1234));
    assert_plain_child(&Report::parse(client.read_to_end()));
}

#[test]
fn socket_in_a_directory_that_the_new_user_cannot_write_stays_and_that_is_said() {
    need!(root);
    let mut door = Door::new()
        .args(["--run-as", "4321:1234"])
        .serve(reporter());
    assert_eq!(owner(&door.socket()), (0, 0));
    assert!(door.stop().success());
    assert!(door.socket().exists());
    let said = door.count_log("will stay");
    assert_eq!(said, 1, "{:?}", door.log());
}

#[test]
fn socket_in_a_directory_of_the_new_user_is_unlinked() {
    need!(root);
    let door = Door::new().args(["--run-as", "4321:1234"]);
    std::os::unix::fs::chown(door.dir(), Some(4321), None).unwrap();
    let mut door = door.serve(reporter());
    assert!(door.stop().success());
    assert!(!door.socket().exists());
}

#[test]
fn unknown_user_or_group_is_wrong_use() {
    for given in [
        "no-such-user",
        "root:no-such-group",
        "",
        ":",
        ":0",
        "-1",
        "4294967295",
        "99999999999",
    ] {
        let outcome = Door::new()
            .args([format!("--run-as={given}")])
            .fails(reporter());
        assert_eq!(outcome.code(), 100, "{given}: {}", outcome.stderr);
    }
}

#[test]
fn run_as_without_the_right_to_change_users_is_fatal() {
    need!(root, "setpriv");
    let door = Door::new().args(["--run-as", "4321:1234"]);
    std::os::unix::fs::chown(door.dir(), Some(65534), None).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let outcome = door.wrap(wrap).fails(reporter());
    outcome.assert(111, ["doorward: fatal: unable to "]);
}

//! `--mode` and `--owner`: on the node that is bound, and on nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{mode, owner, reporter, stream};
use crate::support::{Door, Report, User};

#[test]
fn mode_and_owner_are_set_on_a_bound_socket() {
    need!(root);
    let door = Door::new()
        .args(["--mode", "0420", "--owner", "65534:1234"])
        .serve(reporter());
    assert_eq!(
        (mode(&door.socket()), owner(&door.socket())),
        (0o420, (65534, 1234))
    );
    Report::parse(door.connect_as(&User::new(1000, 1234)).read_to_end());
    let refused = door
        .dial()
        .user(&User::new(1000, 1000))
        .try_connect()
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn owner_takes_names_and_numbers_and_a_group_of_its_own() {
    need!(root);
    for (given, expected) in [
        ("nobody", (65534, 0)),
        ("nobody:nogroup", (65534, 65534)),
        ("4321:daemon", (4321, 1)),
        ("4321", (4321, 0)),
    ] {
        let door = Door::new().args(["--owner", given]).serve(reporter());
        assert_eq!(owner(&door.socket()), expected, "{given}");
    }
}

#[test]
fn mode_that_is_no_mode_is_wrong_use() {
    for given in ["999", "8", "rw", "", "-1", "0x1ff", "10000"] {
        let outcome = Door::new()
            .args([format!("--mode={given}")])
            .fails(reporter());
        assert_eq!(outcome.code(), 100, "{given}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("--mode"),
            "{given}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn unknown_owner_is_wrong_use() {
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
            .args([format!("--owner={given}")])
            .fails(reporter());
        assert_eq!(outcome.code(), 100, "{given}: {}", outcome.stderr);
    }
}

#[test]
fn inherited_socket_keeps_mode_and_owner_unless_told() {
    need!(root);
    let given = || {
        let door = Door::new().no_bind();
        let path = door.path("s");
        let socket = stream(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
        door.listen_fds([socket], &[])
    };
    let door = given().serve(reporter());
    assert_eq!(
        (mode(&door.socket()), owner(&door.socket())),
        (0o640, (12, 34))
    );
    let door = given().args(["--mode", "0666"]).serve(reporter());
    assert_eq!(
        (mode(&door.socket()), owner(&door.socket())),
        (0o666, (12, 34))
    );
    let door = given().args(["--owner", "56:78"]).serve(reporter());
    assert_eq!(
        (mode(&door.socket()), owner(&door.socket())),
        (0o640, (56, 78))
    );
}

#[test]
fn mode_acts_on_the_bound_node_even_after_a_rename() {
    need!(root);
    let door = Door::new().no_bind().args(["--mode", "0666"]);
    let (path, moved) = (door.path("s"), door.path("moved"));
    let socket = stream(&path);
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "bystander").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let door = door.listen_fds([socket], &[]).serve(reporter());
    assert_eq!((mode(&moved), mode(&path)), (0o666, 0o600));
    drop(door);
}

#[test]
fn without_the_right_to_ask_the_kernel_another_node_at_the_path_is_fatal() {
    need!(root, "setpriv");
    let replace: [fn(&std::path::Path); 3] = [
        |path| fs::write(path, "bystander").unwrap(),
        |path| {
            fs::write(path.with_file_name("target"), "bystander").unwrap();
            symlink("target", path).unwrap();
        },
        |path| fs::hard_link(path.with_file_name("moved"), path).unwrap(),
    ];
    for replace in replace {
        let door = Door::new().no_bind().args(["--mode", "0666"]);
        let path = door.path("s");
        let socket = stream(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        fs::rename(&path, door.path("moved")).unwrap();
        replace(&path);
        let (moved, target) = (door.path("moved"), door.path("target"));
        let wrap = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        let outcome = door.wrap(wrap).listen_fds([socket], &[]).fails(reporter());
        outcome.assert(111, ["doorward: fatal: "]);
        assert_eq!(mode(&moved), 0o600);
        assert!(!target.exists() || mode(&target) != 0o666);
    }
}

#[test]
fn without_the_right_to_ask_the_kernel_the_right_node_is_found_by_its_name() {
    need!(root, "setpriv");
    let door = Door::new().no_bind().args(["--mode", "0666"]);
    let path = door.path("s");
    let socket = stream(&path);
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let door = door.wrap(wrap).listen_fds([socket], &[]).serve(reporter());
    assert_eq!(mode(&path), 0o666);
    drop(door);
}

#[test]
fn mode_that_cannot_be_set_is_fatal() {
    need!(root, "setpriv");
    let door = Door::new().no_bind().args(["--mode", "0666"]);
    let path = door.path("s");
    let socket = stream(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let outcome = door.wrap(wrap).listen_fds([socket], &[]).fails(reporter());
    outcome.assert(111, ["doorward: fatal: "]);
    assert_eq!(mode(&path), 0o600);
}

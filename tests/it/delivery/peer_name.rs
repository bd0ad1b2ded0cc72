//! What the client bound itself to: its own claim, and so full of tricks.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::reporter;
use crate::support::{Door, Report, Served, User};

fn door() -> Served {
    Door::new()
        .args(["--mode", "0666", "-v", "--deny", "user:1000"])
        .serve(reporter("7"))
}

/// IPCREMOTEPATH and REMOTE_ADDR of a client bound to `path`.
#[track_caller]
fn names(door: &Served, path: impl Into<PathBuf>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut client = door.dial().bound_to(path).connect();
    let report = Report::parse(client.read_to_end());
    (
        report.env_bytes("IPCREMOTEPATH"),
        report.env_bytes("REMOTE_ADDR"),
    )
}

#[test]
fn a_path_is_passed_as_it_is() {
    let door = door();
    for name in [
        "client",
        "a b=c",
        "line\nPROTO=forged",
        "\x1b[2J\u{7}",
        "\u{e4}",
        "@in-a-directory",
    ] {
        let path = door.path(name);
        let expected = Some(path.as_os_str().as_bytes().to_vec());
        assert_eq!(
            names(&door, &path),
            (expected.clone(), expected),
            "{name:?}"
        );
    }
    let bytes = [door.dir().as_os_str().as_bytes(), b"/\xff\xfe"].concat();
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes.clone()));
    assert_eq!(names(&door, path), (Some(bytes.clone()), Some(bytes)));
}

#[test]
fn a_path_that_fills_the_whole_address_is_whole_and_ends() {
    let door = door();
    let dir = door.dir().as_os_str().as_bytes().to_vec();
    for length in [107, 108] {
        let mut path = dir.clone();
        path.push(b'/');
        path.resize(length, b'n');
        let mut client = door.dial().bound_to_bytes(path.clone()).connect();
        let report = Report::parse(client.read_to_end());
        assert_eq!(
            report.env_bytes("IPCREMOTEPATH").as_deref(),
            Some(&path[..]),
            "{length}"
        );
        assert_eq!(
            report.env_bytes("REMOTE_ADDR").as_deref(),
            Some(&path[..]),
            "{length}"
        );
    }
}

#[test]
fn an_abstract_name_is_no_path_and_shown_without_odd_bytes() {
    let door = door();
    let unique = std::process::id();
    for (name, shown) in [
        (
            format!("dw-peer-{unique}").into_bytes(),
            format!("@dw-peer-{unique}"),
        ),
        (
            format!("dw\n\x1b=\0 {unique}").into_bytes(),
            format!("@dw\\x0a\\x1b=\\x00\\x20{unique}"),
        ),
        (
            [b"dw\xff".as_slice(), unique.to_string().as_bytes()].concat(),
            format!("@dw\\xff{unique}"),
        ),
    ] {
        let mut client = door
            .dial()
            .bound_to_bytes([b"\0", &name[..]].concat())
            .connect();
        let report = Report::parse(client.read_to_end());
        assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some(""), "{shown}");
        assert_eq!(report.env("REMOTE_ADDR"), Some(shown));
    }
    // The longest there is.
    let mut longest = format!("\0{unique}").into_bytes();
    longest.resize(108, b'\n');
    let report = Report::parse(door.dial().bound_to_bytes(longest).connect().read_to_end());
    let expected = format!(
        "@{unique}{}",
        "\\x0a".repeat(107 - unique.to_string().len())
    );
    assert_eq!(report.env("REMOTE_ADDR"), Some(expected));
}

#[test]
fn an_address_of_the_kernels_choice_is_an_abstract_name() {
    let door = door();
    let report = Report::parse(
        door.dial()
            .bound_to_bytes(Vec::new())
            .connect()
            .read_to_end(),
    );
    assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some(""));
    let address = report.env("REMOTE_ADDR").unwrap();
    assert!(address.len() == 6 && address.starts_with('@'), "{address}");
}

#[test]
fn an_unbound_client_has_an_empty_path_and_no_address() {
    let report = Report::parse(door().connect().read_to_end());
    assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some(""));
    assert_eq!(report.env("REMOTE_ADDR"), None);
}

#[test]
fn no_name_of_a_client_forges_a_log_line() {
    need!(root);
    let door = door();
    let forged = "x\ndoorward: allow user=0 group=0 pid=1 rule=all child=1";
    let dir = door.path("everybodys");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(1000), None).unwrap();
    let user = User::new(1000, 1000);
    door.dial()
        .bound_to(dir.join(forged))
        .user(&user)
        .connect()
        .assert_closed();
    door.wait_log("deny user=1000 ");
    names(&door, door.path(forged));
    door.wait_log("doorward: end ");
    for line in door.log() {
        assert!(!line.contains("rule=all"), "{line}");
        assert!(
            line.starts_with("doorward: ") && !line.contains('\x1b'),
            "{line:?}"
        );
    }
    assert_eq!(door.count_log("doorward: allow "), 1);
}

//! The message of one connection, byte for byte, and its descriptors.

use std::fs;
use std::path::Path;

use super::{Told, ask, backend, door};
use crate::support::{Door, Served, User};

/// A directory of rules with these files.
fn rules(door: &Door, files: &[(&str, &str)]) -> String {
    let root = door.path("rules");
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    root.to_str().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn serve(options: &[&str]) -> Served {
    door()
        .args(["--mode", "0666"])
        .args(options)
        .serve(backend(&[]))
}

#[test]
fn payload_is_what_the_contract_says_and_nothing_else() {
    need!(root);
    let door = door()
        .args(["--mode", "0666"])
        .env("GIVEN", "of doorward's own")
        .env("IPCREMOTEINFO", "of doorward's own")
        .serve(backend(&[]));
    let user = User::new(4321, 1234).groups([5, 66]);

    let told = Told::of(door.connect_as(&user));

    let first = b"HANDOFF=1\0HANDOFF_FDS=connection:notify:notify-peer:lease\0";
    assert_eq!(&told.payload[..first.len()], first);
    let mut entries = told.entries();
    let mut rest = entries.split_off(2);
    rest.sort();
    let expected = [
        "IPCCONNNUM=1".to_owned(),
        format!("IPCLOCALPATH={}", text(&door.socket())),
        "IPCREMOTEEGID=1234".to_owned(),
        "IPCREMOTEEUID=4321".to_owned(),
        "IPCREMOTEGROUPS=1234,5,66".to_owned(),
        "IPCREMOTEPATH=".to_owned(),
        format!("IPCREMOTEPID={}", std::process::id()),
        "PROTO=IPC".to_owned(),
    ];
    assert_eq!(rest, expected);
}

#[test]
fn long_lists_of_groups_are_said_to_be_missing() {
    need!(root);
    let door = serve(&[]);
    let user = User::new(4321, 1234).groups(10_000..12_000);
    let told = Told::of(door.connect_as(&user));
    assert_eq!(told.value("IPCREMOTEGROUPS"), None);
    assert_eq!(told.get("IPCREMOTEGROUPS_TRUNCATED"), "1");
    assert_eq!(told.get("IPCREMOTEEGID"), "1234");
}

#[test]
fn bound_client_is_told_by_its_address_and_proto_changes_the_prefix() {
    let door = serve(&["--proto", "UNIX"]);
    let path = door.path("client");
    let told = Told::of(door.dial().bound_to(&path).connect());
    assert_eq!(told.get("PROTO"), "UNIX");
    assert_eq!(told.get("UNIXREMOTEPATH"), text(&path));
    assert_eq!(told.get("REMOTE_ADDR"), text(&path));
    assert!(told.entries().iter().all(|entry| !entry.starts_with("IPC")));

    let name = format!("@dw-message-{}\n", std::process::id());
    let told = Told::of(door.dial().bound_to(&name).connect());
    assert_eq!(told.get("UNIXREMOTEPATH"), "");
    assert_eq!(
        told.get("REMOTE_ADDR"),
        name.trim_end().to_owned() + "\\x0a"
    );
}

#[test]
fn rule_sets_and_unsets_names_and_touches_nothing_that_a_backend_relies_on() {
    need!(root);
    let door = door();
    let untouchable = [
        "HANDOFF",
        "HANDOFF_FDS",
        "HANDOFF_MORE",
        "IPCLOCALPATH",
        "IPCREMOTEEUID",
        "IPCREMOTEEGID",
        "IPCREMOTEGROUPS",
        "IPCREMOTEPID",
        "IPCREMOTEPATH",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFYFD",
        "PIDFD",
        "PROTO",
        "REMOTE_ADDR",
    ];
    let mut files = vec![
        ("uid/0/allow".to_owned(), ""),
        ("uid/0/env/COLOUR".to_owned(), "green=leaf\n"),
        ("uid/0/env/IPCCONNNUM".to_owned(), ""),
        ("uid/0/env/NOT_THERE".to_owned(), ""),
        ("uid/4321/allow".to_owned(), ""),
    ];
    files.extend(untouchable.map(|name| (format!("uid/0/env/{name}"), "forged\n")));
    // What it would remove if it could.
    files.extend(untouchable.map(|name| (format!("uid/4321/env/{name}"), "")));
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (&name[..], *text))
        .collect();
    let rules = rules(&door, &files);
    let door = door
        .args(["--mode", "0666", "--rules", &rules])
        .serve(backend(&[]));

    let told = Told::of(door.dial().bound_to(door.path("client")).connect());

    assert_eq!(told.get("COLOUR"), "green=leaf");
    assert_eq!(told.value("IPCCONNNUM"), Some(None));
    assert_eq!(told.value("NOT_THERE"), Some(None));
    let payload = String::from_utf8_lossy(&told.payload).into_owned();
    assert!(!payload.contains("forged"), "{payload:?}");
    assert_eq!(told.get("IPCREMOTEEUID"), "0");
    assert_eq!(told.get("PROTO"), "IPC");
    let mut names: Vec<_> = told
        .entries()
        .iter()
        .map(|entry| entry.split('=').next().unwrap().to_owned())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands there twice: {payload:?}");

    let told = Told::of(door.connect_as(&User::new(4321, 4321)));
    let entries = told.entries();
    assert!(
        entries.iter().all(|entry| entry.contains('=')),
        "{entries:?}"
    );
    for name in [
        "HANDOFF",
        "IPCREMOTEEUID",
        "IPCREMOTEEGID",
        "IPCREMOTEPID",
        "IPCLOCALPATH",
        "PROTO",
    ] {
        told.get(name);
    }
}

#[test]
fn descriptors_are_what_their_names_say() {
    let door = serve(&["--pidfd"]);
    let told = Told::of(door.connect());

    let names = "connection:notify:notify-peer:pidfd:lease";
    assert_eq!(told.get("HANDOFF_FDS"), names);
    for (name, kind) in [
        ("connection", " stream listening=0"),
        ("notify", " stream listening=0"),
        ("notify-peer", " stream listening=0"),
        ("pidfd", " anon_inode:[pidfd]"),
        // The write end: O_WRONLY.
        ("lease", " pipe:["),
    ] {
        let line = told.descriptor(name);
        assert!(
            line.contains(kind) || line.contains("pidfd:["),
            "{name}: {line}"
        );
        assert!(line.contains("nonblock=0"), "{name}: {line}");
    }
    let lease = told.descriptor("lease");
    assert!(
        lease.contains("pipe:[") && lease.contains("mode=1 "),
        "{lease}"
    );
    let pidfd = told.descriptor("pidfd");
    let me = format!("pid={}", std::process::id());
    assert!(pidfd.contains("pidfd") && pidfd.ends_with(&me), "{pidfd}");
}

#[test]
fn seqpacket_connections_are_handed_off_alike() {
    let door = serve(&["--type", "seqpacket"]);
    let mut client = door.dial().seqpacket().connect();
    // The probe reads byte by byte, and what is left of a record is dropped.
    b"pid\n".iter().for_each(|&byte| client.send(&[byte]));
    let worker = String::from_utf8(client.read_record()).unwrap();
    assert_eq!(super::pid(&worker), door.wait_children(1)[0]);
}

#[test]
fn lease_is_absent_only_where_nothing_is_counted() {
    for (options, lease) in [
        (&["--max", "0"][..], false),
        (&["--max", "0", "--max-per-user", "5"], true),
        (&["--max", "5"], true),
        (&[], true),
    ] {
        let door = serve(options);
        let told = Told::of(door.connect());
        let names = told.get("HANDOFF_FDS");
        assert_eq!(names.split(':').any(|name| name == "lease"), lease);
        assert_eq!(
            names.split(':').count(),
            told.descriptors.len(),
            "{options:?}"
        );
    }
}

#[test]
fn two_connections_of_one_user_are_numbered() {
    let door = serve(&[]);
    let _first = super::kept(&door);
    assert_eq!(Told::of(door.connect()).get("IPCCONNNUM"), "2");
    assert!(ask(&door, "message").starts_with("payload "));
}

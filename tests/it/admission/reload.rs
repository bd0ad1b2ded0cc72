//! SIGHUP: names are resolved again, by a doorward that has account files of its own in a private mount namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use super::{Rules, comes_in, greeter, reachable, user};
use crate::support::{Door, Served, User};

/// doorward as it would run where /etc/passwd and /etc/group are the files `passwd` and `group` of its directory.
fn with_accounts(door: Door, passwd: &str, group: &str) -> Door {
    fs::write(door.path("passwd"), passwd).unwrap();
    fs::write(door.path("group"), group).unwrap();
    let dir = door.dir().display().to_string();
    let script = r#"mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@""#;
    door.wrap(["unshare", "--mount", "sh", "-c", script, &dir])
}

fn account(name: &str, uid: u32) -> String {
    format!("root:x:0:0::/:/bin/sh\n{name}:x:{uid}:{uid}::/:/bin/sh\n")
}

fn grouped(name: &str, gid: u32) -> String {
    format!("root:x:0:\n{name}:x:{gid}:\n")
}

/// Sends SIGHUP and waits until it is done.
#[track_caller]
fn reload(door: &Served) {
    door.signal(Signal::SIGHUP);
    door.wait_log("doorward: reloaded");
}

#[test]
fn sighup_resolves_names_again_and_nothing_does_before_it() {
    need!(root, "unshare", "mount");
    let real = fs::metadata("/etc/passwd").unwrap();
    let door = reachable().args(["--allow", "user:alice", "--allow", "group:staff"]);
    let door = greeter(with_accounts(
        door,
        &account("alice", 1001),
        &grouped("staff", 2001),
    ));
    assert!(comes_in(&door, &user(1001)));
    assert!(comes_in(&door, &User::new(7, 2001)));

    fs::write(door.path("passwd"), account("alice", 1002)).unwrap();
    fs::write(door.path("group"), grouped("staff", 2002)).unwrap();
    assert!(comes_in(&door, &user(1001)));
    assert!(!comes_in(&door, &user(1002)));

    reload(&door);
    assert!(comes_in(&door, &user(1002)));
    assert!(!comes_in(&door, &user(1001)));
    assert!(comes_in(&door, &User::new(7, 2002)));
    assert!(!comes_in(&door, &User::new(7, 2001)));
    let after = fs::metadata("/etc/passwd").unwrap();
    assert_eq!(
        (real.ino(), real.mtime()),
        (after.ino(), after.mtime()),
        "the machine's own file"
    );
}

#[test]
fn a_name_that_vanishes_keeps_its_last_id_and_that_is_logged() {
    need!(root, "unshare", "mount");
    let door = reachable().args(["--deny", "user:alice", "--allow", "group:staff"]);
    let mut door = greeter(with_accounts(
        door,
        &account("alice", 1001),
        &grouped("staff", 2001),
    ));

    fs::write(door.path("passwd"), account("bob", 1002)).unwrap();
    fs::write(door.path("group"), grouped("others", 2002)).unwrap();
    reload(&door);

    for who in ["user:alice", "group:staff"] {
        let line = door.wait_log(who);
        assert!(
            line.starts_with("doorward: warning: unable to resolve "),
            "{line}"
        );
    }
    assert!(
        !comes_in(&door, &User::new(1001, 2001)),
        "a denial that went with its name"
    );
    assert!(comes_in(&door, &User::new(5, 2001)));
    assert!(door.running());

    // The last id stays over more than one reload, and goes when the name is back.
    reload(&door);
    assert!(!comes_in(&door, &User::new(1001, 2001)));
    fs::write(door.path("passwd"), account("alice", 1003)).unwrap();
    reload(&door);
    assert!(comes_in(&door, &User::new(1001, 2001)));
    assert!(!comes_in(&door, &User::new(1003, 2001)));
}

#[test]
fn a_reload_without_account_files_changes_nobodys_rights() {
    need!(root, "unshare", "mount");
    let door = reachable().args(["--allow", "user:alice"]);
    let mut door = greeter(with_accounts(
        door,
        &account("alice", 1001),
        &grouped("staff", 2001),
    ));
    fs::write(door.path("passwd"), "").unwrap();
    reload(&door);
    assert!(comes_in(&door, &user(1001)));
    assert!(!comes_in(&door, &user(0)));
    assert!(door.running());
}

#[test]
fn sighup_takes_up_a_rules_directory_that_was_replaced_and_lets_nobody_in_while_it_is_gone() {
    need!(root);
    let door = reachable();
    let rules = Rules::of(&door);
    rules.allow("uid/1000");
    let door = door.args(["--rules".into(), rules.path("")]);
    let mut door = greeter(door);
    assert!(comes_in(&door, &user(1000)));

    fs::rename(door.path("rules"), door.path("old")).unwrap();
    reload(&door);
    assert!(!comes_in(&door, &user(1000)));
    door.wait_log("unable to open the rules again");
    assert!(door.running());

    let rules = Rules(door.path("rules"));
    rules.allow("uid/1001");
    reload(&door);
    assert!(comes_in(&door, &user(1001)));
    assert!(!comes_in(&door, &user(1000)));
}

//! Rules in a directory, with the real s6-ipcserver-access beside it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Accepted, admit, refused, report};
use crate::support::{Door, Scratch, User};

/// A file of a rules directory, with the modes of a careful administrator.
fn file(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
}

fn ruled(door: Door) -> (Door, PathBuf) {
    let root = door.path("rules");
    fs::create_dir(&root).unwrap();
    (door.args(["--rules".into(), root.clone()]), root)
}

#[test]
fn env_of_the_rule_is_set_and_its_script_runs_in_place_of_the_program() {
    need!(root, "execlineb");
    let user = User::new(4_711, 4_712);
    let (door, root) = ruled(
        admit([])
            .env("GONE", "here")
            .env("IPCCONNNUM", "2")
            .env("PROTO", "IPC"),
    );
    file(&root, "uid/4711/allow", "");
    file(&root, "uid/4711/env/NEW", "one\ntwo\n");
    file(&root, "uid/4711/env/GONE", "");
    file(&root, "uid/4711/env/IPCLOCALPATH", "/evil");
    file(&root, "uid/4711/env/LISTEN_PID", "1");
    file(&root, "uid/4711/env/IPCCONNMAX", "1");
    let given = Accepted::of_user(&user);
    let path = given.path();
    let (door, mut client) = given.on_0_and_1(door);
    let found = report(door, "0", &mut client);
    let env = |name| found.env(name);
    assert_eq!(env("NEW").as_deref(), Some("one"));
    assert_eq!((env("GONE"), env("LISTEN_PID")), (None, None));
    assert_eq!(env("IPCLOCALPATH").as_deref(), path.to_str());
    assert_eq!(env("IPCCONNNUM").as_deref(), Some("2"));
    assert_eq!(env("IPCCONNMAX").as_deref(), Some("1"));

    let (door, root) = ruled(admit(["--layout", "systemd"]));
    file(&root, "uid/default/allow", "");
    file(
        &root,
        "uid/default/exec",
        "fdmove 1 3 printenv IPCREMOTEEUID",
    );
    let (door, mut client) = Accepted::of_user(&user).on_0_to_2(door);
    let mut door = door.start(["false"]);
    assert_eq!(client.read_text(), "4711\n");
    assert!(door.wait_exit().success());
}

#[test]
fn script_without_execlineb_is_a_refusal() {
    let (door, root) = ruled(admit(["--deny-text", "no"]).env("PATH", "/nowhere"));
    file(&root, "uid/self/allow", "");
    file(&root, "uid/self/exec", "echo");
    let (door, mut client) = Accepted::here().on_6_and_7(door);
    let mut door = door.start(["/bin/true"]);
    assert_eq!(door.wait_exit().code(), Some(1));
    door.wait_log("reason=rule rule=uid/self exec=cannot-run");
    assert_eq!(client.read_text(), "no\n");
}

#[test]
fn rules_that_are_missing_or_not_to_be_trusted_admit_nobody() {
    for mode in [None, Some(0o777)] {
        let (door, root) = ruled(admit(["--deny-text", "no"]));
        match mode {
            None => fs::remove_dir(&root).unwrap(),
            Some(mode) => {
                file(&root, "uid/default/allow", "");
                fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let (door, mut client) = Accepted::here().on_6_and_7(door);
        let (code, door) = refused(door);
        assert_eq!(code, 111);
        door.wait_log("doorward: fatal: rules directory ");
        client.assert_closed();
    }
}

#[test]
fn rule_that_is_broken_refuses_whom_it_concerns() {
    let (door, root) = ruled(admit([]));
    file(&root, "uid/self/allow", "");
    file(&root, "uid/self/exec", &"x".repeat(5_000));
    file(&root, "uid/default/allow", "");
    let (door, mut client) = Accepted::here().on_6_and_7(door);
    let (code, door) = refused(door);
    assert_eq!(code, 1);
    door.wait_log("doorward: error: ");
    door.wait_log("reason=rule rule=unreadable");
    client.assert_closed();
}

/// The decision of a program that checks, in the place of `s6-ipcserver-access` on a connection of `user`: whether PROG ran.
fn decision(checker: &[String], run_as: (&str, &str), user: &User) -> bool {
    let given = Accepted::of_user(user);
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let ids = [run_as.0, run_as.1];
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", ids[0], "--regid", ids[1], "--clear-groups"])
        .args(checker)
        .args(["echo", "in"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs([
            ("PROTO", "IPC"),
            ("IPCREMOTEEUID", &uid),
            ("IPCREMOTEEGID", &gid),
        ])
        .stdin(given.copy())
        .stdout(given.socket)
        .stderr(Stdio::null());
    let status = command.status().expect("setpriv");
    drop(command);
    let mut client = given.client;
    let ran = !client.read_to_end().is_empty();
    assert!(
        ran || status.code().is_some_and(|code| code > 0),
        "{status}"
    );
    ran
}

/// Trees of the vectors that ours decides otherwise on purpose: a file that is too long.
const OTHERWISE: [&str; 2] = ["14-env-longvalue", "15-exec-4096"];

#[test]
fn trees_decide_as_s6_ipcserver_access_does_beside_it() {
    need!(root, "tar", "execlineb", "setpriv", "s6-ipcserver-access");
    let scratch = Scratch::new();
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/accessrules.tar.gz"
    );
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf", archive, "-C"])
        .arg(scratch.dir());
    assert!(tar.status().unwrap().success());
    let mut decisions = BTreeMap::new();
    for folder in fs::read_dir(scratch.path("accessrules")).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(expected) = fs::read_to_string(folder.join("expect.tsv")) else {
            continue;
        };
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let rules = folder.join("rules").to_str().unwrap().to_owned();
        for row in expected.lines().filter(|row| row.starts_with("fs\t")) {
            let fields: Vec<&str> = row.split('\t').collect();
            let run_as = (fields[1], fields[2]);
            let user = User::new(fields[3].parse().unwrap(), fields[4].parse().unwrap());
            let words = |words: &[&str]| {
                words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>()
            };
            let doorward = crate::support::doorward().to_str().unwrap();
            let ours = decision(
                &words(&[doorward, "admit", "--rules", &rules]),
                run_as,
                &user,
            );
            let theirs = decision(
                &words(&["s6-ipcserver-access", "-i", &rules]),
                run_as,
                &user,
            );
            let same = !OTHERWISE.contains(&name.as_str());
            assert_eq!(ours, theirs && same, "{name} {fields:?}");
            *decisions.entry((ours, theirs)).or_insert(0) += 1;
        }
    }
    assert_eq!(decisions.values().sum::<i32>(), 47, "{decisions:?}");
    assert!(decisions.len() == 3, "{decisions:?}");
}

//! The trees and databases of tests/vectors/accessrules.tar.gz, through the binary: what the real s6 did with each peer, ours must do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use super::reachable;
use crate::support::{Door, Scratch, Served, User};

/// Where ours denies on purpose: the backend, the vector and the peer's uid (any where it is empty).
const DENIED: [(&str, &str, &str); 4] = [
    // A file that is longer than 4,095 bytes, or may have been, is cut by s6.
    ("fs", "14-env-longvalue", ""),
    ("fs", "15-exec-4096", ""),
    ("cdb", "15-exec-4096", ""),
    // Variables without their last zero byte, to which s6 glues what comes next.
    ("cdb", "17-bad-values", "10"),
];

/// What cannot be opened at all: a service does not start with it, where s6-ipcserver-access fails at a connection.
const NO_DATABASE: [&str; 2] = ["18-not-a-cdb", "19-truncated-cdb"];

#[test]
fn the_trees_decide_and_change_the_environment_as_with_s6() {
    assert_as_with_s6("fs", "rules", 47);
}

#[test]
fn the_databases_decide_and_change_the_environment_as_with_s6() {
    assert_as_with_s6("cdb", "rules.cdb", 66);
}

fn assert_as_with_s6(backend: &str, source: &str, count: usize) {
    need!(root, "tar", "execlineb");
    let scratch = Scratch::new();
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/accessrules.tar.gz"
    );
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf", archive, "-C"])
        .arg(scratch.dir());
    assert!(tar.status().unwrap().success());
    let mut folders: Vec<_> = fs::read_dir(scratch.path("accessrules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join(source).exists())
        .collect();
    folders.sort();

    let mut rows = 0;
    for folder in folders {
        let expected = fs::read_to_string(folder.join("expect.tsv")).unwrap();
        let mut doors = BTreeMap::new();
        for row in expected
            .lines()
            .filter(|row| row.split('\t').next() == Some(backend))
        {
            let fields: Vec<&str> = row.split('\t').collect();
            rows += 1;
            let rules = folder.join(source);
            if NO_DATABASE.iter().any(|name| folder.ends_with(name)) {
                let door = reachable().args(["--rules".into(), rules]);
                door.fails(["true"])
                    .assert(111, ["is no database of rules"]);
                continue;
            }
            let run = (fields[1].to_owned(), fields[2].to_owned());
            let door = doors
                .entry(run)
                .or_insert_with_key(|(uid, gid)| serve(&rules, uid, gid));
            check(door, &folder, &fields);
        }
    }
    assert_eq!(rows, count);
}

/// Prints its environment, in the starting environment of the vectors as far as a connection allows.
fn serve(rules: &Path, uid: &str, gid: &str) -> Served {
    let door: Door = reachable();
    door.env("PATH", "/usr/bin:/bin")
        .env("UNSETME", "1")
        .env("OVERRIDE", "old")
        .args(["--inetd".as_ref(), "--rules".as_ref(), rules.as_os_str()])
        .args(["--run-as".to_owned(), format!("{uid}:{gid}")])
        .serve(["env", "-0"])
}

#[track_caller]
fn check(door: &Served, folder: &Path, fields: &[&str]) {
    let vector = folder.file_name().unwrap().to_str().unwrap();
    let [backend, _, _, uid, gid, decision, _, _, exec, changes] = fields[..] else {
        panic!("{fields:?}")
    };
    let user = User::new(uid.parse().unwrap(), gid.parse().unwrap());
    let text = door.connect_as(&user).read_to_end();
    let context = format!("{vector} {fields:?}:\n{}", door.log().join("\n"));
    let is_departure = DENIED.iter().any(|(source, name, peer)| {
        (*source, *name) == (backend, vector) && (peer.is_empty() || *peer == uid)
    });
    if decision != "allow" || is_departure {
        assert_eq!(String::from_utf8_lossy(&text), "", "{context}");
        door.wait_log(&format!("deny user={uid} group={gid} "));
        return;
    }
    assert!(!text.is_empty(), "{context}");
    assert!(exec == "exec" || exec == "-", "{context}");
    assert_eq!(shown(&text, &start(door, uid, gid)), changes, "{context}");
}

type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the program would have without any rule.
fn start(door: &Served, uid: &str, gid: &str) -> Environment {
    let local = door.socket();
    let pid = std::process::id().to_string();
    let variables: [(&str, &[u8]); 11] = [
        ("PATH", b"/usr/bin:/bin"),
        ("PROTO", b"IPC"),
        ("IPCREMOTEEUID", uid.as_bytes()),
        ("IPCREMOTEEGID", gid.as_bytes()),
        ("IPCREMOTEGROUPS", gid.as_bytes()),
        ("IPCREMOTEPID", pid.as_bytes()),
        ("IPCREMOTEPATH", b""),
        ("IPCLOCALPATH", local.as_os_str().as_bytes()),
        ("IPCCONNNUM", b"1"),
        ("UNSETME", b"1"),
        ("OVERRIDE", b"old"),
    ];
    variables
        .map(|(name, value)| (name.into(), value.to_vec()))
        .into()
}

/// The difference in the notation of the vectors.
fn shown(text: &[u8], start: &Environment) -> String {
    let mut end = Environment::new();
    for entry in text
        .split(|&byte| byte == 0)
        .filter(|entry| !entry.is_empty())
    {
        let at = entry
            .iter()
            .position(|&byte| byte == b'=')
            .expect("NAME=VALUE");
        end.insert(entry[..at].to_vec(), entry[at + 1..].to_vec());
    }
    end.remove(&b"DOORWARD_TEST"[..]);
    // What doorward says beside, on purpose: docs/departures.md.
    end.remove(&b"DOORWARD_RULE_NAMES"[..]);
    // The slot of the child before may not be free yet; what a rule sets here is longer.
    if let Some(number) = end
        .get_mut(&b"IPCCONNNUM"[..])
        .filter(|number| number.len() == 1)
    {
        *number = b"1".to_vec();
    }
    // What the text of an `exec` sets on its own account, and what execlineb does to PATH on some systems.
    if end.remove(&b"EXECED"[..]).is_some() {
        end.insert(b"PATH".to_vec(), start[&b"PATH"[..]].clone());
    }
    let removed = start
        .keys()
        .filter(|name| !end.contains_key(*name))
        .map(|name| format!("-{}", notation(name)));
    let set = end
        .iter()
        .filter(|(name, value)| start.get(*name) != Some(value))
        .map(|(name, value)| match value.get(..20) {
            Some(first) if value.len() >= 100 => {
                format!(
                    "{}={}...({} bytes)",
                    notation(name),
                    notation(first),
                    value.len()
                )
            }
            _ => format!("{}={}", notation(name), notation(value)),
        });
    let mut changes: Vec<String> = removed.chain(set).collect();
    changes.sort_by_key(|change| change.trim_start_matches('-').to_owned());
    if changes.is_empty() {
        "-".into()
    } else {
        changes.join(";")
    }
}

fn notation(bytes: &[u8]) -> String {
    let shown = bytes.iter().map(|&byte| match byte {
        b'!'..=b'~' if byte != b'\\' && byte != b';' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    shown.collect()
}

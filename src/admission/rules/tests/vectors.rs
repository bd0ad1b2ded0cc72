//! The trees of tests/vectors/accessrules.tar.gz with what the real s6 answered to each peer.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;

/// Where we depart on purpose: the vector, what our cause must say, and why.
const DEPARTURES: [(&str, &str, &str); 2] = [
    (
        "14-env-longvalue",
        "is longer than 4095 bytes",
        "a file of 5,001 bytes; s6 sets a value cut at 4,095",
    ),
    (
        "15-exec-4096",
        "is longer than 4095 bytes",
        "a text of 5,021 bytes; s6 runs it cut at 4,096",
    ),
];
// 12-env-4096 and 13-env-4097 expect the same of us as of s6: their files are 4,094 and 4,095 bytes long, within the
// limit of a file. That the latter's variables are one byte too many for the database format is no matter here.

type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn every_tree_answers_as_s6_does_but_for_our_departures() {
    let tree = Tree::new();
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/accessrules.tar.gz"
    );
    let tar = Command::new("tar")
        .args(["--no-same-owner", "-xzf", archive, "-C"])
        .arg(&tree.top)
        .status();
    assert!(tar.unwrap().success());
    let mut folders: Vec<_> = fs::read_dir(tree.path("accessrules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();

    let mut rows = 0;
    for folder in folders
        .iter()
        .filter(|folder| folder.join("rules").is_dir())
    {
        let expected = fs::read_to_string(folder.join("expect.tsv")).unwrap();
        for row in expected.lines().filter(|row| row.starts_with("fs\t")) {
            check(folder, row);
            rows += 1;
        }
    }
    assert_eq!(rows, 47);
}

fn check(folder: &Path, row: &str) {
    let vector = folder.file_name().unwrap().to_str().unwrap();
    let fields: Vec<&str> = row.split('\t').collect();
    let [
        _,
        run_uid,
        run_gid,
        uid,
        gid,
        decision,
        _,
        reason,
        exec,
        changes,
    ] = fields[..]
    else {
        panic!("{row}")
    };
    let number = |text: &str| text.parse::<u32>().unwrap();
    let rules = RuleTree::open_as(&folder.join("rules"), number(run_uid), number(run_gid)).unwrap();

    let answer = rules.judge(&Asker {
        uid: Some(number(uid)),
        gid: Some(number(gid)),
    });

    let context = format!("{vector}: {row}: {answer:?}");
    if let Some((_, cause, why)) = DEPARTURES.iter().find(|(name, ..)| *name == vector) {
        assert!(
            matches!(&answer, Answer::Failed(text) if text.ends_with(cause)),
            "{context} ({why})"
        );
        return;
    }
    match (decision, reason) {
        ("allow", _) => {
            let grant = granted(answer);
            assert_eq!(grant.exec.is_some(), exec == "exec", "{context}");
            if vector == "05-exec" && uid == "5" {
                // The change that s6 shows here is made by the program that the text runs.
                assert_eq!(
                    (grant.exec.as_deref(), changes),
                    (Some(b"env -0 EXECED=yes NL=no".as_slice()), "NL=no")
                );
                assert_eq!(grant.env, [], "{context}");
            } else {
                assert_eq!(shown_changes(&grant, uid, gid), changes, "{context}");
            }
        }
        ("deny", "Permission denied") => assert!(matches!(answer, Answer::Deny(_)), "{context}"),
        ("deny", "No such file or directory") => assert_eq!(answer, Answer::NoRule, "{context}"),
        _ => panic!("no such expectation in a tree: {context}"),
    }
}

/// What the grant changes in the environment that the vectors start from, in their notation.
fn shown_changes(grant: &Grant, uid: &str, gid: &str) -> String {
    let start: Environment = [
        ("PATH", "/usr/bin:/bin"),
        ("PROTO", "IPC"),
        ("IPCREMOTEPATH", "/rp"),
        ("IPCCONNNUM", "4"),
        ("UNSETME", "1"),
        ("OVERRIDE", "old"),
        ("IPCREMOTEEUID", uid),
        ("IPCREMOTEEGID", gid),
        ("IPCLOCALPATH", "/run/x.sock"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let mut end = start.clone();
    for (name, value) in &grant.env {
        match value {
            Some(value) => end.insert(name.clone(), value.clone()),
            None => end.remove(name),
        };
    }
    // The delivery sets this one after the rule's.
    end.insert("IPCLOCALPATH".into(), "/run/x.sock".into());

    let removed = start
        .keys()
        .filter(|name| !end.contains_key(*name))
        .map(|name| format!("-{}", notation(name)));
    let set = end
        .iter()
        .filter(|(name, value)| start.get(*name) != Some(value));
    let mut changes: Vec<String> = removed
        .chain(set.map(|(name, value)| shown_setting(name, value)))
        .collect();
    changes.sort_by_key(|change| change.trim_start_matches('-').to_owned());
    if changes.is_empty() {
        "-".to_owned()
    } else {
        changes.join(";")
    }
}

fn shown_setting(name: &[u8], value: &[u8]) -> String {
    let shown = match value.get(..20) {
        Some(start) if value.len() >= 100 => {
            format!("{}...({} bytes)", notation(start), value.len())
        }
        _ => notation(value),
    };
    format!("{}={shown}", notation(name))
}

fn notation(bytes: &[u8]) -> String {
    let shown = bytes.iter().map(|&byte| match byte {
        b'!'..=b'~' if byte != b'\\' && byte != b';' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    shown.collect()
}

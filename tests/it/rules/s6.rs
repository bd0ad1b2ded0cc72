//! Side by side with s6-accessrules-cdb-from-fs, s6-accessrules-fs-from-cdb and s6-ipcserver-access.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;

fn unpack(desk: &Desk) -> Vec<PathBuf> {
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/accessrules.tar.gz"
    );
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf", archive, "-C"])
        .arg(desk.0.dir());
    assert!(tar.status().unwrap().success());
    let folders = fs::read_dir(desk.path("accessrules")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert_eq!(folders.len(), 20);
    folders
}

fn run(program: &str, words: &[&Path]) -> Told {
    Told::of(
        Command::new(program)
            .args(words)
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
    )
}

fn doorward_rules(task: &str, from: &Path, to: &Path) -> Told {
    Told::of(
        Command::new(doorward())
            .args(["rules", task])
            .args([from, to]),
    )
}

/// A value in words that do not depend on the order of the variables, which s6 has from the file system.
type Value = (u8, BTreeSet<Vec<u8>>, Vec<u8>);

fn records(path: &Path) -> BTreeMap<Vec<u8>, Value> {
    let value = |value: Vec<u8>| {
        let [kind, rest @ ..] = &*value else {
            panic!("an empty value")
        };
        let Some((env, rest)) = rest.split_first_chunk::<2>() else {
            return (*kind, BTreeSet::new(), Vec::new());
        };
        let (env, exec) = rest.split_at(usize::from(u16::from_be_bytes(*env)));
        let env = env.split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec);
        (*kind, env.collect(), exec[2..].to_vec())
    };
    let records = cdb::records(&fs::read(path).unwrap()).into_iter();
    records.map(|(key, stored)| (key, value(stored))).collect()
}

/// What s6-ipcserver-access does with a peer: its exit code and the environment of its program.
fn access(rules: &Path, uid: u32, gid: u32) -> (Option<i32>, BTreeSet<String>) {
    let mut command = Command::new("s6-ipcserver-access");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PROTO", "IPC");
    command
        .env("UNSETME", "1")
        .env("IPCREMOTEEUID", uid.to_string())
        .env("IPCREMOTEEGID", gid.to_string());
    command
        .args(["-v0", "-l", "/run/x", "-x"])
        .arg(rules)
        .args(["env", "-0"]);
    let told = Told::of(&mut command);
    (told.code, told.out.split('\0').map(str::to_owned).collect())
}

fn check(rules: &Path, uid: u32, gid: u32) -> Option<i32> {
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let mut command = Command::new(doorward());
    command
        .args(["rules", "check", "--user", &uid, "--group", &gid, "--rules"])
        .arg(rules);
    Told::of(&mut command).code
}

/// The peers of a vector: uid and gid.
fn peers(folder: &Path) -> BTreeSet<(u32, u32)> {
    let rows = fs::read_to_string(folder.join("expect.tsv")).unwrap();
    let peer = |row: &str| {
        let fields: Vec<&str> = row.split('\t').collect();
        Some((fields.get(3)?.parse().ok()?, fields.get(4)?.parse().ok()?))
    };
    rows.lines().filter_map(peer).collect()
}

/// The same tree by both: equal records, equal decisions of either's reader about either's file, equal trees of them.
#[track_caller]
fn assert_same(desk: &Desk, rules: &Path, peers: impl IntoIterator<Item = (u32, u32)>) {
    let (ours, theirs) = (desk.path("ours.cdb"), desk.path("theirs.cdb"));
    doorward_rules("compile", rules, &ours).assert(0, &[]);
    run("s6-accessrules-cdb-from-fs", &[&theirs, rules]).assert(0, &[]);
    assert_eq!(records(&ours), records(&theirs), "{rules:?}");

    for (uid, gid) in peers {
        let (code, env) = access(&ours, uid, gid);
        assert_eq!(
            (code, env),
            access(&theirs, uid, gid),
            "{rules:?} {uid}:{gid}"
        );
        for file in [&ours, &theirs] {
            assert_eq!(
                check(file, uid, gid),
                code,
                "{file:?} {rules:?} {uid}:{gid}"
            );
        }
        assert_eq!(check(rules, uid, gid), code, "{rules:?} {uid}:{gid}");
    }

    let mut trees = Vec::new();
    for (number, file) in [&ours, &theirs].into_iter().enumerate() {
        let (by_us, by_s6) = (
            desk.path(&format!("us{number}")),
            desk.path(&format!("s6{number}")),
        );
        doorward_rules("dump", file, &by_us).assert(0, &[]);
        run("s6-accessrules-fs-from-cdb", &[&by_s6, file]).assert(0, &[]);
        for directory in [&by_us, &by_s6] {
            let mut tree = tree(directory);
            // A newline in a value: s6 writes it as it is, and would read the first line alone.
            tree.remove(Path::new("uid/1000/env/NUL"));
            trees.push(tree);
            fs::remove_dir_all(directory).unwrap();
        }
    }
    assert!(
        trees.iter().all(|tree| *tree == trees[0]),
        "{rules:?}: {trees:#?}"
    );
}

#[test]
fn the_trees_of_the_vectors_make_the_same_databases_and_back() {
    need!(
        "tar",
        "s6-accessrules-cdb-from-fs",
        "s6-accessrules-fs-from-cdb",
        "s6-ipcserver-access",
        "execlineb"
    );
    let desk = Desk::new();
    let mut same = 0;
    for folder in unpack(&desk) {
        let rules = folder.join("rules");
        if !rules.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap();
        let refused = match name {
            "13-env-4097" => "has 4097 bytes of variables",
            "14-env-longvalue" => "env/V is longer than 4095 bytes",
            "15-exec-4096" => "exec is longer than 4095 bytes",
            _ => {
                assert_same(&desk, &rules, peers(&folder));
                same += 1;
                continue;
            }
        };
        // What s6 makes a database of that it fails to read, or cuts.
        doorward_rules("compile", &rules, &desk.path("no.cdb")).assert(111, &[refused]);
        assert!(!desk.path("no.cdb").exists());
    }
    assert_eq!(same, 14);
}

#[test]
fn the_databases_of_the_vectors_are_read_and_dumped_as_s6_does() {
    need!("tar", "s6-accessrules-fs-from-cdb");
    let desk = Desk::new();
    let mut refused = Vec::new();
    for folder in unpack(&desk) {
        let file = folder.join("rules.cdb");
        let (by_us, by_s6) = (folder.join("us"), folder.join("s6"));
        let us = doorward_rules("dump", &file, &by_us);
        let s6 = run("s6-accessrules-fs-from-cdb", &[&by_s6, &file]);
        let name = folder.file_name().unwrap().to_str().unwrap();
        if us.code == Some(0) {
            assert_eq!(s6.code, Some(0), "{name}");
            let (us, mut s6) = (tree(&by_us), tree(&by_s6));
            if name == "04-env" {
                s6.insert("uid/1000/env/NUL".into(), Some(b"a\0b\n".to_vec()));
            }
            assert_eq!(us, s6, "{name}");
        } else {
            assert!(us.code == Some(111) && !by_us.exists(), "{name}: {us:?}");
            refused.push(name.split('-').next().unwrap().to_owned());
        }
    }
    // 15 has a text of 4,096 bytes, which may be half of one; the others s6 refuses too.
    assert_eq!(refused, ["13", "14", "15", "17", "18", "19"]);
}

#[test]
fn trees_made_at_random_make_the_same_databases_and_back() {
    need!(
        "s6-accessrules-cdb-from-fs",
        "s6-accessrules-fs-from-cdb",
        "s6-ipcserver-access",
        "execlineb"
    );
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    };
    for _ in 0..12 {
        let desk = Desk::new();
        desk.file("rules/uid/999/note", "");
        let ids = ["self", "default", "0", "1", "2", "3"];
        for key in ["uid", "gid"]
            .iter()
            .flat_map(|kind| ids.map(|id| format!("rules/{kind}/{id}")))
        {
            match below(4) {
                0 => {}
                1 => desk.file(&format!("{key}/deny"), "why not\n"),
                _ => {
                    desk.file(&format!("{key}/allow"), "");
                    for number in 0..below(3) {
                        let text = match below(4) {
                            0 => String::new(),
                            1 => "\n".to_owned(),
                            2 => "two words \t\r\nand more\n".to_owned(),
                            _ => "x".repeat(below(400) as usize),
                        };
                        desk.file(&format!("{key}/env/V{number}"), text);
                    }
                    if below(3) == 0 {
                        desk.file(
                            &format!("{key}/exec"),
                            format!("env -0 RAN={}\n", below(1000)),
                        );
                    }
                }
            }
        }
        let peers = (0..5).flat_map(|uid| (0..4).map(move |gid| (uid, gid)));
        assert_same(&desk, &desk.path("rules"), peers);
    }
}

//! `doorward rules compile`: nothing is written that the directory does not say.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::*;
use crate::support::eventually;

fn records(desk: &Desk, name: &str) -> BTreeMap<String, Vec<u8>> {
    let records = cdb::records(&fs::read(desk.path(name)).unwrap());
    let text = |(key, value)| (String::from_utf8(key).unwrap(), value);
    records.into_iter().map(text).collect()
}

#[test]
fn records_are_those_of_the_directory_in_sorted_order() {
    let desk = Desk::new();
    desk.rules();
    for other in [
        "ip4/10.0.0.0_8/allow",
        "ip6/::1_128/deny",
        "reversedns/example.org/allow",
    ] {
        desk.file(&format!("rules/{other}"), "");
    }
    for nothing in ["uid/1/note", "uid/.2/allow", ".hidden/3/allow"] {
        desk.file(&format!("rules/{nothing}"), "");
    }
    symlink("1001", desk.path("rules/uid/1002")).unwrap();
    symlink("nowhere", desk.path("rules/uid/1003")).unwrap();
    symlink("nowhere", desk.path("rules/odd")).unwrap();
    symlink("uid", desk.path("rules/linked")).unwrap();

    let told = desk.doorward(["compile", "rules", "rules.cdb"]);
    told.assert(0, &[]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", ""));

    let bytes = fs::read(desk.path("rules.cdb")).unwrap();
    let keys: Vec<_> = cdb::records(&bytes)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert!(keys.is_sorted());
    let found = records(&desk, "rules.cdb");
    let env = b"HOME\0ROLE=guest of ours\0";
    let full = [b"A\0", &[env.len() as u8][..], env, b"\0\x0becho hello\n"].concat();
    let expected: BTreeMap<String, Vec<u8>> = [
        ("gid/20", ALLOW),
        ("ip4/10.0.0.0_8", ALLOW),
        ("ip6/::1_128", DENY),
        ("linked/1000", &full),
        ("linked/1001", DENY),
        ("linked/1002", DENY),
        ("linked/self", ALLOW),
        ("reversedns/example.org", ALLOW),
        ("uid/1000", &full),
        ("uid/1001", DENY),
        ("uid/1002", DENY),
        ("uid/self", ALLOW),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_vec()))
    .into();
    assert_eq!(found, expected);
    assert_eq!(
        bytes,
        cdb::database(expected),
        "not the layout of a constant database"
    );
}

#[test]
fn the_file_is_its_owner_s_alone_unless_told_otherwise_and_replaced_in_one_step() {
    let desk = Desk::new();
    desk.rules();
    let compile =
        |words: &[&str]| desk.doorward([&["compile"], words, &["rules", "r.cdb"]].concat());
    compile(&[]).assert(0, &[]);
    let first = fs::metadata(desk.path("r.cdb")).unwrap();
    assert_eq!(first.mode() & 0o7777, 0o600);
    let open = fs::File::open(desk.path("r.cdb")).unwrap();
    desk.file("rules/uid/1001/allow", "");
    compile(&["--mode", "0644"]).assert(0, &[]);
    let second = fs::metadata(desk.path("r.cdb")).unwrap();
    assert_eq!(second.mode() & 0o7777, 0o644);
    assert_ne!(first.ino(), second.ino());
    assert_eq!(
        open.metadata().unwrap().len(),
        first.len(),
        "the old one is left as it was"
    );
    for mode in ["0666", "0620", "777"] {
        compile(&["--mode", mode]).assert(100, &["--mode", "decides who comes in"]);
    }
    compile(&["--mode", "rw"]).assert(100, &["--mode rw"]);
    assert_eq!(desk.names(), ["r.cdb", "rules"]);
}

/// Breaks what stands at a path, or puts something odd there.
type Spoil = fn(&Path);

/// Compiles a directory that was spoiled: an error that names `named`, and nothing changes.
#[track_caller]
fn assert_refused(desk: &Desk, words: &[&str]) {
    desk.file("r.cdb", "as it was");
    let before = desk.names();
    desk.doorward(["compile", "rules", "r.cdb"])
        .assert(111, words);
    assert_eq!(desk.names(), before, "something was left");
    assert_eq!(fs::read(desk.path("r.cdb")).unwrap(), b"as it was");
}

#[test]
fn what_would_refuse_a_connection_is_an_error_that_names_it() {
    let spoilers: [(&str, Spoil); 9] = [
        ("uid/1000/allow is writable by", |path| {
            set_mode(path, 0o666)
        }),
        ("uid/1001/deny is writable by", |path| set_mode(path, 0o620)),
        ("uid/1000/env is writable by", |path| set_mode(path, 0o777)),
        ("uid/1000/env/ROLE is longer than 4095 bytes", |path| {
            fs::write(path, "x".repeat(4096)).unwrap()
        }),
        ("uid/1000/exec is longer than 4095 bytes", |path| {
            fs::write(path, "x".repeat(4096)).unwrap()
        }),
        ("uid/1000/env/FIFO is no regular file", |path| {
            mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap()
        }),
        ("uid/1000/env/LINK", |path| {
            symlink("nowhere", path).unwrap()
        }),
        ("uid/7: Not a directory", |path| {
            fs::write(path, "").unwrap()
        }),
        ("first: Not a directory", |path| {
            fs::write(path, "").unwrap()
        }),
    ];
    for (named, spoil) in spoilers {
        let desk = Desk::new();
        desk.rules();
        let path = desk
            .path("rules")
            .join(named.split([' ', ':']).next().unwrap());
        spoil(&path);
        assert_refused(&desk, &[named, "fatal: "]);
    }
    let desk = Desk::new();
    assert_refused(&desk, &["rules", "No such file"]);
}

#[test]
fn what_fits_in_no_database_is_an_error_that_names_it() {
    let desk = Desk::new();
    desk.rules();
    // Each fits alone; s6 writes up to 4,100 bytes that it then fails to read.
    desk.file("rules/uid/1000/env/A", "a".repeat(2100));
    desk.file("rules/uid/1000/env/B", "b".repeat(2000));
    assert_refused(
        &desk,
        &[
            "rules/uid/1000 has ",
            " bytes of variables; a database holds 4096",
        ],
    );
    let desk = Desk::new();
    desk.file("rules/uid/1/allow", "");
    desk.file("rules/uid/1/env/V", "v".repeat(4093));
    desk.doorward(["compile", "rules", "r.cdb"]).assert(0, &[]);
    desk.file("rules/uid/1/env/V", "v".repeat(4094));
    assert_refused(&desk, &["rules/uid/1 has 4097 bytes of variables"]);
}

#[test]
fn what_its_caller_cannot_read_is_never_compiled_to_an_allow() {
    need!(root, "setpriv");
    for unreadable in [
        "rules/uid/1000/allow",
        "rules/uid/1000/exec",
        "rules/uid/1001/deny",
        "rules/uid/1001",
        "rules/gid",
    ] {
        let desk = Desk::new();
        desk.rules();
        fs::create_dir(desk.path("out")).unwrap();
        set_mode(&desk.path("out"), 0o777);
        set_mode(&desk.path(unreadable), 0o700);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "990", "--regid", "990", "--clear-groups"]);
        command
            .arg(doorward())
            .args(["rules", "compile", "rules", "out/r.cdb"]);
        let told = Told::of(command.current_dir(desk.0.dir()));
        told.assert(111, &[unreadable, "Permission denied"]);
        assert_eq!(names(&desk.path("out")), [""; 0]);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let desk = Desk::new();
    desk.rules();
    desk.doorward(["compile", "rules", "missing/r.cdb"])
        .assert(111, &["missing", "No such file"]);
    fs::create_dir(desk.path("directory")).unwrap();
    desk.doorward(["compile", "rules", "directory"])
        .assert(111, &["unable to write ", "directory"]);
    desk.doorward(["compile", "rules", ".."])
        .assert(100, &[".. is no name"]);
    desk.doorward(["compile", "rules"]).assert(100, &["FILE"]);
    assert_eq!(desk.names(), ["directory", "rules"]);
}

#[test]
fn rules_that_are_swapped_meanwhile_are_never_mixed() {
    let desk = Desk::new();
    for (name, value) in [("old", "1"), ("new", "2")] {
        for uid in 0..40 {
            desk.file(&format!("{name}/uid/{uid}/allow"), "");
            desk.file(&format!("{name}/uid/{uid}/env/V"), value);
        }
        // Of either, one key is the other's lack.
        desk.file(&format!("{name}/uid/only-{name}/deny"), "");
    }
    symlink("old", desk.path("rules")).unwrap();
    let done = AtomicBool::new(false);
    let mut made = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for name in ["new", "old"].iter().cycle() {
                symlink(name, desk.path("link")).unwrap();
                fs::rename(desk.path("link"), desk.path("rules")).unwrap();
                std::thread::sleep(Duration::from_millis(30));
                if done.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        let _done = SetOnDrop(&done);
        for _ in 0..20 {
            let told = desk.doorward(["compile", "rules", "r.cdb"]);
            if told.code == Some(0) {
                made += 1;
                let found = records(&desk, "r.cdb");
                let others = found.keys().filter(|key| key.contains("only"));
                let values: BTreeSet<_> = found.values().filter(|value| **value != DENY).collect();
                assert_eq!(
                    (others.count(), values.len(), found.len()),
                    (1, 1, 41),
                    "{found:?}"
                );
            } else {
                told.assert(111, &["changed while it was read"]);
            }
        }
    });
    println!("{made} of 20 were made");
}

/// Ends the other thread even if this one panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_signal_leaves_nothing_half_made() {
    need!("nice");
    let desk = Desk::new();
    desk.file("rules/uid/0/allow", "");
    // Enough to be at it for a while.
    for uid in 1..20_000 {
        symlink("0", desk.path(&format!("rules/uid/{uid}"))).unwrap();
    }
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(doorward());
    command.args(["rules", "compile", "rules", "r.cdb"]);
    command.current_dir(desk.0.dir()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    eventually("a file that is being written", || {
        assert_eq!(child.try_wait().unwrap(), None);
        desk.names()
            .iter()
            .any(|name| name.starts_with(".doorward-"))
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(111), "{told}");
    assert!(told.contains("stopped by signal 15"), "{told}");
    assert_eq!(desk.names(), ["rules"]);
}

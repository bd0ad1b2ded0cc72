//! A service with rules in a database: what becomes of it when the file is spoiled, replaced or cut.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use super::*;
use crate::support::{Door, Report, Served, User, eventually, probe};

/// Puts a database in its place, as `doorward rules compile` does.
fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    set_mode(&new, 0o600);
    // As old as one is that serves: what is written within the same tick of the clock cannot be told apart.
    age(&new);
    fs::rename(&new, path).unwrap();
}

fn age(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
}

fn allowing_1000() -> Vec<u8> {
    cdb::database([("uid/1000", ALLOW), ("uid/1001", DENY)])
}

fn allowing_1001() -> Vec<u8> {
    cdb::database([("uid/1001", ALLOW), ("uid/1000", DENY)])
}

/// A door that allows user 1000 by its rules, and where these are.
fn serve(options: &[&str]) -> (Served, PathBuf) {
    let door = Door::new()
        .args(["--mode", "0666", "--inetd"])
        .args(options);
    let rules = door.path("rules.cdb");
    put(&rules, &allowing_1000());
    let door = door
        .args(["--rules".into(), rules.clone()])
        .serve(["echo", "in"]);
    (door, rules)
}

#[track_caller]
fn comes_in(door: &Served, uid: u32) -> bool {
    let text = door.connect_as(&User::new(uid, uid)).read_text();
    assert!(text == "in\n" || text.is_empty(), "{text:?}");
    !text.is_empty()
}

fn reload(door: &Served) {
    door.signal(Signal::SIGHUP);
    door.wait_log("doorward: reloaded");
}

/// What the status says of the rules now.
fn rules_are_failing(door: &Served) -> bool {
    let statuses = door.notices().all();
    let last = statuses.iter().rev().map(|notice| format!("{notice:?}"));
    last.into_iter()
        .find(|text| text.contains("STATUS="))
        .is_some_and(|text| text.contains("rules failing"))
}

#[test]
fn a_record_decides_sets_variables_and_takes_the_place_of_the_program() {
    need!(root, "execlineb");
    let door = Door::new().args(["--mode", "0666", "--inetd", "-v"]);
    let rules = door.path("rules.cdb");
    let records: [(&str, &[u8]); 4] = [
        ("uid/1000", b"A\0\x0bROLE=guest\0\0\0"),
        ("uid/1001", DENY),
        ("uid/1002", b"A\0\0\0\x09echo exec"),
        ("gid/1003", ALLOW),
    ];
    put(&rules, &cdb::database(records));
    let door = door
        .args(["--rules".into(), rules])
        .serve(["sh", "-c", "echo role ${ROLE-none}"]);
    let told = |uid| door.connect_as(&User::new(uid, uid)).read_text();
    assert_eq!(told(1000), "role guest\n");
    assert_eq!(told(1001), "");
    assert_eq!(told(1002), "exec\n");
    assert_eq!(told(1003), "role none\n");
    assert_eq!(told(1004), "");
    for (uid, rule) in [(1000, "rule=uid/1000"), (1003, "rule=gid/1003")] {
        let line = door.wait_log(&format!("allow user={uid} "));
        assert!(line.contains(rule), "{line}");
    }
    let line = door.wait_log("deny user=1001 ");
    assert!(
        line.contains("reason=rule") && line.contains("uid/1001"),
        "{line}"
    );
}

#[test]
fn a_hand_off_takes_its_rules_from_a_database_too() {
    need!(root);
    let door = Door::new()
        .command("handoff")
        .args(["--mode", "0666", "-v"]);
    let rules = door.path("rules.cdb");
    put(&rules, &allowing_1000());
    let door = door
        .args(["--rules".into(), rules])
        .serve([probe().as_os_str(), "backend".as_ref()]);
    door.connect_as(&User::new(1001, 1001)).assert_closed();
    let line = door.wait_log("deny user=1001 ");
    assert!(line.contains("reason=rule"), "{line}");
    let _client = door.connect_as(&User::new(1000, 1000));
    let line = door.wait_log("allow user=1000 ");
    assert!(line.contains("rule=uid/1000"), "{line}");
}

#[test]
fn no_child_has_the_database_before_a_reload_or_after_it() {
    need!(root);
    let door = Door::new().args(["--mode", "0666"]);
    let rules = door.path("rules.cdb");
    put(&rules, &allowing_1000());
    let program = probe();
    let report = [program.as_os_str(), "report".as_ref(), "7".as_ref()];
    let door = door.args(["--rules".into(), rules.clone()]).serve(report);
    let numbers = || {
        let text = door.connect_as(&User::new(1000, 1000)).read_text();
        Report::parse(text).fd_numbers()
    };
    assert_eq!(numbers(), [0, 1, 2, 6, 7]);
    put(&rules, &allowing_1000());
    reload(&door);
    assert_eq!(numbers(), [0, 1, 2, 6, 7]);
    let own = door.fds();
    let open = own.values().filter(|file| file.contains("rules.cdb"));
    assert_eq!(open.count(), 1, "{own:?}");
}

#[test]
fn a_file_renamed_over_it_counts_from_the_next_sighup_on() {
    need!(root);
    let (door, rules) = serve(&[]);
    put(&rules, &allowing_1001());
    assert!(comes_in(&door, 1000) && !comes_in(&door, 1001));
    reload(&door);
    assert!(!comes_in(&door, 1000) && comes_in(&door, 1001));
    fs::remove_file(&rules).unwrap();
    assert!(comes_in(&door, 1001), "what is open stays");
    assert_eq!(door.count_log("doorward: error: "), 0, "{:#?}", door.log());
}

#[test]
fn what_cannot_be_opened_again_denies_everybody_until_it_can() {
    need!(root);
    let spoilers: [fn(&Path); 5] = [
        |path| fs::remove_file(path).unwrap(),
        |path| put(path, b"garbage"),
        |path| put(path, &allowing_1000()[..2100]),
        |path| set_mode(path, 0o666),
        |path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        },
    ];
    for spoil in spoilers {
        let (mut door, rules) = serve(&[]);
        assert!(comes_in(&door, 1000));
        spoil(&rules);
        reload(&door);
        for uid in [1000, 1001, 0] {
            assert!(!comes_in(&door, uid));
            assert!(!comes_in(&door, uid));
        }
        door.wait_log("doorward: error: unable to open the rules again: ");
        eventually("the trouble in the status", || rules_are_failing(&door));
        // Once at the reload, once for those who are refused.
        assert_eq!(door.count_log("doorward: error: "), 2, "{:#?}", door.log());
        assert!(door.running());
        if rules.exists() {
            fs::remove_file(&rules).unwrap();
        }
        put(&rules, &allowing_1001());
        assert!(comes_in(&door, 1001) && !comes_in(&door, 1000));
        eventually("a status without the trouble", || !rules_are_failing(&door));
        door.wait_log("rules work again");
    }
}

#[test]
fn what_is_written_in_place_denies_until_the_next_sighup() {
    need!(root);
    let (door, rules) = serve(&[]);
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&rules)
        .unwrap();
    file.write_all(&allowing_1001()).unwrap();
    for uid in [1000, 1001] {
        assert!(!comes_in(&door, uid));
    }
    let line = door.wait_log("doorward: error: ");
    assert!(
        line.contains("was written in place") && line.contains("SIGHUP"),
        "{line}"
    );
    reload(&door);
    assert!(!comes_in(&door, 1000) && comes_in(&door, 1001));
    door.wait_log("rules work again");
}

#[test]
fn made_writable_for_others_it_denies_until_it_is_not_any_more() {
    need!(root);
    let (door, rules) = serve(&[]);
    for mode in [0o620, 0o602] {
        set_mode(&rules, mode);
        assert!(!comes_in(&door, 1000));
        set_mode(&rules, 0o600);
        assert!(comes_in(&door, 1000));
    }
    std::os::unix::fs::chown(&rules, Some(1000), None).unwrap();
    assert!(!comes_in(&door, 1000));
}

#[test]
fn spoiled_under_load_it_never_admits_whom_neither_contents_admit() {
    need!(root);
    // Whoever cannot be found in here comes in: the worst that can befall a denial.
    let bytes = cdb::database([("uid/1001", DENY), ("uid/default", ALLOW)]);
    let tables = bytes.len() - 32;
    let (mut door, rules) = serve(&[]);
    let restore = || {
        put(&rules, &bytes);
        reload(&door);
    };
    restore();
    let spoilers: [&(dyn Fn(&fs::File) + Sync); 4] = [
        &|file| file.write_all_at(&[0; 32], tables as u64).unwrap(),
        &|file| file.write_all_at(&[0; 2048], 0).unwrap(),
        &|file| file.set_len(0).unwrap(),
        &|file| file.set_len(bytes.len() as u64 - 8).unwrap(),
    ];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for spoil in spoilers.iter().cycle().take(24) {
                let file = OpenOptions::new().write(true).open(&rules).unwrap();
                spoil(&file);
                eventually("a refusal", || !comes_in(&door, 1002));
                restore();
                eventually("an admission", || comes_in(&door, 1002));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) && !writer.is_finished() {
            assert!(!comes_in(&door, 1001), "admitted by no rule that ever was");
        }
        writer.join().unwrap();
    });
    assert!(door.running());
}

#[test]
fn one_who_serves_as_another_user_must_be_able_to_read_it() {
    need!(root);
    let door = Door::new().args(["--mode", "0666", "--inetd", "--run-as", "990:990"]);
    let rules = door.path("rules.cdb");
    put(&rules, &cdb::database([("uid/self", ALLOW)]));
    let outcome = door.args(["--rules".into(), rules]).fails(["true"]);
    outcome.assert(111, ["doorward: fatal: rules file ", "Permission denied"]);

    let door = Door::new().args(["--mode", "0666", "--inetd", "--run-as", "990:990"]);
    let rules = door.path("rules.cdb");
    put(&rules, &cdb::database([("uid/self", ALLOW)]));
    set_mode(&rules, 0o644);
    let door = door.args(["--rules".into(), rules]).serve(["echo", "in"]);
    assert!(comes_in(&door, 990) && !comes_in(&door, 0));
}

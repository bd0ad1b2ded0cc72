//! Trees that change: between two connections, and in the midst of one.

use std::sync::atomic::AtomicBool;
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::*;

/// How often the tree changes in the tests that read it meanwhile.
const ROUNDS: usize = 200;
const RESTLESS: &str = "changes again and again while it is read";

#[test]
fn an_edit_counts_for_the_next_connection() {
    let tree = Tree::new().dir("rules/uid");
    let rules = tree.open();
    assert_eq!(rules.judge(&asker(1)), Answer::NoRule);
    let tree = tree.file("rules/uid/1/deny", "");
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
    let tree = tree
        .file("rules/uid/1/allow", "")
        .file("rules/uid/1/env/V", "1");
    assert_eq!(
        granted(rules.judge(&asker(1))).env,
        [variable("V", Some("1"))]
    );
    fs::rename(tree.path("rules/uid"), tree.path("rules/was")).unwrap();
    assert_eq!(rules.judge(&asker(1)), Answer::NoRule);
}

#[test]
fn the_directory_swapped_by_rename_or_by_link_counts_for_the_next_connection() {
    let tree = Tree::new()
        .file("a/uid/1/allow", "")
        .file("b/uid/1/deny", "")
        .file("c/uid/1/allow", "")
        .mode("c", 0o757);
    let tree = tree.link("link", "a");
    fs::remove_dir(tree.rules()).unwrap();
    fs::rename(tree.path("link"), tree.rules()).unwrap();
    let rules = tree.open();
    granted(rules.judge(&asker(1)));

    let tree = tree.link("link", "b");
    fs::rename(tree.path("link"), tree.rules()).unwrap();
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));

    renameat2(
        AT_FDCWD,
        &tree.path("a"),
        AT_FDCWD,
        &tree.path("b"),
        RenameFlags::RENAME_EXCHANGE,
    )
    .unwrap();
    granted(rules.judge(&asker(1)));

    let tree = tree.link("link", "c");
    fs::rename(tree.path("link"), tree.rules()).unwrap();
    let cause = format!(
        "{} is writable by everybody (mode 0757); it must be writable by its owner alone",
        tree.shown("c")
    );
    assert_eq!(rules.judge(&asker(1)), Answer::Failed(cause));

    fs::remove_file(tree.rules()).unwrap();
    let gone = format!(
        "unable to read {}: No such file or directory (os error 2)",
        tree.shown("rules")
    );
    assert_eq!(rules.judge(&asker(1)), Answer::Failed(gone));

    // What was `a` before the exchange is denied, and `b` allowed.
    let _tree = tree.link("rules", "b");
    granted(rules.judge(&asker(1)));
}

#[test]
fn keys_exchanged_while_they_are_read_are_never_mixed() {
    let mut tree = Tree::new();
    for (key, value) in [("rules/uid/1", "old"), ("rules/other", "new")] {
        tree = tree
            .file(&format!("{key}/allow"), "")
            .file(&format!("{key}/exec"), value);
        tree = tree
            .file(&format!("{key}/env/A"), value)
            .file(&format!("{key}/env/B"), value);
    }
    let rules = tree.open();
    let (key, other) = (tree.path("rules/uid/1"), tree.path("rules/other"));
    let swap = |reader: &Reader| {
        renameat2(
            AT_FDCWD,
            &key,
            AT_FDCWD,
            &other,
            RenameFlags::RENAME_EXCHANGE,
        )
        .unwrap();
        reader.finish_look();
    };
    while_running(ROUNDS, swap, || {
        // Renaming is how one is meant to change rules: nobody is refused for it.
        let grant = granted(rules.judge(&asker(1)));
        let mut values: Vec<_> = grant.env.into_iter().map(|(_, value)| value).collect();
        values.push(grant.exec);
        assert!(
            values.iter().all(|value| *value == values[0]) && values.len() == 3,
            "{values:?}"
        );
    });
}

#[test]
fn a_key_removed_while_it_is_read_is_never_granted_in_part() {
    let tree = Tree::new().dir("rules/uid").dir("rules/new");
    let rules = tree.open();
    let (key, new) = (tree.path("rules/uid/1"), tree.path("rules/new/1"));
    let come_and_go = |_: &Reader| {
        fs::create_dir_all(new.join("env")).unwrap();
        for name in ["allow", "exec", "env/A", "env/B"] {
            fs::write(new.join(name), "x").unwrap();
            set_mode(&new.join(name), 0o644);
        }
        for dir in [&new, &new.join("env")] {
            set_mode(dir, 0o755);
            // So that removing shows whatever the resolution of the clock.
            let past = TimeSpec::new(1, 0);
            utimensat(AT_FDCWD, dir, &past, &past, UtimensatFlags::FollowSymlink).unwrap();
        }
        fs::rename(&new, &key).unwrap();
        // Out of the way before it is taken apart; a reader may have it open still.
        fs::rename(&key, &new).unwrap();
        fs::remove_dir_all(&new).unwrap();
    };
    while_running(ROUNDS, come_and_go, || match rules.judge(&asker(1)) {
        Answer::Allow(grant) => assert!(grant.env.len() == 2 && grant.exec.is_some(), "{grant:?}"),
        Answer::Deny(key) => panic!("denied by {key}"),
        Answer::NoRule | Answer::Failed(_) => {}
    });
}

#[test]
fn a_deny_that_becomes_allow_while_it_is_read_is_never_passed_over() {
    let tree = Tree::new()
        .file("rules/uid/1/deny", "")
        .file("rules/uid/default/allow", "");
    let rules = tree.open();
    let (deny, allow) = (
        tree.path("rules/uid/1/deny"),
        tree.path("rules/uid/1/allow"),
    );
    let change = |_: &Reader| {
        fs::rename(&deny, &allow).unwrap();
        fs::rename(&allow, &deny).unwrap();
    };
    while_running(20 * ROUNDS, change, || match rules.judge(&asker(1)) {
        Answer::Allow(Grant { key, .. }) | Answer::Deny(key) => assert_eq!(key, "uid/1"),
        Answer::Failed(cause) => assert!(cause.ends_with(RESTLESS), "{cause}"),
        Answer::NoRule => panic!("no rule"),
    });
}

#[test]
fn a_variable_that_comes_and_goes_is_there_or_not_and_never_removed() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .file("rules/uid/1/env/A", "x")
        .file("rules/B", "x");
    let rules = tree.open();
    let (inside, outside) = (tree.path("rules/uid/1/env/B"), tree.path("rules/B"));
    let come_and_go = |_: &Reader| {
        fs::rename(&outside, &inside).unwrap();
        fs::rename(&inside, &outside).unwrap();
    };
    while_running(ROUNDS, come_and_go, || match rules.judge(&asker(1)) {
        Answer::Allow(grant) => assert!(
            grant.env.iter().all(|(_, value)| value.is_some()),
            "{grant:?}"
        ),
        Answer::Failed(cause) => assert!(cause.ends_with(RESTLESS), "{cause}"),
        other => panic!("{other:?}"),
    });
}

/// Calls `look` for as long as another thread goes through its rounds of `change`, and at least once.
fn while_running(rounds: usize, change: impl Fn(&Reader) + Sync, look: impl Fn()) {
    let (done, reader) = (AtomicBool::new(false), Reader::default());
    thread::scope(|scope| {
        let _stopped = SetOnDrop(&reader.stopped);
        let writer = scope.spawn(|| {
            let _done = SetOnDrop(&done);
            for _ in 0..rounds {
                change(&reader);
            }
        });
        loop {
            look();
            reader.looks.fetch_add(1, Ordering::AcqRel);
            if done.load(Ordering::Acquire) {
                break;
            }
        }
        writer.join().unwrap();
    });
}

/// How far the one that looks has come.
#[derive(Default)]
struct Reader {
    looks: AtomicUsize,
    stopped: AtomicBool,
}

impl Reader {
    /// Until the look of this moment is over, so that no look meets two changes.
    fn finish_look(&self) {
        let now = self.looks.load(Ordering::Acquire);
        while self.looks.load(Ordering::Acquire) == now && !self.stopped.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }
}

/// Ends the other side's waiting even if this one panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until what is changed from now on has a later ctime than what was changed before: coarse clocks tick.
pub(super) fn wait_for_tick(tree: &Tree) {
    let clock = tree.path("clock");
    let changed = || {
        fs::write(&clock, "").unwrap();
        let stat = nix::sys::stat::stat(&clock).unwrap();
        (stat.st_ctime, stat.st_ctime_nsec)
    };
    let before = changed();
    while changed() == before {}
}

/// Rules that take everything for settled; `None`, said aloud, where nothing is remembered.
fn remembering(tree: &Tree) -> Option<RuleTree> {
    wait_for_tick(tree);
    let mut rules = tree.open();
    if !rules.remember_at_once() {
        eprintln!("SKIPPED, needs a local file system for temporary files");
        return None;
    }
    Some(rules)
}

#[test]
fn an_answer_is_remembered_and_every_change_that_it_rests_on_counts_at_once() {
    type Change = (&'static str, fn(&Tree), fn(&Answer) -> bool);
    fn is_old(answer: &Answer) -> bool {
        matches!(answer, Answer::Allow(grant) if grant.env == [variable("V", Some("old"))] && grant.exec.is_none())
    }
    fn has_failed(answer: &Answer) -> bool {
        matches!(answer, Answer::Failed(_))
    }
    let changes: [Change; 13] = [
        ("nothing", |_| (), is_old),
        (
            "a deny beside allow",
            |tree| fs::write(tree.path("rules/uid/1/deny"), "").unwrap(),
            is_old,
        ),
        (
            "no allow",
            |tree| fs::remove_file(tree.path("rules/uid/1/allow")).unwrap(),
            |answer| *answer == Answer::NoRule,
        ),
        (
            "deny in its place",
            |tree| {
                let key = tree.path("rules/uid/1");
                fs::rename(key.join("allow"), key.join("deny")).unwrap();
            },
            |answer| *answer == Answer::Deny("uid/1".into()),
        ),
        (
            "an allow that everybody can write",
            |tree| set_mode(&tree.path("rules/uid/1/allow"), 0o666),
            has_failed,
        ),
        (
            "a key that everybody can write",
            |tree| set_mode(&tree.path("rules/uid/1"), 0o777),
            has_failed,
        ),
        (
            "a branch that everybody can write",
            |tree| set_mode(&tree.path("rules/uid"), 0o777),
            has_failed,
        ),
        (
            "a directory that everybody can write",
            |tree| set_mode(&tree.rules(), 0o777),
            has_failed,
        ),
        (
            "another value",
            |tree| fs::write(tree.path("rules/uid/1/env/V"), "new").unwrap(),
            |answer| matches!(answer, Answer::Allow(grant) if grant.env == [variable("V", Some("new"))]),
        ),
        (
            "another variable",
            |tree| fs::write(tree.path("rules/uid/1/env/W"), "").unwrap(),
            |answer| matches!(answer, Answer::Allow(grant) if grant.env.len() == 2),
        ),
        (
            "a script",
            |tree| fs::write(tree.path("rules/uid/1/exec"), "x").unwrap(),
            |answer| matches!(answer, Answer::Allow(grant) if grant.exec == Some(b"x".to_vec())),
        ),
        (
            "another branch",
            |tree| fs::rename(tree.path("rules/uid"), tree.path("rules/was")).unwrap(),
            |answer| *answer == Answer::NoRule,
        ),
        (
            "no directory",
            |tree| fs::rename(tree.rules(), tree.path("was")).unwrap(),
            has_failed,
        ),
    ];
    for (what, change, is_right) in changes {
        let tree = Tree::new()
            .file("rules/uid/1/allow", "")
            .file("rules/uid/1/env/V", "old");
        let Some(rules) = remembering(&tree) else {
            return;
        };
        for remembered in [0, 1, 1] {
            assert!(is_old(&rules.judge(&asker(1))));
            assert_eq!(rules.remembered(), remembered);
        }
        wait_for_tick(&tree);
        change(&tree);
        for _ in 0..3 {
            let answer = rules.judge(&asker(1));
            assert!(is_right(&answer), "{what}: {answer:?}");
        }
    }
}

#[test]
fn what_was_changed_just_now_or_is_a_link_is_read_each_time() {
    let tree = Tree::new().file("rules/uid/1/allow", "");
    let rules = tree.open();
    for _ in 0..3 {
        granted(rules.judge(&asker(1)));
        assert_eq!(rules.remembered(), 0);
    }

    let tree = Tree::new()
        .file("rules/uid/1/deny", "")
        .link("rules/uid/2", "1");
    let Some(rules) = remembering(&tree) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(rules.judge(&asker(2)), Answer::Deny("uid/2".into()));
        assert_eq!(rules.remembered(), 0);
    }
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
    assert_eq!(rules.remembered(), 1);
}

#[test]
fn there_is_an_end_to_what_is_remembered() {
    let tree = Tree::new().file("rules/uid/default/deny", "");
    let Some(rules) = remembering(&tree) else {
        return;
    };
    let mut most = 0;
    for uid in 100_000..103_000 {
        assert_eq!(rules.judge(&asker(uid)), Answer::Deny("uid/default".into()));
        most = most.max(rules.remembered());
    }
    assert_eq!(most, 1024);
}

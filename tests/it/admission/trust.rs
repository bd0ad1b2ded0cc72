//! Rules that cannot be read, or that somebody else could write: nobody whom they concern comes in by them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Rules, comes_in, greeter, reachable, set_mode, user};
use crate::support::{DEADLINE, Served, eventually};

/// Rules that allow 1000 with a variable, and 1001.
fn serve(options: &[&str]) -> (Served, Rules) {
    let door = reachable();
    let rules = Rules::of(&door);
    rules.file("uid/1000/env/A", "b");
    rules.allow("uid/1000");
    rules.allow("uid/1001");
    let door = door.args(["--rules".into(), rules.path("")]).args(options);
    (greeter(door), rules)
}

/// Breaks something, sees 1000 refused, mends it and sees him come in.
#[track_caller]
fn assert_denies_while_broken(broken: &str, options: &[&str], spoil: fn(&Path), mend: fn(&Path)) {
    let (mut door, rules) = serve(options);
    let path = rules.path(broken);
    assert!(comes_in(&door, &user(1000)), "{broken}");

    spoil(&path);
    for _ in 0..5 {
        assert!(
            !comes_in(&door, &user(1000)),
            "{broken} is broken and was believed"
        );
    }
    let named = Path::new(broken)
        .file_name()
        .map_or("rules", |name| name.to_str().unwrap());
    let line = door.wait_log("doorward: error: ");
    assert!(
        line.contains(named) || line.contains("/dev/zero"),
        "{broken}: {line}"
    );
    let line = door.wait_log("doorward: deny user=1000 ");
    assert!(line.contains(" reason=rule "), "{broken}: {line}");
    assert_eq!(
        door.count_log("doorward: error: "),
        1,
        "{broken}: {:#?}",
        door.log()
    );
    door.wait_notice("rules failing");
    assert!(door.running());

    mend(&path);
    assert!(
        comes_in(&door, &user(1000)),
        "{broken} was mended:\n{}",
        door.log().join("\n")
    );
    eventually("a status without the trouble", || {
        let notices = door.notices();
        notices.wait_for("STATUS=", DEADLINE).expect("a status");
        let statuses = notices.all();
        let last = statuses
            .iter()
            .rev()
            .find(|notice| format!("{notice:?}").contains("STATUS="));
        last.is_some_and(|notice| !format!("{notice:?}").contains("rules failing"))
    });
}

fn add_mode(path: &Path, bits: u32) {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
    set_mode(path, mode | bits);
}

fn readable(path: &Path) {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    set_mode(path, mode);
    chown(path, Some(0), Some(0)).unwrap();
}

#[test]
fn what_others_may_write_denies() {
    need!(root);
    for node in [
        "",
        "uid",
        "uid/1000",
        "uid/1000/allow",
        "uid/1000/env",
        "uid/1000/env/A",
    ] {
        assert_denies_while_broken(node, &[], |path| add_mode(path, 0o020), readable);
    }
    let foreign = |path: &Path| chown(path, Some(1000), None).unwrap();
    assert_denies_while_broken("uid/1000/allow", &[], foreign, readable);
    assert_denies_while_broken("uid/1000", &[], foreign, readable);
    assert_denies_while_broken("uid", &[], |path| add_mode(path, 0o002), readable);
}

#[test]
fn what_cannot_be_read_denies() {
    need!(root);
    // Root reads everything: only another user can be kept from it.
    for node in ["uid", "uid/1000", "uid/1000/env", "uid/1000/env/A"] {
        let spoil = |path: &Path| set_mode(path, 0o700);
        let spoil_file = |path: &Path| set_mode(path, 0o600);
        let is_file = node.ends_with('A');
        assert_denies_while_broken(
            node,
            &["--run-as", "4321:4321"],
            if is_file { spoil_file } else { spoil },
            readable,
        );
    }
}

#[test]
fn odd_files_deny_and_never_hold_doorward_up() {
    need!(root);
    for spoil in [
        (|path: &Path| {
            fs::remove_file(path).unwrap();
            mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap();
        }) as fn(&Path),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            symlink("nowhere", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            symlink("/dev/zero", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            symlink("A", path).unwrap();
        },
        |path| fs::write(path, vec![b'x'; 4096]).unwrap(),
    ] {
        assert_denies_while_broken("uid/1000/env/A", &[], spoil, |path| {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
            fs::write(path, "b").unwrap();
            set_mode(path, 0o644);
        });
    }
}

#[test]
fn a_directory_that_is_moved_away_denies_everybody() {
    need!(root);
    assert_denies_while_broken(
        "",
        &[],
        |path| fs::rename(path, path.with_file_name("away")).unwrap(),
        |path| fs::rename(path.with_file_name("away"), path).unwrap(),
    );
}

#[test]
fn a_rule_that_is_broken_for_one_user_leaves_the_others_theirs_and_is_told_once() {
    need!(root);
    let (door, rules) = serve(&[]);
    set_mode(&rules.path("uid/1000/allow"), 0o666);
    let second = std::time::Duration::from_millis(1100);
    let begun = std::time::Instant::now();
    let mut rounds = 0;
    // Longer than lines of one sort are held back.
    while begun.elapsed() < second || rounds < 5 {
        assert!(!comes_in(&door, &user(1000)));
        assert!(comes_in(&door, &user(1001)));
        rounds += 1;
    }
    assert_eq!(door.count_log("doorward: error: "), 1, "{:#?}", door.log());
    assert_eq!(door.count_log("rules work again"), 0, "{:#?}", door.log());

    readable(&rules.path("uid/1000/allow"));
    assert!(comes_in(&door, &user(1000)));
    eventually("the word that all is well", || {
        comes_in(&door, &user(1001)) && door.count_log("rules work again") == 1
    });
}

#[test]
fn a_source_that_others_could_write_is_fatal_at_the_start() {
    need!(root);
    for spoil in [
        (|path: &Path| set_mode(path, 0o775)) as fn(&Path),
        |path| set_mode(path, 0o777),
        |path| chown(path, Some(1000), None).unwrap(),
        |path| set_mode(path.parent().unwrap(), 0o777),
        |path| chown(path.parent().unwrap(), Some(1000), None).unwrap(),
    ] {
        let door = reachable();
        let rules = Rules::of(&door);
        rules.allow("uid/default");
        spoil(&rules.0);
        door.args(["--rules".into(), rules.path("")])
            .fails(["true"])
            .assert(111, ["doorward: fatal: rules directory "]);
    }
}

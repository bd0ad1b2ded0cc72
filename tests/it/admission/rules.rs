//! `--rules DIR`: who comes in by it. It is read live.

use std::fs;

use super::{Rules, comes_in, greeter, reachable, user};
use crate::support::{Door, Served, User};

/// A door with an empty rules directory.
fn door_with_rules() -> (Door, Rules) {
    let door = reachable();
    let rules = Rules::of(&door);
    let door = door.args(["--rules".into(), rules.path("")]);
    (door, rules)
}

/// The rule that let `user` in, or kept him out, as the log has it.
#[track_caller]
fn rule_for(door: &Served, user: &User) -> String {
    let word = if comes_in(door, user) {
        "allow"
    } else {
        "deny"
    };
    let line = door.wait_log(&format!(
        "doorward: {word} user={} group={} ",
        user.uid, user.gid
    ));
    let rule = line.split(' ').find_map(|word| word.strip_prefix("rule="));
    format!(
        "{word} {}",
        rule.unwrap_or_else(|| panic!("no rule in {line}"))
    )
}

#[test]
fn keys_are_asked_in_order_and_the_first_answer_counts() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.allow("uid/self");
    rules.deny("uid/4321");
    rules.deny("uid/1000");
    rules.allow("gid/self");
    rules.deny("gid/1234");
    rules.allow("gid/50");
    rules.deny("gid/60");
    rules.deny("uid/default");
    let door = greeter(door.args(["-v", "--run-as", "4321:1234"]));
    for (user, expected) in [
        (User::new(4321, 60), "allow uid/self"),
        (User::new(1000, 50), "deny uid/1000"),
        (User::new(1001, 1234), "allow gid/self"),
        (User::new(1001, 50), "allow gid/50"),
        (User::new(1001, 60), "deny gid/60"),
        (User::new(1001, 70), "deny uid/default"),
        // The effective group only.
        (User::new(1001, 70).groups([50, 1234]), "deny uid/default"),
        // A number is no self.
        (User::new(0, 0), "deny uid/default"),
    ] {
        assert_eq!(rule_for(&door, &user), expected, "{user:?}");
    }
}

#[test]
fn without_a_match_it_is_deny_and_a_key_without_an_answer_is_no_match() {
    need!(root);
    let (door, rules) = door_with_rules();
    rules.directory("uid/1000");
    rules.file("uid/1001/env/A", "b");
    let door = greeter(door);
    for id in [1000, 1001, 1002, 0] {
        assert_eq!(rule_for(&door, &user(id)), "deny none");
    }
    rules.allow("uid/default");
    for id in [1000, 1001, 1002, 0] {
        assert!(comes_in(&door, &user(id)));
    }
}

#[test]
fn a_rule_made_or_changed_while_serving_acts_on_the_next_connection() {
    need!(root);
    let (door, rules) = door_with_rules();
    let door = greeter(door);
    for _ in 0..3 {
        assert!(!comes_in(&door, &user(1000)));
        rules.allow("uid/1000");
        assert!(comes_in(&door, &user(1000)));
        fs::remove_file(rules.path("uid/1000/allow")).unwrap();
        assert!(!comes_in(&door, &user(1000)));
        rules.allow("gid/1000");
        assert!(comes_in(&door, &user(1000)));
        fs::remove_dir_all(rules.path("gid")).unwrap();
    }
}

#[test]
fn a_missing_directory_at_the_start_is_fatal() {
    let door = reachable();
    let rules = door.path("no-rules");
    let socket = door.path("s");
    let outcome = door.args(["--rules".into(), rules.clone()]).fails(["true"]);
    outcome.assert(
        111,
        [
            "doorward: fatal: rules directory ",
            rules.to_str().unwrap(),
            "No such file",
        ],
    );
    assert!(!socket.exists(), "a node that nobody serves is left");
}

#[test]
fn a_file_that_is_no_database_is_a_clear_error() {
    let door = reachable();
    let rules = door.path("rules");
    fs::write(&rules, "").unwrap();
    let outcome = door.args(["--rules".into(), rules.clone()]).fails(["true"]);
    outcome.assert(
        111,
        [
            "doorward: fatal: rules file ",
            rules.to_str().unwrap(),
            "is no database of rules",
        ],
    );
}

#[test]
fn rules_that_the_new_user_cannot_read_are_fatal_at_the_start() {
    need!(root);
    for unreadable in ["", "uid", "gid"] {
        let (door, rules) = door_with_rules();
        rules.allow("uid/default");
        rules.allow("gid/5");
        super::set_mode(&rules.path(unreadable), 0o700);
        door.args(["--run-as", "4321:4321"])
            .fails(["true"])
            .assert(111, ["doorward: fatal: rules directory "]);
    }
}

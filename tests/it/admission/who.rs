//! `--allow` and `--deny`.

use super::{comes_in, greeter, reachable, user};
use crate::support::{Door, User};

/// Serves with `options` and asks for everybody.
#[track_caller]
fn assert_admits(options: &[&str], expected: &[(User, bool)]) {
    let door = greeter(reachable().args(options));
    for (user, admitted) in expected {
        assert_eq!(comes_in(&door, user), *admitted, "{options:?} {user:?}");
    }
}

#[test]
fn users_are_known_by_name_and_number() {
    need!(root);
    for who in ["user:daemon", "user:1"] {
        assert_admits(
            &["--allow", who],
            &[(user(1), true), (user(2), false), (user(0), false)],
        );
    }
}

#[test]
fn groups_are_the_effective_one_or_a_supplementary_one_by_name_and_number() {
    need!(root);
    for who in ["group:daemon", "group:1"] {
        assert_admits(
            &["--allow", who],
            &[
                (User::new(1000, 1), true),
                (User::new(1000, 1000).groups([5, 1, 7]), true),
                (User::new(1000, 1000).groups([5, 7]), false),
                (User::new(1, 1000), false),
            ],
        );
    }
}

#[test]
fn groups_are_those_of_the_moment_when_the_client_connected() {
    need!(root);
    let door = greeter(reachable().args(["--allow", "group:77"]));
    // The thread that connects has the group; the one that holds the connection afterwards never had it.
    assert!(comes_in(&door, &user(1000).groups([77])));
    assert!(!comes_in(&door, &user(1000)));
}

#[test]
fn self_is_the_user_that_doorward_runs_as() {
    need!(root);
    assert_admits(
        &["--allow", "self"],
        &[(user(0), true), (user(4321), false)],
    );
    assert_admits(
        &["--allow", "self", "--run-as", "4321:4321"],
        &[
            (user(0), false),
            (user(4321), true),
            (User::new(4321, 5), true),
        ],
    );
}

#[test]
fn all_is_everybody() {
    need!(root);
    let everybody = [user(0), user(1000), User::nobody()];
    let each = |admitted| everybody.clone().map(|user| (user, admitted));
    assert_admits(&["--allow", "all"], &each(true));
    assert_admits(&["--deny", "all"], &each(false));
}

#[test]
fn the_first_match_in_the_given_order_decides() {
    need!(root);
    assert_admits(
        &["--deny", "user:5", "--allow", "group:7", "--deny", "all"],
        &[
            (User::new(5, 7), false),
            (User::new(6, 7), true),
            (user(6), false),
        ],
    );
    assert_admits(
        &["--allow", "group:7", "--deny", "user:5", "--allow", "all"],
        &[(User::new(5, 7), true), (user(5), false), (user(6), true)],
    );
    // The same options, only their order differs.
    assert_admits(&["--allow", "all", "--deny", "user:5"], &[(user(5), true)]);
    assert_admits(&["--deny", "user:5", "--allow", "all"], &[(user(5), false)]);
}

#[test]
fn with_any_allow_the_default_is_deny_and_with_denials_alone_it_is_allow() {
    need!(root);
    assert_admits(&["--deny", "user:5"], &[(user(5), false), (user(6), true)]);
    assert_admits(
        &["--deny", "user:5", "--allow", "user:7"],
        &[(user(5), false), (user(6), false), (user(7), true)],
    );
}

#[test]
fn a_number_stands_for_itself_whatever_names_there_are() {
    need!(root);
    // No such account: a number needs none.
    assert_admits(
        &["--allow", "user:4294967294", "--allow", "group:54321"],
        &[
            (user(4294967294), true),
            (User::new(9, 54321), true),
            (user(9), false),
        ],
    );
}

#[test]
fn an_unknown_name_is_wrong_use_and_named() {
    for (option, who) in [
        ("--allow", "user:no-such-user"),
        ("--deny", "user:no-such-user"),
        ("--allow", "group:no-such-group"),
        // A name of the wrong kind: there is a group tty and no such user.
        ("--allow", "user:tty"),
    ] {
        Door::new()
            .args([option, who])
            .fails(["true"])
            .assert(100, ["doorward: fatal: ", who]);
    }
}

#[test]
fn a_who_that_is_none_is_wrong_use() {
    for who in [
        "root",
        "",
        "user:",
        "group:",
        "uid:0",
        "ALL",
        "self:0",
        "user",
        ":0",
        "user:-1",
        "user:4294967295",
    ] {
        let outcome = Door::new().args([format!("--allow={who}")]).fails(["true"]);
        assert_eq!(outcome.code(), 100, "{who}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("--allow") || outcome.stderr.contains(who),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn rules_and_options_do_not_go_together_and_both_are_named() {
    for (option, who) in [("--allow", "all"), ("--deny", "user:0")] {
        let door = Door::new();
        std::fs::create_dir(door.path("rules")).unwrap();
        let rules = door.path("rules").into_os_string();
        door.args(["--rules".into(), rules, option.into(), who.into()])
            .fails(["true"])
            .assert(100, ["--rules", &format!("{option} {who}")]);
    }
}

#[test]
fn without_rules_the_socket_decides_alone_and_that_is_said_once() {
    need!(root);
    let door = greeter(Door::new().args(["--mode", "0660", "--owner", "0:1234"]));
    assert!(comes_in(&door, &user(0)));
    assert!(comes_in(&door, &User::new(1000, 1234)));
    let refused = door.dial().user(&user(1000)).try_connect().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(door.count_log("no rules"), 1, "{:?}", door.log());
}

//! `doorward rules check`: who would come in, by which rule, and with what.

use std::process::Command;

use super::*;
use crate::support::{Door, User};

/// A directory and the database made of it.
const BOTH: [&str; 2] = ["rules", "rules.cdb"];

fn desk() -> Desk {
    let desk = Desk::new();
    desk.rules();
    desk.doorward(["compile", "rules", "rules.cdb"])
        .assert(0, &[]);
    desk
}

fn check(desk: &Desk, rules: &str, uid: &str, gid: &str) -> Told {
    desk.doorward(["check", "--rules", rules, "--user", uid, "--group", gid])
}

#[test]
fn who_is_admitted_is_told_the_rule_and_what_comes_with_it() {
    let desk = desk();
    for rules in BOTH {
        let told = check(&desk, rules, "1000", "7");
        told.assert(
            0,
            &[
                "(uid 1000, gid 7",
                " would be admitted.\n",
                "The rule uid/1000 decides, ",
                rules,
                "It sets ROLE=guest of ours\n",
                "It removes HOME.\n",
                "with this text: echo hello\\x0a\n",
            ],
        );
        assert_eq!(told.err, "");
        check(&desk, rules, "7777777", "20").assert(
            0,
            &[
                "User (uid 7777777, gid 20) would be admitted",
                "The rule gid/20 decides",
            ],
        );
    }
    check(&desk, "rules", "1000", "7").assert(0, &["in the directory rules/uid/1000."]);
    check(&desk, "rules.cdb", "1000", "7").assert(0, &["a record of the file rules.cdb."]);
}

#[test]
fn who_is_refused_is_told_why_and_the_exit_code_is_1() {
    let desk = desk();
    for rules in BOTH {
        check(&desk, rules, "1001", "20")
            .assert(1, &[" would be refused.\n", "The rule uid/1001 decides"]);
        let told = check(&desk, rules, "7777777", "7");
        told.assert(1, &[" would be refused.\n", "No rule of ", " matches"]);
        assert!(!told.out.contains("It sets"), "{told:?}");
    }
}

#[test]
fn a_service_decides_as_the_check_says() {
    need!(root);
    for rules in BOTH {
        let door = Door::new().args(["--mode", "0666", "--inetd"]);
        let desk = desk();
        let rules = desk.path(rules);
        let door = door.args([
            "--run-as".as_ref(),
            "0:0".as_ref(),
            "--rules".as_ref(),
            rules.as_os_str(),
        ]);
        let door = door.serve(["echo", "in"]);
        for (uid, gid) in [
            (0, 0),
            (0, 5),
            (1000, 1),
            (1001, 20),
            (1002, 20),
            (1002, 21),
        ] {
            let code = check(
                &desk,
                rules.to_str().unwrap(),
                &uid.to_string(),
                &gid.to_string(),
            )
            .code;
            // The one whom `exec` gives a greeting is admitted as well.
            let greeting = door.connect_as(&User::new(uid, gid)).read_text();
            assert_eq!(
                code,
                Some(i32::from(greeting.is_empty())),
                "{uid}:{gid} {greeting:?}"
            );
        }
    }
}

#[test]
fn rules_that_fail_refuse_and_rules_that_are_not_there_are_exit_111() {
    let desk = desk();
    desk.file("rules/uid/1002/allow", "");
    set_mode(&desk.path("rules/uid/1002/allow"), 0o664);
    check(&desk, "rules", "1002", "7").assert(
        1,
        &[
            " would be refused.\n",
            "The rules failed: ",
            "uid/1002/allow is writable by group",
        ],
    );
    desk.file("odd.cdb", cdb::database([("uid/1", b"X")]));
    check(&desk, "odd.cdb", "1", "7").assert(
        1,
        &[
            "The rules failed: ",
            "odd.cdb is broken: the record of uid/1 is neither allow nor deny",
        ],
    );
    check(&desk, "missing", "1", "7").assert(111, &["fatal: ", "missing", "No such file"]);
    desk.file("text", "no database");
    check(&desk, "text", "1", "7").assert(111, &["text is no database of rules"]);
    for spoiled in BOTH {
        set_mode(&desk.path(spoiled), 0o777);
        check(&desk, spoiled, "1000", "7").assert(111, &["is writable by everybody"]);
    }
}

#[test]
fn options_are_explained_with_the_groups_of_the_account() {
    need!(root, "unshare", "mount");
    let desk = Desk::new();
    desk.file(
        "passwd",
        "root:x:0:0::/:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n",
    );
    desk.file(
        "group",
        "root:x:0:\nwheel:x:2001:bob,alice\nalice:x:1001:\n",
    );
    let check = |words: &[&str]| {
        let script = r#"mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec "$0" rules check "$@""#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(doorward())
            .args(words);
        Told::of(command.current_dir(desk.0.dir()))
    };
    let alice = "User alice (uid 1001, gid 1001, groups 2001) would be ";
    check(&["--allow", "group:wheel", "--user", "alice"]).assert(
        0,
        &[alice, "admitted.\n", "\"group:wheel\" that matches first"],
    );
    check(&["--user", "1001", "--deny", "user:alice", "--allow", "all"])
        .assert(1, &[alice, "refused.\n", "\"user:alice\""]);
    // The order of the two kinds is that of the command line.
    check(&["--allow", "all", "--deny", "user:alice", "--user", "alice"]).assert(0, &["\"all\""]);
    check(&["--allow", "user:0", "--user", "alice", "--group", "root"])
        .assert(1, &["(uid 1001, gid 0, groups 2001)", "No option matches"]);
    check(&["--deny", "user:0", "--user", "alice"]).assert(0, &["No option matches"]);
    check(&["--allow", "group:staff", "--user", "alice"])
        .assert(100, &["--allow group:staff: no such user or group"]);
}

#[test]
fn it_is_asked_as_the_user_who_would_serve() {
    need!(root);
    let desk = desk();
    for rules in BOTH {
        set_mode(&desk.path("rules.cdb"), 0o644);
        let check = |words: &[&str]| {
            desk.doorward(
                [
                    &["check", "--rules", rules, "--user", "990", "--group", "5"],
                    words,
                ]
                .concat(),
            )
        };
        check(&[]).assert(1, &["with uid 0 and gid 0"]);
        check(&["--run-as", "990:991"]).assert(
            0,
            &["The rule uid/self decides", "with uid 990 and gid 991"],
        );
        check(&["--run-as", "991:5"]).assert(1, &["with uid 991 and gid 5"]);
        set_mode(&desk.path(rules), 0o700);
        check(&["--run-as", "990:991"]).assert(111, &["Permission denied"]);
    }
}

#[test]
fn wrong_use_is_exit_100() {
    let desk = desk();
    for (words, why) in [
        (&["--user", "0"][..], "needs rules"),
        (&["--rules", "rules"], "--user"),
        (
            &["--rules", "rules", "--user", "no-such-user"],
            "--user: no such user: no-such-user",
        ),
        (
            &["--rules", "rules", "--user", "7777777"],
            "--user 7777777: there is no such account, so it needs --group",
        ),
        (
            &[
                "--rules",
                "rules",
                "--user",
                "0",
                "--group",
                "no-such-group",
            ],
            "--group: no such group: no-such-group",
        ),
        (
            &["--rules", "rules", "--allow", "all", "--user", "0"],
            "--rules and --allow all make no sense together",
        ),
        (
            &["--rules", "rules", "--user", "0", "--deny-text", "no"],
            "--deny-text no and rules check make no sense together",
        ),
        (
            &["--rules", "rules", "--user", "0", "--run-as", "7777777"],
            "--run-as: 7777777 has no account",
        ),
        (&["--allow", "alice", "--user", "0"], "--allow alice"),
        (&["--rules", "rules", "--user", "0", "word"], "word"),
    ] {
        let told = desk.doorward([&["check"], words].concat());
        told.assert(100, &[why]);
        assert_eq!(told.out, "");
    }
    desk.doorward(["nothing"]).assert(100, &["nothing"]);
    desk.doorward([""; 0])
        .assert(100, &["Usage: doorward rules"]);
}

#[test]
fn nothing_that_is_stored_can_forge_a_line() {
    let desk = Desk::new();
    let env = b"A=x\nUser root would be admitted.\x1b[2J\0";
    let value = [b"A\0", &[env.len() as u8][..], env, b"\0\x03a\nb"].concat();
    desk.file("odd.cdb", cdb::database([("uid/1", value)]));
    let told = check(&desk, "odd.cdb", "1", "7");
    told.assert(
        0,
        &[
            "It sets A=x\\x0aUser root would be admitted.\\x1b[2J\n",
            "this text: a\\x0ab\n",
        ],
    );
    let lines = told.out.lines().filter(|line| line.starts_with("User "));
    assert_eq!(lines.count(), 1, "{told:?}");
}

#[test]
fn an_answer_that_nobody_can_read_is_no_admission() {
    need!("sh");
    let desk = desk();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"exec "$0" rules check --rules rules --user 1000 --group 7 >/dev/full"#,
    ]);
    command.arg(doorward()).current_dir(desk.0.dir());
    Told::of(&mut command).assert(111, &["unable to write to standard output"]);
}

//! `doorward rules dump`: a directory that says the same, or nothing at all.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::*;

/// Dumps a database with these records where it must fail: 111, these words, and nothing is written anywhere.
#[track_caller]
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let desk = Desk::new();
    desk.file("in/r.cdb", bytes);
    desk.file("in/other", "");
    let before = tree(desk.0.dir());
    desk.doorward(["dump", "in/r.cdb", "in/rules"])
        .assert(111, words);
    assert_eq!(tree(desk.0.dir()), before);
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let desk = Desk::new();
    desk.rules();
    desk.file("rules/uid/1000/env/EMPTY", "\n");
    desk.file("rules/uid/1000/env/LINES", b"a\0b\0\0c\n");
    desk.file("rules/reversedns/example.org/deny", "");
    desk.doorward(["compile", "rules", "r.cdb"]).assert(0, &[]);
    desk.doorward(["dump", "r.cdb", "back"]).assert(0, &[]);
    assert_eq!(tree(&desk.path("back")), tree(&desk.path("rules")));
    desk.doorward(["compile", "back", "again.cdb"])
        .assert(0, &[]);
    assert_eq!(
        fs::read(desk.path("again.cdb")).unwrap(),
        fs::read(desk.path("r.cdb")).unwrap()
    );
    assert_eq!(desk.names(), ["again.cdb", "back", "r.cdb", "rules"]);
}

#[test]
fn nobody_else_can_write_what_was_made_whatever_the_umask() {
    need!("sh");
    let desk = Desk::new();
    desk.rules();
    desk.doorward(["compile", "rules", "r.cdb"]).assert(0, &[]);
    for (umask, directory, file) in [("000", 0o755, 0o644), ("077", 0o700, 0o600)] {
        let mut command = Command::new("sh");
        command.args(["-c", r#"umask "$1"; exec "$0" rules dump r.cdb "back$1""#]);
        command.arg(doorward()).arg(umask).current_dir(desk.0.dir());
        Told::of(&mut command).assert(0, &[]);
        let top = desk.path(&format!("back{umask}"));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&top), directory);
        for (name, text) in tree(&top) {
            let expected = if text.is_none() { directory } else { file };
            assert_eq!(mode(&top.join(&name)), expected, "{name:?}");
        }
    }
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let desk = Desk::new();
    desk.rules();
    desk.doorward(["compile", "rules", "r.cdb"]).assert(0, &[]);
    fs::create_dir(desk.path("empty")).unwrap();
    std::os::unix::fs::symlink("nowhere", desk.path("link")).unwrap();
    for there in ["empty", "link", "r.cdb", "rules"] {
        desk.doorward(["dump", "r.cdb", there])
            .assert(111, &[there, "it exists"]);
    }
    assert_eq!(names(&desk.path("empty")), [""; 0]);
    desk.doorward(["dump", "r.cdb", "missing/rules"])
        .assert(111, &["missing", "No such file"]);
    desk.doorward(["dump", "r.cdb", ".."])
        .assert(111, &["it exists"]);
    assert_eq!(desk.names(), ["empty", "link", "r.cdb", "rules"]);
}

#[test]
fn a_key_that_leads_elsewhere_is_refused_before_anything_is_written() {
    for key in [
        "../x",
        "../../x/y",
        "uid/..",
        "uid/.",
        "./x",
        "/uid/1",
        "/x",
        "uid/",
        "uid",
        "uid/1/2",
        "uid//1",
        ".uid/1",
        "uid/.1",
        "",
        "/",
        "uid/a\0b",
    ] {
        // A good one first: it must not be there either.
        assert_refused(
            &cdb::database([("uid/1", ALLOW), (key, ALLOW)]),
            &["two names"],
        );
    }
    let long = format!("uid/{}", "x".repeat(256));
    assert_refused(&cdb::database([(&long, ALLOW)]), &["two names"]);
}

#[test]
fn what_no_directory_can_say_is_refused() {
    let allow = |env: &str| {
        let value = [&[b'A', 0, env.len() as u8], env.as_bytes(), b"\0\0"].concat();
        cdb::database([("uid/0", ALLOW.to_vec()), ("uid/1", value)])
    };
    for env in [
        "../V=v\0",
        "A/B=v\0",
        ".hidden=v\0",
        "..\0",
        "V=trailing \0",
        "V=line \n\0",
    ] {
        let refused = match env {
            // Blanks before a newline stay: only the last are dropped when it is read.
            "V=line \n\0" => continue,
            _ => allow(env),
        };
        assert_refused(
            &refused,
            &["the record of uid/1 has a variable", "no file can say"],
        );
    }
}

#[test]
fn broken_databases_are_refused() {
    for value in [
        &b""[..],
        b"X",
        b"A\0\0\0",
        b"A\0\x03K=v\0\0",
        b"A\0\0\x10\0",
    ] {
        assert_refused(
            &cdb::database([("uid/0", ALLOW), ("uid/1", value)]),
            &["is broken: the record of uid/1"],
        );
    }
    assert_refused(
        &cdb::database([("uid/1", DENY), ("uid/1", ALLOW)]),
        &["not the one that decides"],
    );
    let whole = cdb::database([("uid/1", DENY), ("uid/2", ALLOW)]);
    assert_refused(&whole[..whole.len() - 8], &["is no database of rules"]);
    assert_refused(b"", &["is no database of rules"]);
    // A record that no look finds, and one that is found and stands nowhere in their order.
    let mut unreachable = whole.clone();
    let slots = whole.len() - 32;
    unreachable[slots..].fill(0);
    assert_refused(&unreachable, &["not the one that decides"]);
    let mut doubled = whole.clone();
    for slot in doubled[slots..].chunks_mut(8) {
        if slot[4..] == [0; 4] {
            slot[4] = 1;
        }
    }
    assert_refused(&doubled, &["stand in no order"]);
}

#[test]
fn a_database_that_others_can_write_is_not_made_into_rules() {
    let desk = Desk::new();
    desk.file("r.cdb", cdb::database([("uid/1", ALLOW)]));
    set_mode(&desk.path("r.cdb"), 0o666);
    desk.doorward(["dump", "r.cdb", "rules"])
        .assert(111, &["is writable by everybody"]);
    assert_eq!(desk.names(), ["r.cdb"]);
}

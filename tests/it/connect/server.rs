//! `--server`: who serves is asked before a byte is sent.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{Backlog, listen};

use super::{connect, script};
use crate::support::{DEADLINE, Door, Scratch, Served, User, raw};

/// A server that runs as `user`, for everybody, and sends `hello`.
fn served_by(user: &User) -> Served {
    let who = format!("{}:{}", user.uid, user.gid);
    Door::new()
        .args(["--mode", "0666", "--inetd", "--run-as", &who])
        .serve(["echo", "hello"])
}

#[track_caller]
fn trusts(server: &Served, who: &[&str]) {
    let options = who.iter().flat_map(|who| ["--server", who]);
    let client = Door::new().command("connect").no_bind().no_notify();
    let client = client.args(options).args([server.socket()]);
    assert_eq!(script(client, "cat <&6"), ["hello"], "{who:?}");
}

#[test]
fn a_server_that_is_one_of_those_named_is_talked_to() {
    need!(root);
    let user = User::unique();
    let server = served_by(&user);
    let (uid, gid) = (format!("user:{}", user.uid), format!("group:{}", user.gid));
    trusts(&server, &[&uid]);
    trusts(&server, &[&gid]);
    trusts(&server, &["self", "user:daemon", &uid]);
    trusts(&served_by(&User::me()), &["self"]);
    trusts(&served_by(&User::me()), &["user:root"]);
}

#[test]
fn anybody_else_is_refused_and_both_sides_are_named() {
    need!(root);
    let user = User::unique();
    let server = served_by(&user);
    let who = [
        "--server",
        "self",
        "--server",
        "user:daemon",
        "--server",
        "group:0",
    ];
    let outcome = connect(&server.socket(), who).fails(["echo", "started"]);
    let runs_as = format!(
        "runs as user={} group={} pid={}",
        user.uid,
        user.gid,
        server.pid()
    );
    let must = "server must run as self or user:daemon or group:0 (--server)".to_owned();
    outcome.assert(1, [must, runs_as]);
    assert_eq!(outcome.stderr.lines().count(), 1);
}

#[test]
fn not_a_byte_is_sent_to_whom_is_not_trusted() {
    need!(root);
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let (read, mut write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut write, b"secret").unwrap();
    connect(&scratch.path("s"), ["--server", "user:daemon"])
        .fd0(read)
        .fails([""; 0])
        .assert(1, ["must run as user:daemon"]);
    connect(&scratch.path("s"), ["--server", "user:daemon"])
        .fails(["sh", "-c", "echo secret >&7"])
        .assert(1, ["must run as user:daemon"]);
    for _ in 0..2 {
        let (mut connection, _) = listening.accept().unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(connection.read(&mut [0; 64]).unwrap(), 0);
    }
}

#[test]
fn what_counts_is_who_listens_and_not_whose_the_path_is() {
    need!(root);
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let user = User::unique();
    let named = format!("user:{}", user.uid);
    // A liar: root's socket, with a node that looks like the user's.
    let liar = UnixListener::bind(&path).unwrap();
    chown(&path, Some(user.uid), Some(user.gid)).unwrap();
    connect(&path, ["--server", &named])
        .fails(["true"])
        .assert(1, ["runs as user=0 "]);
    drop(liar);
    // The other way round: bound by root, and the user calls listen.
    fs::remove_file(&path).unwrap();
    let listening = UnixListener::bind(&path).unwrap();
    let copy = listening.try_clone().unwrap();
    let who = user.clone();
    let again = move || {
        raw::become_user(&who).unwrap();
        listen(&copy, Backlog::new(16).unwrap()).unwrap();
    };
    std::thread::spawn(again).join().unwrap();
    connect(&path, ["--server", "self"])
        .fails(["true"])
        .assert(1, [format!("runs as user={} ", user.uid)]);
    let mut trusted = connect(&path, ["--server", &named]).start(["true"]);
    assert!(trusted.wait_exit().success(), "{:?}", trusted.log());
}

#[test]
fn a_server_that_this_user_namespace_does_not_know_is_nobody() {
    need!(root, "unshare");
    let user = User::unique();
    let server = served_by(&user);
    // The overflow id by number, and the number that the server has elsewhere.
    let own = format!("user:{}", user.uid);
    for who in ["user:65534", "group:65534", &own, "self"] {
        connect(&server.socket(), ["--server", who])
            .wrap(["unshare", "--user", "--map-root-user"])
            .fails(["true"])
            .assert(1, ["runs as user=unmapped group=unmapped "]);
    }
}

#[test]
fn a_word_that_names_nobody_is_wrong_use() {
    let nowhere = Scratch::new().path("s");
    for (who, why) in [
        ("all", "--server all would trust anybody"),
        (
            "user:no-such-user",
            "--server user:no-such-user: no such user",
        ),
        ("nonsense", "--server nonsense: WHO is user:NAME|UID"),
    ] {
        connect(&nowhere, ["--server", who])
            .fails(["true"])
            .assert(100, [why]);
    }
    // The same option of handoff has the same words.
    let handoff = Door::new().command("handoff");
    let words = ["--backend", "/nowhere", "--server", "user:no-such-user"];
    handoff
        .args(words)
        .fails([""; 0])
        .assert(100, ["--server user:no-such-user: no such user"]);
}

//! `--local`: the client's own name.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{connect, report, script};
use crate::support::{Door, Report, Scratch, Served, probe};

/// A server that tells its client what it knows of it.
fn telling() -> Served {
    Door::new().serve([probe().as_os_str(), "report".as_ref(), "7".as_ref()])
}

/// What the server finds when a client of this name comes, and what the client's program has in IPCLOCALPATH.
fn told(server: &Served, name: &str) -> (Report, Option<String>) {
    let client = connect(&server.socket(), ["--local", name]);
    let mut lines = script(client, "echo \"$IPCLOCALPATH\"; cat <&6");
    let own = lines.remove(0);
    (Report::parse(lines.join("\n") + "\n"), Some(own))
}

#[test]
fn server_is_told_the_name_and_the_program_too() {
    let server = telling();
    let scratch = Scratch::new();
    let path = scratch.path("me").to_str().unwrap().to_owned();
    let (report, own) = told(&server, &path);
    assert_eq!(own.as_ref(), Some(&path));
    assert_eq!(report.env("IPCREMOTEPATH").as_ref(), Some(&path));
    assert_eq!(report.env("REMOTE_ADDR"), Some(path));

    let name = format!("@doorward-test-local-{}", std::process::id());
    let (report, own) = told(&server, &name);
    assert_eq!(own.as_ref(), Some(&name));
    assert_eq!(report.env("IPCREMOTEPATH").as_deref(), Some(""));
    assert_eq!(report.env("REMOTE_ADDR"), Some(name));
}

#[test]
fn program_gets_no_descriptor_more() {
    let server = Door::new().args(["--inetd"]).serve(["cat"]);
    let scratch = Scratch::new();
    let me = scratch.path("me");
    let report = report(connect(&server.socket(), ["--local", me.to_str().unwrap()]));
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7]);
}

#[test]
fn node_is_its_owner_s_alone_whatever_the_umask() {
    let server = Door::new().args(["--inetd"]).serve(["cat"]);
    for umask in ["0", "0777"] {
        let scratch = Scratch::new();
        let me = scratch.path("me");
        let client = connect(&server.socket(), ["--local", me.to_str().unwrap()]);
        let umask = format!("umask {umask}; exec \"$@\"");
        script(client.wrap(["sh", "-c", &umask, "sh"]), "true");
        let node = me.symlink_metadata().unwrap();
        assert!(node.file_type().is_socket());
        assert_eq!(node.mode() & 0o177, 0, "{:o}", node.mode());
    }
}

/// The whole life of a client with a program, or without one.
fn comes(server: &Served, me: &Path, program: &[&str]) {
    let client = connect(&server.socket(), ["--local", me.to_str().unwrap()]);
    let mut client = client.start(program);
    assert!(client.wait_exit().success(), "{:?}", client.log());
}

#[test]
fn node_stays_with_a_program_and_is_replaced_by_the_next_and_goes_with_a_relay() {
    let server = Door::new().args(["--inetd"]).serve(["cat"]);
    let scratch = Scratch::new();
    let me = scratch.path("me");
    comes(&server, &me, &[]);
    assert_eq!(
        fs::read_dir(scratch.dir()).unwrap().count(),
        0,
        "no lock either"
    );
    comes(&server, &me, &["true"]);
    let first = me.symlink_metadata().unwrap().ino();
    let keeps = fs::hard_link(&me, scratch.path("keeps-the-inode-number"));
    keeps.unwrap();
    comes(&server, &me, &["true"]);
    assert_ne!(me.symlink_metadata().unwrap().ino(), first);
    comes(&server, &me, &[]);
    assert!(!me.exists());
}

#[test]
fn what_is_alive_or_no_socket_is_left_alone() {
    let server = Door::new().args(["--inetd"]).serve(["cat"]);
    let scratch = Scratch::new();
    let me = scratch.path("me");
    let name = me.to_str().unwrap().to_owned();
    let refused = |why: &str| {
        let before = me.symlink_metadata().unwrap().ino();
        connect(&server.socket(), ["--local", &name])
            .fails(["true"])
            .assert(111, ["unable to bind to ", why]);
        assert_eq!(me.symlink_metadata().unwrap().ino(), before);
    };
    let listening = UnixListener::bind(&me).unwrap();
    refused("a live socket");
    drop(listening);
    fs::remove_file(&me).unwrap();
    // Another client of that name.
    let mut other = connect(&server.socket(), ["--local", &name]).start([
        probe().as_os_str(),
        "hold".as_ref(),
        "6".as_ref(),
    ]);
    crate::support::eventually("its name", || me.exists());
    refused("a live socket");
    other.signal(nix::sys::signal::Signal::SIGKILL);
    other.wait_exit();
    fs::remove_file(&me).unwrap();
    fs::write(&me, "precious").unwrap();
    refused("a regular file");
    fs::remove_file(&me).unwrap();
    std::os::unix::fs::symlink("/nowhere", &me).unwrap();
    refused("a symbolic link");
}

#[test]
fn a_start_that_fails_leaves_no_node() {
    let scratch = Scratch::new();
    let me = scratch.path("me");
    let options = ["--local", me.to_str().unwrap()];
    connect(&scratch.path("nobody"), options)
        .fails(["true"])
        .assert(111, ["No such file"]);
    assert!(!me.exists());
    let server = Door::new().args(["--inetd"]).serve(["cat"]);
    let script = scratch.script("nothing", "no line for the kernel\n");
    connect(&server.socket(), options)
        .fails([&script])
        .assert(126, ["unable to run"]);
    assert!(!me.exists());
}

#[test]
fn a_name_that_no_server_could_be_told_is_wrong_use() {
    let long = format!("/tmp/{}/me", "d".repeat(120));
    for (name, why) in [
        (long.as_str(), "told 107 at most"),
        ("", "must end in the name of a socket"),
        ("@", "at least one byte"),
    ] {
        connect(Path::new("/nowhere"), ["--local", name])
            .fails(["true"])
            .assert(100, ["--local", why]);
    }
}

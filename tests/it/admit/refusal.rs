//! Who is refused: the exit code, the line, what the client is told, and what it must never read.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::{Accepted, admit, refused};
use crate::support::{Client, Door, User};

#[test]
fn refused_client_reads_the_deny_text_and_no_reset_and_the_program_does_not_run() {
    let options = ["--deny", "self", "--deny-text", "not you"];
    let (door, mut client) = Accepted::here().on_6_and_7(admit(options));
    // Unread data would make the close a reset.
    client.send(&[b'x'; 10_000]);
    let (code, door) = refused(door);
    assert_eq!(code, 1);
    assert_eq!(client.read_text(), "not you\n");
    let me = User::me();
    let line = door.wait_log("doorward: deny ");
    let expected = format!(
        "doorward: deny user={} group={} pid={} reason=rule rule=self",
        me.uid,
        me.gid,
        std::process::id()
    );
    assert_eq!(line, expected);
    assert_eq!(door.whole_log().len(), 1);
}

#[test]
fn deny_text_never_waits_for_a_client_that_does_not_read() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&[b'x'; 4096]).is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    let options = ["--deny", "all", "--deny-text", "no"];
    let (code, door) = refused(admit(options).fd0(theirs));
    assert_eq!(code, 1);
    door.wait_log("rule=all");
    drop(ours);
}

#[test]
fn who_matches_none_is_refused_where_somebody_is_allowed() {
    need!(root);
    let user = User::new(4_711, 4_712);
    for (options, in_) in [
        (["--allow", "user:4711"], true),
        (["--allow", "group:4712"], true),
        (["--deny", "user:4712"], true),
        (["--allow", "user:4712"], false),
        (["--deny", "group:4712"], false),
        (["--allow", "self"], false),
    ] {
        let (door, mut client) = Accepted::of_user(&user).on_0_and_1(admit(options));
        let mut door = door.start(["printenv", "IPCREMOTEEUID"]);
        let code = door.wait_exit().code();
        assert_eq!(code, Some(if in_ { 0 } else { 1 }), "{options:?}");
        assert_eq!(client.read_text(), if in_ { "4711\n" } else { "" });
        assert_eq!(door.whole_log().len(), usize::from(!in_));
    }
}

#[test]
fn v_shows_who_comes_in_and_q_no_refusal() {
    let me = User::me();
    let (door, _client) = Accepted::here().on_6_and_7(admit(["-v"]));
    let mut door = door.start(["true"]);
    assert!(door.wait_exit().success());
    let expected = format!(
        "doorward: allow user={} group={} pid={} rule=none child={}",
        me.uid,
        me.gid,
        std::process::id(),
        door.pid()
    );
    assert_eq!(door.whole_log(), [expected]);

    let (door, _client) = Accepted::here().on_6_and_7(admit([]));
    let mut door = door.start(["true"]);
    assert!(door.wait_exit().success());
    assert_eq!(door.whole_log(), [""; 0], "nothing is said for each client");

    let (door, _client) = Accepted::here().on_6_and_7(admit(["-q", "--deny", "self"]));
    let (code, door) = refused(door);
    assert_eq!(code, 1);
    assert_eq!(door.whole_log(), [""; 0]);
}

/// Starts it where standard error is the connection, and gives its exit code and what its client reads.
#[track_caller]
fn heard_by_client<const N: usize>(door: Door, program: [&str; N]) -> (i32, String) {
    let (door, mut client) = Accepted::here().on_0_to_2(door);
    let mut door = door.start(program);
    let code = door.wait_exit().code().expect("an exit code");
    (code, client.read_text())
}

#[test]
fn client_on_standard_error_reads_no_log_line() {
    for (options, program, code) in [
        (["--deny", "all"], "true", 1),
        (["-v", "--inetd"], "true", 0),
        (["-v", "--layout=ucspi"], "true", 0),
        (["--no-such-option", "-v"], "true", 100),
        (["--allow", "user:no-such-user-here"], "true", 100),
        (["--layout", "inetd"], "/nowhere/at/all", 127),
        (["--rules", "/nowhere/at/all"], "true", 111),
        (["-v", "-q"], "true", 100),
    ] {
        let heard = heard_by_client(admit(options), [program]);
        assert_eq!(heard, (code, String::new()), "{options:?} {program}");
    }
    // The log may be wanted there all the same: by the program.
    let heard = heard_by_client(admit(["-v"]), ["sh", "-c", "echo oops >&2"]);
    assert_eq!(heard, (0, "oops\n".to_owned()));
}

#[test]
fn client_on_standard_error_of_a_program_that_cannot_be_run_reads_nothing() {
    for layout in ["ucspi", "inetd", "systemd"] {
        let door = admit(["--layout", layout]);
        let script = door.script("script", "#!/nowhere/interpreter\n");
        let heard = heard_by_client(door, [script.to_str().unwrap()]);
        assert_eq!(heard, (127, String::new()), "{layout}");
    }
}

#[test]
fn connection_on_3_or_6_and_on_standard_error_is_found_there_too() {
    let given = Accepted::here();
    let stderr = given.copy();
    let (door, mut client) = given.by_listen_fds(admit(["--deny", "all"]));
    let (code, _door) = refused(door.fd2(stderr));
    assert_eq!((code, client.read_text()), (1, String::new()));

    let given = Accepted::here();
    let stderr = given.copy();
    let (door, mut client) = given.on_6_and_7(admit(["--no-such-option", "x"]));
    let (code, _door) = refused(door.fd2(stderr));
    assert_eq!((code, client.read_text()), (100, String::new()));
}

#[test]
fn log_that_nobody_reads_does_not_keep_a_client_waiting() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut full = &writer;
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(
        &writer,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    let (door, mut client) = Accepted::here().on_6_and_7(admit(["--deny", "all"]));
    let (code, _door) = refused(door.fd2(writer));
    assert_eq!(code, 1);
    client.assert_closed();
    drop(reader);
}

#[test]
fn wrong_use_names_both_options() {
    for (options, words) in [
        (
            &["--inetd", "--layout", "ucspi"][..],
            "--inetd and --layout ucspi make no sense together",
        ),
        (
            &["--rules", "/", "--allow", "all"],
            "--rules and --allow all make no sense together",
        ),
        (&["--proto", "1A"], "--proto 1A: "),
        (&["--allow", "root"], "--allow root: "),
        (&["--max", "3"], "--max"),
    ] {
        let given = Accepted::here();
        let door = admit([]).args(options);
        let (door, mut client): (Door, Client) = given.on_6_and_7(door);
        let (code, door) = refused(door);
        assert_eq!(code, 100, "{options:?}");
        door.wait_log(words);
        client.assert_closed();
    }
    let (door, mut client) = Accepted::here().on_6_and_7(admit([]));
    door.fails([""; 0]).assert(100, ["PROG"]);
    client.assert_closed();
}

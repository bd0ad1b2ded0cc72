//! `--bind`: the socket that doorward makes itself.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};

use super::{assert_plain_child, mode, reporter, stream};
use crate::support::{Dial, Door, Report, User, client::with_address};

#[test]
fn bound_socket_is_for_its_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let door = Door::new()
            .wrap(["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .serve(reporter());
        assert_eq!(mode(&door.socket()), 0o600, "umask {umask}");
        assert_plain_child(&Report::parse(door.connect().read_to_end()));
    }
}

#[test]
fn default_mode_keeps_other_users_out_and_the_log_says_so() {
    need!(root);
    let door = Door::new().serve(reporter());
    let refused = door.dial().user(&User::nobody()).try_connect().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let line = door.wait_log("serving ");
    let socket = door.socket();
    for words in [
        socket.to_str().unwrap(),
        "6 and 7",
        "--inetd",
        "mode 0600",
        "only root may connect",
    ] {
        assert!(line.contains(words), "{words:?} is not in {line:?}");
    }
}

#[test]
fn several_binds_are_all_served_and_told_apart() {
    let door = Door::new();
    let second = door.path("second");
    let name = format!("@doorward-test-several-{}", std::process::id());
    let args = [
        "--bind".as_ref(),
        second.as_os_str(),
        "--bind".as_ref(),
        name.as_ref(),
    ];
    let door = door.args(args).serve(reporter());

    for path in [door.socket(), second, PathBuf::from(name)] {
        let report = Report::parse(Dial::to(&path).connect().read_to_end());
        assert_plain_child(&report);
        assert_eq!(report.env("IPCLOCALPATH").as_deref(), path.to_str());
    }
}

#[test]
fn abstract_name_is_served_once_and_leaves_no_file() {
    let name = format!("@doorward-test-abstract-{}", std::process::id());
    let door = Door::new().bind(&name).serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));
    let second = Door::new().bind(&name).fails(reporter());
    second.assert(111, [&name]);
    let left: Vec<_> = std::fs::read_dir(door.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["notify"]);
}

#[test]
fn seqpacket_keeps_records_apart() {
    let door = Door::new().args(["--type", "seqpacket"]).serve([
        "sh",
        "-c",
        "printf one >&7; printf two >&7",
    ]);
    let mut client = door.dial().seqpacket().connect();
    assert_eq!(
        (client.read_record(), client.read_record()),
        (b"one".to_vec(), b"two".to_vec())
    );
    client.assert_closed();
    assert!(door.dial().try_connect().is_err(), "a stream client");
}

#[test]
fn backlog_is_the_length_of_the_queue() {
    let door = Door::new().args(["--backlog", "3"]).serve(reporter());
    door.pause();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let mut queued = Vec::new();
    while queued.len() < 100 {
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        if with_address(&door.socket(), |address| {
            socket::connect(socket.as_raw_fd(), address)
        })
        .is_err()
        {
            break;
        }
        queued.push(socket);
    }
    door.resume();
    // The kernel lets one more in than it was told.
    assert_eq!(queued.len(), 4);
}

#[test]
fn socket_is_unlinked_at_the_end_and_the_lock_file_stays() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut door = Door::new().serve(reporter());
        assert!(door.socket().exists());
        door.signal(signal);
        assert!(door.wait_exit().success());
        assert!(!door.socket().exists());
        assert!(door.path("s.lock").exists());
        let refused = door.dial().try_connect().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
    }
}

#[test]
fn socket_that_was_replaced_is_not_unlinked() {
    let mut door = Door::new().serve(reporter());
    let other = stream(&door.path("other"));
    std::fs::rename(door.path("other"), door.socket()).unwrap();
    assert!(door.stop().success());
    assert!(door.socket().exists());
    Dial::to(door.socket()).connect().assert_open();
    drop(other);
}

#[test]
fn long_directories_and_names_up_to_88_bytes_work() {
    let door = Door::new();
    let deep = door.path(&format!("{}/{}", "d".repeat(150), "e".repeat(150)));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("n".repeat(88));
    let mut door = door.bind(&path).serve(reporter());
    let report = Report::parse(door.connect().read_to_end());
    assert_plain_child(&report);
    assert_eq!(report.env("IPCLOCALPATH").as_deref(), path.to_str());
    assert_eq!(mode(&path), 0o600);
    assert!(door.stop().success());
    assert!(!path.exists());
}

#[test]
fn names_beyond_88_bytes_are_refused_naming_the_limit() {
    let door = Door::new();
    let path = door.path(&"n".repeat(89));
    door.bind(&path).fails(reporter()).assert(100, ["88"]);
    Door::new()
        .bind(format!("@{}", "n".repeat(108)))
        .fails(reporter())
        .assert(100, ["107"]);
}

#[test]
fn path_that_names_no_socket_is_wrong_use() {
    for path in ["", "/", "/tmp/", "..", ".", "@"] {
        let outcome = Door::new().bind(path).fails(reporter());
        assert_eq!(outcome.code(), 100, "{path:?}: {}", outcome.stderr);
    }
}

#[test]
fn relative_path_lies_where_doorward_was_started() {
    let door = Door::new();
    let dir = door.dir().to_owned();
    let into = format!("cd {}; exec \"$@\"", dir.display());
    let door = door
        .bind("s")
        .wrap(["sh", "-c", &into, "sh"])
        .serve(reporter());
    let report = Report::parse(Dial::to(dir.join("s")).connect().read_to_end());
    assert_eq!(report.env("IPCLOCALPATH").as_deref(), Some("s"));
    drop(door);
}

#[test]
fn directory_that_is_missing_or_not_writable_is_named() {
    let door = Door::new();
    let path = door.path("absent/s");
    door.bind(&path)
        .fails(reporter())
        .assert(111, [path.display()]);

    let door = Door::new();
    let file = door.path("file");
    std::fs::write(&file, "").unwrap();
    door.bind(file.join("s"))
        .fails(reporter())
        .assert(111, [file.display()]);
}

#[test]
fn directory_of_another_user_is_a_failure_of_the_system() {
    need!(root, "setpriv");
    let door = Door::new().no_notify();
    let socket = door.path("s");
    let outcome = door
        .wrap(["setpriv", "--reuid=65534", "--clear-groups"])
        .fails(reporter());
    outcome.assert(
        111,
        [socket.display().to_string(), "Permission denied".to_owned()],
    );
}

#[test]
fn permissions_come_before_existence() {
    need!(root, "strace");
    let door = Door::new().args(["--mode", "0666", "--owner", "65534"]);
    let trace = door.path("trace");
    let calls =
        "trace=fchmod,bind,listen,chown,fchown,lchown,fchownat,chmod,fchmodat,?fchmodat2,umask";
    let wrap = [
        "strace",
        "-f",
        "-qq",
        "-o",
        trace.to_str().unwrap(),
        "-e",
        calls,
    ];
    let mut door = door.wrap(wrap).serve(reporter());
    // strace passes it on to nobody: the tracer's child is the one to end.
    let traced = door.children()[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(traced), Signal::SIGTERM).unwrap();
    door.wait_exit();

    let text = std::fs::read_to_string(&trace).unwrap();
    let at = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("no {what} in:\n{text}"))
    };
    let (closed, bound, opened, listening) =
        (at("fchmod("), at(" bind("), at("0666"), at(" listen("));
    let owned = text
        .find("chown")
        .unwrap_or_else(|| panic!("no chown in:\n{text}"));
    assert!(
        closed < bound && bound < owned && owned < opened && opened < listening,
        "{text}"
    );
    assert!(
        !text.contains("umask("),
        "a umask is the whole process's: {text}"
    );
}

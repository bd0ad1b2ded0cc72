//! What the program of admit gets: descriptors, variables, signals, and its place in the tree of processes.

use std::fs::File;
use std::os::unix::net::UnixListener;

use super::{Accepted, admit, refused, report, reporter};
use crate::support::{Client, Report, Scratch, User, probe};

#[test]
fn connection_moves_to_the_layout_and_leaves_0_1_and_2() {
    for (layout, fd, numbers) in [
        ("ucspi", "6", &[0, 1, 2, 6, 7][..]),
        ("systemd", "3", &[0, 1, 2, 3]),
    ] {
        let (door, mut client) = Accepted::here().on_0_to_2(admit(["--layout", layout]));
        let found = report(door, fd, &mut client);
        assert_eq!(found.fd_numbers(), numbers, "{layout}");
        for (number, descriptor) in found.fds() {
            assert_eq!(
                descriptor.link == "/dev/null",
                number <= 2,
                "{number} {descriptor:?}"
            );
        }
    }
    for (fd, door) in [
        ("6", admit(["--layout", "ucspi"])),
        ("1", admit(["--inetd"])),
    ] {
        let (door, mut client) = Accepted::here().by_listen_fds(door);
        let found = report(door, fd, &mut client);
        let numbers = if fd == "6" {
            vec![0, 1, 2, 6, 7]
        } else {
            vec![0, 1, 2]
        };
        assert_eq!(found.fd_numbers(), numbers);
        assert_eq!(found.env("LISTEN_FDS"), None);
    }
    let (door, mut client) = Accepted::here().on_6_and_7(admit(["--inetd"]));
    assert_eq!(report(door, "1", &mut client).fd_numbers(), [0, 1, 2]);
}

#[test]
fn standard_error_that_is_the_connection_stays_so_for_a_program_of_inetd() {
    let (door, mut client) = Accepted::here().on_0_to_2(admit(["-v"]));
    let found = report(door, "2", &mut client);
    let fds = found.fds();
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    assert!(
        (1..=2).all(|number| fds[&number].link == fds[&0].link),
        "{fds:?}"
    );
}

#[test]
fn no_other_descriptor_comes_through_unless_it_is_kept() {
    let null = || File::open("/dev/null").unwrap();
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("other")).unwrap();
    let mut door = admit(["--keep-fd", "9", "--keep-fd", "700"]);
    for number in [3, 6, 8, 9, 64, 700] {
        door = door.fd(number, null());
    }
    let (door, mut client) = Accepted::here().on_0_and_1(door.fd(5, listening));
    let found = report(door, "0", &mut client);
    assert_eq!(found.fd_numbers(), [0, 1, 2, 9, 700]);
    assert!(found.fds().values().all(|fd| !fd.listening && !fd.nonblock));
}

#[test]
fn descriptor_to_keep_must_be_open_and_none_of_the_layout() {
    let kept = |number: &str, words: &str| {
        let (door, _client) = Accepted::here().by_listen_fds(admit(["--keep-fd", number]));
        let (code, door) = refused(door);
        assert_eq!(code, 100);
        door.wait_log(words);
    };
    kept(
        "3",
        "--keep-fd 3 and --layout systemd make no sense together",
    );
    kept("4", "descriptor 4 is not open");
    let (door, _client) = Accepted::here().on_6_and_7(admit(["--notify", "--keep-fd", "8"]));
    let (code, door) = refused(door.fd(8, File::open("/dev/null").unwrap()));
    assert_eq!(code, 100);
    door.wait_log("--keep-fd 8 and --notify make no sense together");
}

#[test]
fn kernel_is_believed_and_the_environment_is_not() {
    need!(root);
    let user = User::new(4_711, 4_712).groups([4_713]);
    let given = Accepted::of_user(&user);
    let path = given.path();
    let mut door = admit(["--deny", "user:0", "--allow", "group:4713"]);
    for (name, value) in [
        ("PROTO", "IPC"),
        ("IPCREMOTEEUID", "0"),
        ("IPCREMOTEEGID", "0"),
        ("IPCREMOTEGROUPS", "0,1"),
        ("IPCREMOTEGROUPS_TRUNCATED", "1"),
        ("IPCREMOTEPID", "1"),
        ("IPCREMOTEPATH", "/root"),
        ("IPCLOCALPATH", "/evil"),
        ("REMOTE_ADDR", "/root"),
        ("REMOTE_PORT", "1"),
        ("NOTIFYFD", "8"),
        ("PIDFD", "9"),
        ("LISTEN_FDNAMES", "evil"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("WATCHDOG_USEC", "1"),
        ("FDSTORE", "1"),
        ("SKALIBS_CHILD_SPAWN_FDS", "8"),
        ("HANDOFF_FDS", "connection"),
        ("KEPT", "a=b"),
    ] {
        door = door.env(name, value);
    }
    let (door, mut client) = given.on_0_and_1(door);
    let found = report(door, "0", &mut client);
    let mut names = found.env_names();
    names.retain(|name| !name.starts_with("DOORWARD_TEST"));
    let expected = [
        ("IPCLOCALPATH", path.to_str().unwrap()),
        ("IPCREMOTEEGID", "4712"),
        ("IPCREMOTEEUID", "4711"),
        ("IPCREMOTEGROUPS", "4712,4713"),
        ("IPCREMOTEPATH", ""),
        ("IPCREMOTEPID", &std::process::id().to_string()),
        ("KEPT", "a=b"),
        ("PATH", &found.env("PATH").unwrap()),
        ("PROTO", "IPC"),
    ];
    assert_eq!(names, expected.map(|(name, _)| name));
    for (name, value) in expected {
        assert_eq!(found.env(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn count_of_the_parent_is_passed_on_and_no_other_is_made_up() {
    for (proto, count, options, name, expected) in [
        (
            "IPC",
            Some("3"),
            ["--proto", "IPC"],
            "IPCCONNNUM",
            Some("3"),
        ),
        (
            "IPC",
            Some("0"),
            ["--proto", "IPC"],
            "IPCCONNNUM",
            Some("0"),
        ),
        (
            "IPC",
            Some("3"),
            ["--proto", "UNIX"],
            "UNIXCONNNUM",
            Some("3"),
        ),
        ("IPC", Some("3 4"), ["--proto", "IPC"], "IPCCONNNUM", None),
        ("IPC", Some("-3"), ["--proto", "IPC"], "IPCCONNNUM", None),
        ("IPC", Some(""), ["--proto", "IPC"], "IPCCONNNUM", None),
        (
            "IPC",
            Some("4294967296"),
            ["--proto", "IPC"],
            "IPCCONNNUM",
            None,
        ),
        ("IPC", None, ["--proto", "IPC"], "IPCCONNNUM", None),
    ] {
        let mut door = admit(options).env("PROTO", proto);
        if let Some(count) = count {
            door = door.env(format!("{proto}CONNNUM"), count);
        }
        let (door, mut client) = Accepted::here().on_0_and_1(door);
        let found = report(door, "0", &mut client);
        assert_eq!(found.env(name).as_deref(), expected, "{count:?}");
        assert_eq!(found.env("PROTO").as_deref(), Some(options[1]));
        assert_eq!(
            found.env("IPCCONNNUM").is_some(),
            expected.is_some() && options[1] == "IPC"
        );
    }
    // Without PROTO nobody said that the number is about this connection.
    let (door, mut client) = Accepted::here().on_0_and_1(admit([]).env("IPCCONNNUM", "3"));
    assert_eq!(report(door, "0", &mut client).env("IPCCONNNUM"), None);
}

#[test]
fn socket_activation_names_this_very_process() {
    let (door, mut client) = Accepted::here().by_listen_fds(admit([]));
    let mut door = door.start(reporter("3"));
    let pid = door.pid();
    let found = Report::parse(client.read_to_end());
    assert!(door.wait_exit().success());
    assert_eq!(found.number("pid"), pid, "it became the program");
    assert_eq!(found.env("LISTEN_PID"), Some(pid.to_string()));
    assert_eq!(found.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(found.env("LISTEN_FDNAMES").as_deref(), Some("connection"));
}

#[test]
fn process_group_stays_and_signals_are_at_their_defaults() {
    let deaf = [
        probe().to_str().unwrap().to_owned(),
        "deaf".into(),
        "/usr/bin/env".into(),
    ];
    let (door, mut client) = Accepted::here().on_0_and_1(admit([]).wrap(deaf));
    let found = report(door, "0", &mut client);
    let own = nix::unistd::getpgrp().as_raw();
    assert_eq!(found.number("pgid"), own);
    for signals in ["blocked", "ignored", "caught"] {
        let set = u64::from_str_radix(&found.get(signals), 16).unwrap();
        assert_eq!(set, 0, "{signals}: {set:x}");
    }
}

#[test]
fn client_that_is_bound_shows_its_address_and_an_abstract_door_its_name() {
    let bound = Scratch::new();
    let name = bound.path("client");
    let (door, mut client) = Accepted::of(|dial| dial.bound_to(&name)).on_0_and_1(admit([]));
    let found = report(door, "0", &mut client);
    assert_eq!(found.env("IPCREMOTEPATH").as_deref(), name.to_str());
    assert_eq!(found.env("REMOTE_ADDR").as_deref(), name.to_str());

    // 108 bytes without a zero byte at the end, and a newline among them.
    let mut long = vec![b'n'; 108];
    (long[0], long[5]) = (0, b'\n');
    let (door, mut client) = Accepted::of(|dial| dial.bound_to_bytes(long)).on_0_and_1(admit([]));
    let found = report(door, "0", &mut client);
    assert_eq!(found.env("IPCREMOTEPATH").as_deref(), Some(""));
    let expected = format!("@nnnn\\x0a{}", "n".repeat(102));
    assert_eq!(found.env("REMOTE_ADDR"), Some(expected));
}

#[test]
fn notification_socket_and_pidfd_come_as_they_do_from_spawn() {
    let options = ["--notify", "--pidfd", "--layout", "systemd"];
    let (door, mut client) = Accepted::here().on_0_to_2(admit(options));
    let script = "echo on the connection >&3; echo news >&8; readlink /proc/self/fd/9 >&8; echo $NOTIFYFD $PIDFD >&8";
    let mut door = door.start(["sh", "-c", script]);
    let (greeting, mut descriptors) = client.recv_greeting();
    assert_eq!(greeting, b"doorward 1\n");
    assert_eq!(descriptors.len(), 1);
    let mut news = Client::from(descriptors.remove(0));
    assert_eq!(client.read_text(), "on the connection\n");
    let text = news.read_text();
    assert!(
        text.starts_with("news\nanon_inode:[pidfd]\n8 9\n") || text.starts_with("news\npidfd:["),
        "{text}"
    );
    assert!(door.wait_exit().success());

    let (door, mut client) = Accepted::here().on_0_to_2(admit(options));
    let mut door = door.start(reporter("3"));
    let (_, descriptors) = client.recv_greeting();
    let found = Report::parse(client.read_to_end());
    assert_eq!(found.fd_numbers(), [0, 1, 2, 3, 8, 9]);
    assert!(door.wait_exit().success());
    drop(descriptors);
}

#[test]
fn client_that_takes_no_descriptors_gets_no_program() {
    let given = Accepted::of(|dial| dial.without_rights());
    let (door, mut client) = given.on_6_and_7(admit(["--notify"]));
    let (code, door) = refused(door);
    assert_eq!(code, 1);
    door.wait_log("fatal: unable to send a greeting: ");
    client.assert_closed();
}

#[test]
fn program_is_looked_up_before_anybody_is_asked() {
    for (program, code, words) in [
        ("/nowhere/at/all", 127, "No such file or directory"),
        ("no-such-program", 127, "not found in PATH"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let options = ["--deny", "all", "--deny-text", "no"];
        let (door, mut client) = Accepted::here().on_6_and_7(admit(options));
        door.fails([program]).assert(code, [words]);
        client.assert_closed();
    }
    // Found, and not to be run after all.
    let door = admit([]);
    let script = door.script("script", "#!/nowhere/interpreter\n");
    let (door, mut client) = Accepted::here().on_6_and_7(door);
    door.fails([script]).assert(127, ["unable to run"]);
    client.assert_closed();

    let door = admit([]);
    let garbage = door.script("garbage", "neither a script nor a binary\n");
    let (door, mut client) = Accepted::here().on_6_and_7(door);
    door.fails([garbage]).assert(126, ["unable to run"]);
    client.assert_closed();
}

#[test]
fn exit_status_is_the_program_s_own() {
    let (door, _client) = Accepted::here().on_6_and_7(admit([]));
    let mut door = door.start([probe().to_str().unwrap(), "exit", "77"]);
    assert_eq!(door.wait_exit().code(), Some(77));
}

#[test]
fn links_of_a_chain_compose() {
    // The first puts the connection where the second finds it.
    for layout in ["ucspi", "inetd", "systemd"] {
        let (door, mut client) = Accepted::here().on_0_to_2(admit(["--layout", layout]));
        let doorward = crate::support::doorward().to_str().unwrap();
        let second = [doorward, "admit", "--allow", "self", "--layout", "ucspi"];
        let script = ["sh", "-c", "echo $IPCREMOTEEUID >&7"];
        let mut door = door.start(second.into_iter().chain(script));
        assert!(door.wait_exit().success());
        assert_eq!(
            client.read_text(),
            format!("{}\n", User::me().uid),
            "{layout}"
        );
    }
}

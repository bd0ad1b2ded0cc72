//! LISTEN_FDS, as systemd passes sockets.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::SockType;

use super::{assert_plain_child, holder, listening, reporter, stream};
use crate::support::{Dial, Door, Report};

#[test]
fn inherited_socket_is_served_and_no_child_holds_it_or_its_variables() {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let door = door.listen_fds([stream(&path)], &[]).serve(reporter());

    let report = Report::parse(door.connect().read_to_end());

    assert_plain_child(&report);
    assert_eq!(report.env("IPCLOCALPATH").as_deref(), path.to_str());
}

#[test]
fn several_inherited_sockets_are_served_and_share_their_limits() {
    let door = Door::new().no_bind().args(["--max-per-user", "1"]);
    let (a, b) = (door.path("a"), door.path("b"));
    let door = door
        .listen_fds([stream(&a), stream(&b)], &[])
        .serve(holder());

    let mut first = Dial::to(&a).connect();
    door.wait_children(1);
    Dial::to(&b).connect().assert_closed();
    door.wait_log("reason=max-per-user");
    first.shutdown_write();
    first.assert_closed();
    door.wait_slots(0);
    let mut second = Dial::to(&b).connect();
    door.wait_children(1);
    second.shutdown_write();
    second.assert_closed();
}

#[test]
fn name_picks_sockets_out_of_listen_fdnames() {
    let door = Door::new().no_bind().args(["--name", "web"]);
    let paths = [door.path("a"), door.path("b"), door.path("c")];
    let sockets: Vec<OwnedFd> = paths.iter().map(|path| stream(path)).collect();
    let kept = sockets[1].try_clone().unwrap();
    let door = door
        .listen_fds(sockets, &["web", "admin", "web"])
        .serve(reporter());

    for path in [&paths[0], &paths[2]] {
        assert_plain_child(&Report::parse(Dial::to(path).connect().read_to_end()));
    }
    let waiting = Dial::to(&paths[1]).connect();
    // A later connection elsewhere has been served: this one still waits, for nobody serves it.
    Dial::to(&paths[0]).connect().read_to_end();
    waiting.assert_open();
    drop((kept, door));
}

#[test]
fn several_names_pick_all_that_have_one_of_them() {
    let door = Door::new().no_bind().args(["--name", "c", "--name", "a"]);
    let paths = [door.path("a"), door.path("b"), door.path("c")];
    let sockets: Vec<OwnedFd> = paths.iter().map(|path| stream(path)).collect();
    let _door = door.listen_fds(sockets, &["a", "b", "c"]).serve(reporter());
    for path in [&paths[0], &paths[2]] {
        assert_plain_child(&Report::parse(Dial::to(path).connect().read_to_end()));
    }
}

#[test]
fn name_that_picks_nothing_is_wrong_use() {
    for names in [&["a", "b"][..], &[]] {
        let door = Door::new().no_bind().args(["--name", "absent"]);
        let sockets = [stream(&door.path("a")), stream(&door.path("b"))];
        door.listen_fds(sockets, names)
            .fails(reporter())
            .assert(100, ["absent"]);
    }
    Door::new()
        .args(["--name", "absent"])
        .fails(reporter())
        .assert(100, ["absent"]);
}

#[test]
fn sockets_without_names_are_called_unknown() {
    let door = Door::new().no_bind().args(["--name", "unknown"]);
    let path = door.path("s");
    let door = door.listen_fds([stream(&path)], &[]).serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));
}

#[test]
fn listen_fds_for_another_process_is_left_alone() {
    for pid in [
        None,
        Some("1"),
        Some("x"),
        Some(""),
        Some("99999999999999999999"),
    ] {
        let given = |door: Door| {
            let inherited = stream(&door.path("inherited"));
            let door = door.fd(3, inherited).env("LISTEN_FDS", "1");
            if let Some(pid) = pid {
                door.env("LISTEN_PID", pid)
            } else {
                door
            }
        };

        let door = given(Door::new()).serve(reporter());
        assert_plain_child(&Report::parse(door.connect().read_to_end()));

        let outcome = given(Door::new().no_bind()).fails(reporter());
        outcome.assert(100, ["--bind", "LISTEN_FDS", "LISTEN_PID"]);
    }
}

#[test]
fn count_that_cannot_be_true_is_wrong_use_even_with_another_source() {
    for count in [
        "x",
        "",
        "0",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1x",
        "0x1",
        "2",
        "4294967297",
        "99999999999999999999",
    ] {
        let door = Door::new();
        let inherited = stream(&door.path("inherited"));
        let outcome = door
            .fd(3, inherited)
            .env("LISTEN_FDS", count)
            .listen_pid()
            .fails(reporter());
        outcome.assert(100, ["LISTEN_FDS"]);
    }
}

#[test]
fn names_of_another_count_are_wrong_use() {
    for names in ["a:b", "a:", ":", "a:b:c"] {
        let door = Door::new().no_bind();
        let inherited = stream(&door.path("s"));
        let outcome = door
            .listen_fds([inherited], &[])
            .env("LISTEN_FDNAMES", names)
            .fails(reporter());
        outcome.assert(100, ["LISTEN_FDNAMES"]);
    }
}

#[test]
fn listen_pidfdid_must_be_ours_if_it_is_set() {
    let door = Door::new().no_bind();
    let inherited = stream(&door.path("s"));
    let door = door
        .listen_fds([inherited], &[])
        .listen_pidfdid()
        .serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));

    for id in ["1", "x", ""] {
        let door = Door::new().no_bind();
        let inherited = stream(&door.path("s"));
        let outcome = door
            .listen_fds([inherited], &[])
            .env("LISTEN_PIDFDID", id)
            .fails(reporter());
        outcome.assert(100, ["LISTEN_PIDFDID"]);
    }
}

#[test]
fn inherited_seqpacket_socket_is_served_without_asking() {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let door = door
        .listen_fds([listening(SockType::SeqPacket, &path)], &[])
        .serve(holder());
    let _client = door.dial().seqpacket().connect();
    door.wait_children(1);
}

#[test]
fn inherited_abstract_socket_is_served() {
    let name = format!("@doorward-test-inherited-{}", std::process::id());
    let door = Door::new()
        .bind(&name)
        .no_bind()
        .listen_fds([stream(name.as_ref())], &[])
        .serve(reporter());
    let report = Report::parse(Dial::to(&name).connect().read_to_end());
    assert_plain_child(&report);
    assert_eq!(report.env("IPCLOCALPATH"), Some(name));
    drop(door);
}

#[test]
fn blocking_or_not_an_inherited_socket_is_served_and_stays_as_it_is() {
    for flags in [OFlag::O_NONBLOCK, OFlag::empty()] {
        let door = Door::new().no_bind();
        let socket = stream(&door.path("s"));
        let before = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL).unwrap())
            & !OFlag::O_NONBLOCK
            | flags;
        fcntl(&socket, FcntlArg::F_SETFL(before)).unwrap();
        let ours = socket.try_clone().unwrap();
        let mut door = door.listen_fds([socket], &[]).serve(reporter());

        Report::parse(door.connect().read_to_end());
        assert_eq!(
            fcntl(&ours, FcntlArg::F_GETFL).unwrap(),
            before.bits(),
            "while it serves"
        );
        assert!(door.stop().success());
        assert_eq!(
            fcntl(&ours, FcntlArg::F_GETFL).unwrap(),
            before.bits(),
            "after its end"
        );
    }
}

#[test]
fn idle_nonblocking_socket_costs_no_cpu() {
    let door = Door::new().no_bind();
    let socket = stream(&door.path("s"));
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let door = door.listen_fds([socket], &[]).serve(reporter());
    Report::parse(door.connect().read_to_end());

    let before = crate::support::inspect::cpu_ticks(door.pid());
    // Nothing to wait for: the property is that nothing happens for a while.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let spent = crate::support::inspect::cpu_ticks(door.pid()) - before;
    assert!(spent <= 5, "{spent} ticks in half a second");
}

#[test]
fn relisten_shows_doorward_to_its_clients() {
    for (option, own) in [(&["--relisten"][..], true), (&[], false)] {
        let door = Door::new().no_bind().args(option);
        let socket = stream(&door.path("s"));
        let door = door.listen_fds([socket], &[]).serve(reporter());
        let expected = if own {
            door.pid()
        } else {
            std::process::id() as i32
        };
        assert_eq!(door.connect().server().0, expected, "{option:?}");
    }
}

#[test]
fn inherited_socket_outlives_doorward_and_refuses_nobody() {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let socket = stream(&path);
    let ours = socket.try_clone().unwrap();
    let mut door = door.listen_fds([socket], &[]).serve(reporter());
    door.signal(Signal::SIGTERM);
    assert!(door.wait_exit().success());

    assert!(path.exists());
    let waiting = Dial::to(&path).connect();
    waiting.assert_open();
    nix::sys::socket::accept(ours.as_raw_fd())
        .map(|fd| crate::support::raw::own(vec![fd]))
        .expect("the one that waits");
}

//! Which descriptors a child gets, and that it gets no others.

use std::collections::BTreeMap;
use std::fs::File;

use super::{reporter, take_greeting};
use crate::support::{Door, Report, inspect, probe};

/// What stands where, without the numbers of the sockets.
fn kinds(report: &Report) -> BTreeMap<i32, String> {
    let fds = report.fds();
    assert!(
        fds.values()
            .all(|fd| !fd.cloexec && !fd.listening && !fd.nonblock),
        "{fds:?}"
    );
    let kind = |fd: &crate::support::probe::Descriptor| match fd.socket.as_str() {
        "-" if fd.link.starts_with("pipe:") => "pipe".to_owned(),
        "-" => fd.link.clone(),
        socket => socket.to_owned(),
    };
    fds.iter().map(|(number, fd)| (*number, kind(fd))).collect()
}

fn expected<const N: usize>(fds: [(i32, &str); N]) -> BTreeMap<i32, String> {
    fds.map(|(number, kind)| (number, kind.to_owned())).into()
}

#[test]
fn ucspi_has_the_connection_on_6_and_7() {
    for options in [vec![], vec!["--layout", "ucspi"]] {
        let door = Door::new().args(options).serve(reporter("7"));
        let report = Report::parse(door.connect().read_to_end());
        let all = [
            (0, "/dev/null"),
            (1, "pipe"),
            (2, "pipe"),
            (6, "stream"),
            (7, "stream"),
        ];
        assert_eq!(kinds(&report), expected(all));
        let fds = report.fds();
        assert_eq!(fds[&6].link, fds[&7].link);
        // 1 and 2 are doorward's own.
        let own = door.fds();
        assert_eq!((&own[&1], &own[&2]), (&fds[&1].link, &fds[&2].link));
    }
}

#[test]
fn inetd_has_the_connection_on_0_and_1() {
    for options in [
        vec!["--inetd"],
        vec!["--layout", "inetd"],
        vec!["--inetd", "--layout", "inetd"],
    ] {
        let door = Door::new().args(options).serve(reporter("1"));
        let report = Report::parse(door.connect().read_to_end());
        assert_eq!(
            kinds(&report),
            expected([(0, "stream"), (1, "stream"), (2, "pipe")])
        );
        let fds = report.fds();
        assert_eq!(fds[&0].link, fds[&1].link);
        assert_eq!(door.fds()[&2], fds[&2].link);
    }
}

#[test]
fn systemd_has_the_connection_on_3_as_sd_listen_fds_takes_it() {
    let door = Door::new()
        .args(["--layout", "systemd"])
        .env("LISTEN_PID", "1");
    let door = door.serve(reporter("3"));
    // More children than doors: none has the pid of one before.
    for i in 0..20 {
        let report = Report::parse(door.connect().read_to_end());
        let all = [(0, "/dev/null"), (1, "pipe"), (2, "pipe"), (3, "stream")];
        assert_eq!(kinds(&report), expected(all));
        assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
        assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("connection"));
        assert_eq!(
            report.env("LISTEN_PID"),
            Some(report.get("pid")),
            "child {i}"
        );
        assert_eq!(report.env("LISTEN_PIDFDID"), None);
    }
}

#[test]
fn both_directions_work_in_every_layout() {
    let probe = probe();
    let probe = probe.to_str().unwrap();
    for (layout, from, to) in [
        ("ucspi", "6", "7"),
        ("inetd", "0", "1"),
        ("systemd", "3", "3"),
    ] {
        for (kind, connect) in [("stream", false), ("seqpacket", true)] {
            let door = Door::new()
                .args(["--layout", layout, "--type", kind])
                .serve([probe, "echo", from, to]);
            let dial = door.dial();
            let mut client = if connect { dial.seqpacket() } else { dial }.connect();
            client.send(b"hello");
            assert_eq!(client.read_record(), b"hello", "{layout} {kind}");
            client.shutdown_write();
            assert_eq!(client.read_record(), b"", "{layout} {kind}");
        }
    }
}

#[test]
fn notify_and_pidfd_go_with_every_layout() {
    for (layout, fd, connection) in [
        ("ucspi", "7", vec![6, 7]),
        ("inetd", "1", vec![0, 1]),
        ("systemd", "3", vec![3]),
    ] {
        let door = Door::new()
            .args(["--layout", layout, "--notify", "--pidfd"])
            .serve(reporter(fd));
        let mut client = door.connect();
        take_greeting(&mut client);
        let report = Report::parse(client.read_to_end());
        let mut numbers: Vec<i32> = [0, 1, 2, 8, 9].into_iter().chain(connection).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(report.fd_numbers(), numbers, "{layout}");
        let fds = report.fds();
        assert_eq!(fds[&8].socket, "stream");
        assert!(fds[&9].link.contains("pidfd"), "{:?}", fds[&9]);
        assert_eq!(report.env("NOTIFYFD").as_deref(), Some("8"));
        assert_eq!(report.env("PIDFD").as_deref(), Some("9"));
        assert!(
            fds.values()
                .all(|fd| !fd.cloexec && !fd.nonblock && !fd.listening),
            "{fds:?}"
        );
    }
}

#[test]
fn whatever_doorward_was_started_with_no_child_has_it() {
    need!("bash");
    let all = "for i in {3..400} 1000 1023 5000; do eval \"exec $i</dev/zero\"; done; exec \"$@\"";
    for (layout, fd) in [("ucspi", "7"), ("inetd", "1"), ("systemd", "3")] {
        let door = Door::new()
            .args(["--layout", layout, "--notify", "--pidfd"])
            .wrap(["bash", "-c", all, "bash"])
            .serve(reporter(fd));
        for _ in 0..10 {
            let mut client = door.connect();
            take_greeting(&mut client);
            let fds = Report::parse(client.read_to_end()).fds();
            assert!(
                fds.values().all(|fd| fd.link != "/dev/zero"),
                "{layout}: {fds:?}"
            );
            assert!(fds.keys().all(|number| *number <= 9), "{layout}: {fds:?}");
        }
    }
}

#[test]
fn a_single_stray_descriptor_at_a_number_of_the_layout_is_replaced() {
    for number in [3, 4, 5, 6, 7, 8, 9, 10, 63, 64, 65] {
        let door = Door::new()
            .args(["--notify"])
            .fd(number, File::open("/dev/zero").unwrap())
            .serve(reporter("7"));
        let mut client = door.connect();
        take_greeting(&mut client);
        let report = Report::parse(client.read_to_end());
        assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7, 8], "{number}");
        assert!(
            report.fds().values().all(|fd| fd.link != "/dev/zero"),
            "{number}"
        );
    }
}

#[test]
fn keep_fd_lets_a_descriptor_pass_and_no_other() {
    for (number, stray) in [(3, 4), (5, 63), (8, 9), (64, 65), (100, 99), (1023, 1022)] {
        let door = Door::new();
        let kept = door.path("kept");
        std::fs::write(&kept, "text").unwrap();
        let door = door
            .args(["--keep-fd", &number.to_string()])
            .fd(number, File::open(&kept).unwrap())
            .fd(stray, File::open("/dev/zero").unwrap())
            .serve(reporter("7"));
        for _ in 0..10 {
            let report = Report::parse(door.connect().read_to_end());
            let mut numbers = vec![0, 1, 2, 6, 7, number];
            numbers.sort_unstable();
            assert_eq!(report.fd_numbers(), numbers);
            assert_eq!(report.fds()[&number].link, kept.to_str().unwrap());
            assert!(!report.fds()[&number].cloexec);
        }
    }
}

#[test]
fn keep_fd_refuses_what_it_cannot_keep() {
    for (options, words) in [
        (vec!["--keep-fd", "2"], vec!["--keep-fd 2"]),
        (vec!["--keep-fd", "1024"], vec!["--keep-fd 1024"]),
        (vec!["--keep-fd", "30"], vec!["--keep-fd 30", "not open"]),
        (
            vec!["--keep-fd", "6"],
            vec!["--keep-fd 6", "--layout ucspi"],
        ),
        (
            vec!["--keep-fd", "3", "--layout", "systemd"],
            vec!["--keep-fd 3", "--layout systemd"],
        ),
        (
            vec!["--keep-fd", "8", "--notify"],
            vec!["--keep-fd 8", "--notify"],
        ),
        (
            vec!["--keep-fd", "9", "--pidfd"],
            vec!["--keep-fd 9", "--pidfd"],
        ),
    ] {
        Door::new().args(options).fails(["true"]).assert(100, words);
    }
}

#[test]
fn no_child_holds_a_listening_socket() {
    let door = Door::new().serve([probe().to_str().unwrap(), "echo", "6", "7"]);
    let mut clients: Vec<_> = (0..5).map(|_| door.connect()).collect();
    // An answer comes from the program: before its exec a child still stands between.
    for client in &mut clients {
        client.send(b"x");
        client.read_exactly(1);
    }
    for child in door.wait_children(5) {
        assert!(!inspect::has_listening_socket(child));
    }
}

#[test]
fn layouts_that_contradict_each_other_are_wrong_use() {
    for layout in ["ucspi", "systemd"] {
        Door::new()
            .args(["--inetd", "--layout", layout])
            .fails(["true"])
            .assert(100, ["--inetd", &format!("--layout {layout}")]);
    }
    Door::new()
        .args(["--layout", "none"])
        .fails(["true"])
        .assert(100, ["--layout"]);
}

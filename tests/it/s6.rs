//! Under s6: the service directory of contrib as it is, readiness, a clean end, and sockets handed over on descriptor 0.

use nix::sys::signal::Signal;

use crate::support::neighbour::assert_no_child_listens;
use crate::support::{Dial, Neighbour, Report, User, eventually, inspect, probe};

/// A scan directory with contrib's service in it.
fn scanned() -> Neighbour {
    let mut s6 = Neighbour::new();
    s6.write("SCAN", "");
    s6.copy("contrib/s6/doorward-echo");
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    s6
}

const SERVICE: &str = "doorward-echo";

#[test]
fn service_directory_answers_and_logs_and_is_ready_when_it_listens() {
    need!("s6-svscan", "execlineb", "s6-log");
    let mut s6 = scanned();
    // Not s6-svok: what that asks for is there a moment before the status that s6-svwait reads.
    eventually("s6-supervise", || {
        s6.run("s6-svstat", &[SERVICE]).status.success()
    });

    // -U: until it says on descriptor 3 that it is ready.
    s6.say("s6-svwait", &["-U", "-t", "20000", SERVICE]);
    let me = nix::unistd::geteuid();
    let gid = nix::unistd::getegid();
    // No patience here: ready means listening.
    let answer = s6.connect("doorward-echo/socket").read_text();
    let start = format!("you are uid {me}, gid {gid}, groups ");
    assert!(answer.starts_with(&start), "{answer}");
    assert!(answer.ends_with(&format!(", pid {}\n", std::process::id())));

    eventually("the start in the log", || {
        std::fs::read_to_string(s6.path("doorward-echo/log-files/current"))
            .is_ok_and(|log| log.contains("doorward: ") && log.contains("serving socket"))
    });

    let doorward = s6.doorward();
    s6.say("s6-svc", &["-wD", "-T", "20000", "-d", SERVICE]);
    assert!(!inspect::alive(doorward));
    assert!(
        !s6.path("doorward-echo/socket").exists(),
        "the socket is gone"
    );
    let state = s6.say("s6-svstat", &["-o", "up,exitcode,signal", SERVICE]);
    assert_eq!(state.trim(), "false 0 NA", "a clean end");

    s6.say("s6-svc", &["-wU", "-T", "20000", "-u", SERVICE]);
    assert!(
        s6.connect("doorward-echo/socket")
            .read_text()
            .starts_with("you are uid")
    );

    assert!(s6.stop(Signal::SIGTERM).success());
    s6.assert_all_ended();
}

#[test]
fn no_child_under_s6_holds_the_listening_socket_or_the_notification_descriptor() {
    need!("s6-svscan", "execlineb");
    let mut s6 = Neighbour::new();
    s6.copy("contrib/s6/doorward-echo");
    let run = format!(
        "#!/bin/sh\nexec doorward spawn --ready-fd 3 --bind socket --inetd {} report-hold 1\n",
        probe().display()
    );
    s6.script("doorward-echo/run", &run);
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    let mut client = s6.connect("doorward-echo/socket");
    let mut report = String::new();
    while !report.ends_with("end \n") {
        report += &client.read_line();
        report += "\n";
    }
    let fds = Report::parse(report).fds();
    assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(fds.values().all(|fd| !fd.listening), "{fds:?}");
    assert_no_child_listens(s6.doorward());
}

#[test]
fn wrong_use_stays_down_instead_of_starting_again_and_again() {
    need!("s6-svscan", "execlineb");
    let mut s6 = Neighbour::new();
    s6.copy("contrib/s6/doorward-echo");
    s6.script(
        "doorward-echo/run",
        "#!/bin/sh\nexec doorward spawn --bind socket --mode 999 true\n",
    );
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    eventually("the end of trying", || {
        let state = s6.run("s6-svstat", &["-o", "up,wantedup,exitcode", SERVICE]);
        String::from_utf8_lossy(&state.stdout).trim() == "false false 100"
    });
}

#[test]
fn admit_stands_where_s6_ipcserver_access_did() {
    need!(root, "s6-svscan", "execlineb", "s6-ipcserver");
    let mut s6 = Neighbour::new();
    s6.copy("contrib/s6/doorward-admit");
    // Rules of another's are not to be trusted, and a checkout may be anybody's.
    s6.say("chown", &["-R", "0:0", "doorward-admit"]);
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    eventually("s6-supervise", || {
        s6.run("s6-svstat", &["doorward-admit"]).status.success()
    });
    s6.say("s6-svwait", &["-U", "-t", "20000", "doorward-admit"]);
    let answer = s6.connect("doorward-admit/socket").read_text();
    assert!(answer.starts_with("you are uid 0, connection "), "{answer}");
    let stranger = User::new(4_751, 4_752);
    let mut refused = Dial::to(s6.path("doorward-admit/socket"))
        .user(&stranger)
        .connect();
    assert_eq!(refused.read_text(), "not you\n");
    eventually("the refusal in the log", || {
        std::fs::read_to_string(s6.path("doorward-admit/log-files/current"))
            .is_ok_and(|log| log.contains("doorward: deny user=4751 group=4752 "))
    });
    assert!(s6.stop(Signal::SIGTERM).success());
    s6.assert_all_ended();
}

#[test]
fn operators_restart_the_service_beside_and_nobody_else_anything() {
    need!(root, "s6-svscan", "execlineb", "setpriv");
    let mut s6 = Neighbour::new();
    s6.copy("contrib/s6/doorward-restart");
    s6.say("chown", &["-R", "0:0", "doorward-restart"]);
    // A group that the machine need not have, by its number.
    let operators = User::unique().gid;
    let run = std::fs::read_to_string(s6.path("doorward-restart/run")).unwrap();
    let ours = |text: &str| text.replace("root:operators", &format!("root:{operators}"));
    let ours = ours(&run).replace("group:operators", &format!("group:{operators}"));
    s6.script("doorward-restart/run", &ours);
    for name in ["web", "other"] {
        std::fs::create_dir(s6.path(name)).unwrap();
        s6.script(&format!("{name}/run"), "#!/bin/sh\nexec sleep 1000\n");
    }
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    for name in ["doorward-restart", "web", "other"] {
        eventually("s6-supervise", || {
            s6.run("s6-svstat", &[name]).status.success()
        });
        s6.say("s6-svwait", &["-u", "-t", "20000", name]);
    }
    s6.say("s6-svwait", &["-U", "-t", "20000", "doorward-restart"]);

    let pid = |name: &str| s6.say("s6-svstat", &["-o", "pid", name]);
    let called = |user: &User, words: &[&str]| {
        let group = user.groups.first().unwrap_or(&user.gid);
        let become_user = [
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            format!("--groups={group}"),
        ];
        let become_user: Vec<&str> = become_user.iter().map(String::as_str).collect();
        let call = ["doorward", "call", "doorward-restart/socket"];
        let output = s6.run("setpriv", &[&become_user, &call[..], words].concat());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), errors)
    };
    let operator = User::unique().groups([operators]);
    let (web, other) = (pid("web"), pid("other"));
    assert_eq!(called(&operator, &[]), (Some(0), String::new()));
    let restarted = pid("web");
    assert_ne!(restarted, web);

    let (code, errors) = called(&operator, &["other"]);
    assert_eq!(code, Some(100), "{errors}");
    let (code, errors) = called(&User::unique(), &[]);
    assert!(code == Some(111) && errors.contains("Permission denied"));
    let (code, errors) = called(&User::new(0, 0), &[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("not you, or not now"), "{errors}");
    assert_eq!((pid("web"), pid("other")), (restarted, other));
    eventually("who it was, in the log", || {
        std::fs::read_to_string(s6.path("doorward-restart/log-files/current")).is_ok_and(|log| {
            log.contains(&format!("doorward: call user={} ", operator.uid))
                && log.contains("doorward: deny user=0 ")
        })
    });
    assert!(s6.stop(Signal::SIGTERM).success());
    s6.assert_all_ended();
}

#[test]
fn socketbinder_of_s6_hands_its_socket_over_on_descriptor_0() {
    need!("s6-ipcserver-socketbinder");
    let mut s6 = Neighbour::new();
    let mut binder = s6.command("s6-ipcserver-socketbinder");
    binder.args(["-a", "0600", "socket", "doorward", "spawn", "--inetd"]);
    binder.arg(probe()).args(["report", "1"]);
    s6.start(&mut binder);
    let report = Report::parse(s6.connect("socket").read_to_end());
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    assert!(report.fds().values().all(|fd| !fd.listening));
    assert_eq!(report.env("PROTO").as_deref(), Some("IPC"));
    assert!(s6.stop(Signal::SIGTERM).success());
    assert!(
        s6.path("socket").exists(),
        "an inherited socket's node is not ours to remove"
    );
}

#[test]
fn socket_kept_by_s6_fdholder_is_served_by_one_doorward_after_the_other() {
    need!("s6-fdholder-daemon", "s6-ipcserver-socketbinder");
    let mut s6 = Neighbour::new();
    let env = s6.path("rules/uid/self/env");
    std::fs::create_dir_all(&env).unwrap();
    s6.write("rules/uid/self/allow", "");
    for may in ["STORE", "RETRIEVE"] {
        s6.write(
            &format!("rules/uid/self/env/S6_FDHOLDER_{may}_REGEX"),
            "^unix:door$",
        );
    }
    let mut holder = s6.command("s6-fdholder-daemon");
    holder.args(["-i", "rules", "holder"]);
    s6.start(&mut holder);
    drop(s6.connect("holder"));
    let binder = ["-a", "0600", "socket"];
    let store = ["s6-fdholder-store", "holder", "unix:door"];
    s6.say("s6-ipcserver-socketbinder", &[&binder[..], &store].concat());

    // Nobody serves it yet, and nobody is refused.
    let mut waiting = s6.connect("socket");
    for _ in 0..2 {
        let mut retrieve = s6.command("s6-fdholder-retrieve");
        retrieve.args(["holder", "unix:door", "doorward", "spawn", "--inetd"]);
        retrieve.args(["printenv", "IPCREMOTEEUID"]);
        s6.start(&mut retrieve);
        let me = format!("{}\n", nix::unistd::geteuid());
        assert_eq!(waiting.read_text(), me);
        assert!(s6.stop(Signal::SIGTERM).success());
        waiting = s6.connect("socket");
    }
}

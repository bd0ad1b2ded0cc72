//! Under runit: the service directory of contrib as it is, its log through svlogd, and a clean end.

use std::fs;

use crate::support::neighbour::assert_no_child_listens;
use crate::support::{Neighbour, eventually, inspect, probe};

/// contrib's service under runsv.
fn supervised(change: impl FnOnce(&Neighbour)) -> Neighbour {
    let mut runit = Neighbour::new();
    runit.copy("contrib/runit/doorward-echo");
    change(&runit);
    let mut runsv = runit.command("runsv");
    runsv.arg("doorward-echo");
    runit.start(&mut runsv);
    runit
}

#[test]
fn service_directory_answers_and_its_lines_go_through_svlogd() {
    need!("runsv", "svlogd");
    let runit = supervised(|_| ());
    let answer = runit.connect("doorward-echo/socket").read_text();
    let me = nix::unistd::geteuid();
    assert!(
        answer.starts_with(&format!("you are uid {me}, gid ")),
        "{answer}"
    );
    assert!(answer.ends_with(&format!(", pid {}\n", std::process::id())));

    eventually("the start in the log", || {
        fs::read_to_string(runit.path("doorward-echo/log-files/current"))
            .is_ok_and(|log| log.contains("serving socket"))
    });

    let service = runit.text("doorward-echo");
    let doorward = runit.doorward();
    runit.say("sv", &["down", &service]);
    eventually("down", || {
        runit.say("sv", &["status", &service]).starts_with("down:")
    });
    assert!(!inspect::alive(doorward));
    assert!(
        !runit.path("doorward-echo/socket").exists(),
        "the socket is gone"
    );

    runit.say("sv", &["up", &service]);
    assert!(
        runit
            .connect("doorward-echo/socket")
            .read_text()
            .starts_with("you are uid")
    );
    runit.say("sv", &["exit", &service]);
    runit.assert_all_ended();
}

#[test]
fn no_child_under_runit_holds_the_listening_socket() {
    need!("runsv");
    let runit = supervised(|runit| {
        let run = format!(
            "#!/bin/sh\nexec doorward spawn --bind socket --inetd {} hold 0\n",
            probe().display()
        );
        runit.script("doorward-echo/run", &run);
    });
    let _client = runit.connect("doorward-echo/socket");
    assert_no_child_listens(runit.doorward());
}

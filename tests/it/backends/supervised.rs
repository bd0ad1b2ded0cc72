//! Under s6 and runit, with the service directories of contrib: a backend that doorward starts and keeps.

use super::{Guest, Language};
use crate::support::{Neighbour, eventually};
use nix::sys::signal::Signal;
use std::fs;

const PLACE: &str = "/usr/local/lib/doorward/watch";
const SERVICE: &str = "doorward-handoff";

/// A scan directory with contrib's service, in which the backend stands elsewhere.
fn prepared(from: &str, language: Language) -> Neighbour {
    let here = Neighbour::new();
    here.copy(from);
    let run = format!("{SERVICE}/run");
    let text = fs::read_to_string(here.path(&run)).unwrap();
    let program = language.program().to_str().unwrap();
    assert_eq!(text.matches(PLACE).count(), 2, "in the comment and in use");
    here.script(&run, &text.replace(PLACE, program));
    here
}

#[test]
fn s6_starts_it_is_told_when_the_backend_is_ready_and_ends_both() {
    need!("s6-svscan", "execlineb", "s6-log", "gcc");
    let mut s6 = prepared("contrib/s6/doorward-handoff", Language::C);
    let mut scan = s6.command("s6-svscan");
    scan.arg(".");
    s6.start(&mut scan);
    eventually("s6-supervise", || {
        s6.run("s6-svstat", &[SERVICE]).status.success()
    });
    s6.say("s6-svwait", &["-U", "-t", "20000", SERVICE]);
    let mut guest = Guest::greeted(s6.connect("doorward-handoff/socket"));
    assert_eq!(guest.ask("watch lamp"), "ok");
    assert_eq!(guest.ask("set lamp 1"), "ok");
    assert!(guest.events.read_line().ends_with(" 1"));
    assert_eq!(guest.ask("quit"), "ok");
    eventually("the start in the log", || {
        fs::read_to_string(s6.path("doorward-handoff/log-files/current"))
            .is_ok_and(|log| log.contains("backend start child="))
    });
    s6.say("s6-svc", &["-wD", "-T", "20000", "-d", SERVICE]);
    let state = s6.say("s6-svstat", &["-o", "up,exitcode,signal", SERVICE]);
    assert_eq!(state.trim(), "false 0 NA", "a clean end");
    assert!(s6.stop(Signal::SIGTERM).success());
    s6.assert_all_ended();
}

#[test]
fn runit_starts_it_and_ends_both_before_its_patience_does() {
    need!("runsv", "svlogd", "python3");
    let mut runit = prepared("contrib/runit/doorward-handoff", Language::Python);
    let mut runsv = runit.command("runsv");
    runsv.arg(SERVICE);
    runit.start(&mut runsv);
    let mut guest = Guest::greeted(runit.connect("doorward-handoff/socket"));
    assert_eq!(guest.ask("set lamp 1"), "ok");
    assert_eq!(guest.ask("get lamp"), "ok 1");
    // Who has not finished is no reason to miss the time that sv gives: 7 seconds.
    let service = runit.text(SERVICE);
    runit.say("sv", &["down", &service]);
    assert_eq!(guest.client.read_text(), "");
    runit.say("sv", &["up", &service]);
    let mut guest = Guest::greeted(runit.connect("doorward-handoff/socket"));
    assert_eq!(guest.ask("get lamp"), "none");
    runit.say("sv", &["exit", &service]);
    runit.assert_all_ended();
}

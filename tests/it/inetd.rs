//! Under OpenBSD's inetd: the `wait` line of contrib as it is but for its paths, with the log going to /dev/log.

use std::fs;
use std::process::Command;

use crate::support::neighbour::{assert_no_child_listens, project};
use crate::support::notices::Notices;
use crate::support::{DEADLINE, Dial, Neighbour, User, eventually, inspect, probe};

/// inetd with contrib's line, serving `socket` in this directory. It runs where /dev is its own: null and a `log`
/// that leads to the test.
pub(super) fn inetd(change: impl FnOnce(String) -> String) -> (Neighbour, Notices) {
    let mut inetd = Neighbour::new();
    let log = Notices::at_path(&inetd.path("log"));
    let text = fs::read_to_string(project().join("contrib/inetd/inetd.conf")).unwrap();
    let line = text
        .replace("/run/doorward-echo.sock", &inetd.text("socket"))
        .replace("/usr/local/bin/doorward", &inetd.text("bin/doorward"));
    assert_eq!(line.matches(&inetd.text("")).count(), 2, "{line}");
    inetd.write("inetd.conf", &change(line));
    // A plain directory would not do: the devices must work.
    let private_dev = "set -e
        mkdir dev
        mount -t tmpfs -o mode=0755 none dev
        for device in null zero full random urandom; do
            touch dev/$device
            mount --bind /dev/$device dev/$device
        done
        ln -s \"$PWD/log\" dev/log
        mount --rbind dev /dev
        exec inetd -i \"$PWD/inetd.conf\"";
    let mut unshare: Command = inetd.command("unshare");
    unshare.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        private_dev,
    ]);
    inetd.start(&mut unshare);
    (inetd, log)
}

pub(super) fn heard(log: &Notices, text: &str) -> String {
    let notice = log.wait_for(text, DEADLINE);
    notice
        .unwrap_or_else(|| panic!("no {text:?} in {:#?}", log.all()))
        .text
}

#[test]
fn line_of_contrib_answers_refuses_and_logs_to_syslog() {
    need!(root, "inetd", "unshare");
    let (inetd, log) = inetd(|line| line);
    assert_eq!(inetd.connect("socket").read_text(), "0\n");
    let start = heard(&log, "serving");
    assert!(start.contains("doorward"), "{start}");

    // All of 0, 1 and 2 were the listening socket; none is any more.
    let doorward = standard_descriptors(&inetd);
    assert_eq!(doorward, ["/dev/null", "/dev/null", "/dev/null"]);

    // The mode on the command line is on the node, and who is not in it gets no connection.
    let nobody = User::nobody();
    let refused = Dial::to(inetd.path("socket")).user(&nobody).try_connect();
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    let uid = inspect::status_line(inetd.doorward(), "Uid").unwrap();
    assert_eq!(
        uid.split_whitespace().next(),
        Some("65534"),
        "runs as nobody"
    );
}

#[test]
fn wrong_option_is_told_to_syslog_where_there_is_no_standard_error() {
    need!(root, "inetd", "unshare");
    let (inetd, log) = inetd(|line| line.replace("spawn --inetd", "spawn --nonsense --inetd"));
    let _client = inetd.connect("socket");
    let line = heard(&log, "--nonsense");
    assert!(
        line.contains("doorward") && line.contains("fatal: "),
        "{line}"
    );
}

fn standard_descriptors(inetd: &Neighbour) -> Vec<String> {
    let fds = inspect::fds(inetd.doorward());
    [0, 1, 2].iter().map(|n| fds[n].clone()).collect()
}

#[test]
fn rules_of_the_line_hold_where_the_mode_lets_everybody_in() {
    need!(root, "inetd", "unshare");
    let (inetd, log) = inetd(|line| line.replace("--mode 0660 ", ""));
    assert_eq!(inetd.connect("socket").read_text(), "0\n");
    let nobody = User::nobody();
    let mut refused = Dial::to(inetd.path("socket")).user(&nobody).connect();
    assert_eq!(refused.read_text(), "");
    heard(&log, "deny user=65534");
    // Of group adm, supplementary.
    let member = User::new(65534, 65534).groups([4]);
    let mut admitted = Dial::to(inetd.path("socket")).user(&member).connect();
    assert_eq!(admitted.read_text(), "65534\n");
}

#[test]
fn one_doorward_serves_all_and_inetd_starts_the_next_when_it_ends() {
    need!(root, "inetd", "unshare");
    let (inetd, _log) = inetd(|line| line);
    for _ in 0..20 {
        assert_eq!(inetd.connect("socket").read_text(), "0\n");
    }
    let first = inetd.doorward();
    inetd.say("kill", &["-TERM", &first.to_string()]);
    eventually("its end", || !inspect::alive(first));
    assert_eq!(inetd.connect("socket").read_text(), "0\n");
    assert_ne!(inetd.doorward(), first);
}

#[test]
fn no_child_under_inetd_holds_the_listening_socket() {
    need!(root, "inetd", "unshare");
    let hold = format!("{} hold 0", probe().display());
    let (inetd, _log) = inetd(|line| line.replace("printenv IPCREMOTEEUID", &hold));
    let _client = inetd.connect("socket");
    eventually("a doorward with a child", || {
        !inspect::children(inetd.doorward()).is_empty()
    });
    assert_no_child_listens(inetd.doorward());
}

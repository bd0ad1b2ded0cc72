//! Under systemd as process 1: a socket unit, doorward activate, and the daemon.

use crate::support::{Dial, Systemd, eventually_some, inspect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

const SOCKET: &str = "activate-uuidd.socket";
const SERVICE: &str = "activate-uuidd.service";
const PATH: &str = "/run/activate-uuidd.sock";

fn ask(systemd: &Systemd) {
    let output = Command::new("uuidd")
        .args(["-r", "-s"])
        .arg(systemd.path(PATH))
        .output()
        .unwrap();
    let uuid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(uuid.len(), 36, "{output:?}\n{}", systemd.journal(SERVICE));
}

#[test]
fn clients_are_served_across_the_deaths_of_the_daemon_and_of_doorward() {
    need!(root, "systemctl", "systemd", "unshare", "nsenter", "uuidd");
    let systemd = Systemd::boot();
    systemd.install(
        SOCKET,
        &format!("[Socket]\nListenStream={PATH}\nSocketMode=0666\n"),
    );
    systemd.install(
        SERVICE,
        "[Service]\nType=notify\nNotifyAccess=main\nWatchdogSec=30\n\
         ExecStart=/usr/bin/doorward activate uuidd -S -P -F\n",
    );
    systemd.start_unit(SOCKET);
    ask(systemd);
    assert_eq!(systemd.show(SERVICE, "ActiveState"), "active");
    let daemon = || {
        eventually_some("the daemon", || {
            let main = systemd.main_pid(SERVICE)?;
            inspect::children(main).first().copied()
        })
    };
    let first = daemon();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    ask(systemd);
    assert_ne!(daemon(), first);

    // Nobody is there to take it: it waits in the socket unit's queue for the next doorward.
    let main = systemd.main_pid(SERVICE).unwrap();
    systemd.run(["systemctl", "restart", SERVICE]);
    assert_ne!(systemd.main_pid(SERVICE), Some(main));
    drop(Dial::to(systemd.path(PATH)).connect());
    ask(systemd);

    systemd.stop_unit(SERVICE);
    assert_eq!(systemd.show(SERVICE, "Result"), "success");
    ask(systemd);
    systemd.run(["systemctl", "stop", SOCKET, SERVICE]);
    assert!(!systemd.journal(SERVICE).contains("error: "));
}

//! `--pidfd`: the client's process, on 9.

use std::process::{Command, Stdio, id};

use crate::support::{Door, eventually};

const SHOW: [&str; 3] = [
    "sh",
    "-c",
    "grep ^Pid: /proc/self/fdinfo/9 >&7; echo $PIDFD >&7",
];

#[test]
fn nine_is_the_process_that_connected() {
    let door = Door::new().args(["--pidfd"]).serve(SHOW);
    for _ in 0..10 {
        let text = door.connect().read_text();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["Pid:", &id().to_string(), "9"]);
    }
}

#[test]
fn a_client_that_is_no_more_is_no_trouble() {
    need!("socat");
    let mut door = Door::new().args(["--pidfd", "-v"]).serve(SHOW);
    door.pause();
    let mut gone = Command::new("socat");
    gone.args(["-u", "/dev/null"])
        .arg(format!("UNIX-CONNECT:{}", door.socket().display()));
    let status = gone.stdin(Stdio::null()).status().unwrap();
    assert!(status.success());
    door.resume();
    // Whatever became of that one, the next is served and no slot is lost.
    let text = door.connect().read_text();
    assert!(text.contains(&format!("Pid:\t{}", id())), "{text}");
    eventually("an end of all children", || door.children().is_empty());
    assert!(door.running());
}

#[test]
fn without_pidfd_there_is_none() {
    let door = Door::new().serve([
        "sh",
        "-c",
        "echo ${PIDFD-unset} >&7; ls /proc/self/fd | grep -c '^9$' >&7",
    ]);
    assert_eq!(door.connect().read_text(), "unset\n0\n");
}

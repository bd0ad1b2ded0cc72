//! What --pty is for: a program that means no good reaches the caller's terminal neither while it runs nor after.

use std::fs;

use super::{answer, at_a_terminal, script, words};
use crate::support::{Door, Screen, Served, User, eventually, eventually_some, inspect};

/// Pushes a line into the input of each terminal that it has.
const PUSHING: &str = r#"
import fcntl, os, termios
pushed = 0
for where in (0, 1, 2, "/dev/tty"):
    try:
        fd = where if isinstance(where, int) else os.open(where, os.O_RDWR | os.O_NOCTTY)
        for byte in b"echo pushed\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
        pushed += 1
    except OSError:
        pass
print("pushed into", pushed)
"#;

#[test]
fn what_a_program_pushes_into_its_input_does_not_come_to_the_caller_s() {
    need!(root, "setpriv", "python3");
    let server = answer(Door::new(), ["python3", "-c", PUSHING]);
    // Without: a line that the caller has not typed waits for its shell. (Where dev.tty.legacy_tiocsti is 0, root still may.)
    let mut bare = words(&server.socket(), &[]);
    bare.retain(|word| word != "--pty");
    let mut session = Screen::new().user(&User::unique()).start(bare);
    assert!(session.wait_exit().success());
    assert!(session.unread() > 0, "the attack of this test is none");
    let mut session = at_a_terminal(&server, &[]);
    assert!(session.wait_exit().success());
    let shown = session.shown();
    assert!(shown.contains("pushed into 4"), "{shown:?}");
    assert_eq!(session.unread(), 0);
}

#[test]
fn a_pushed_line_is_not_run_by_the_caller_s_shell() {
    need!(root, "setpriv", "python3", "bash");
    let server = answer(Door::new(), ["python3", "-c", PUSHING]);
    let shell = ["bash", "--norc", "-i"];
    let mut session = Screen::new().user(&User::unique()).start(shell);
    session.wait_for("ready> ");
    let words: Vec<String> = words(&server.socket(), &[])
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    session.type_in(&format!("{}\r", words.join(" ")));
    session.wait_for("pushed into 4");
    session.wait_for("ready> ");
    session.type_in("echo over$((1+1))\r");
    let shown = session.wait_for("\r\nover2");
    assert!(!shown.contains("pushed"), "{shown:?}");
}

/// Each descriptor of each process below the server that is a terminal, as /proc says its name.
fn terminals(server: &Served) -> Vec<String> {
    let below = inspect::descendants(server.pid());
    let descriptors = below
        .into_iter()
        .chain([server.pid()])
        .flat_map(inspect::fds);
    let terminal = |name: &String| {
        ["/dev/pts/", "/dev/ptmx", "/dev/tty"]
            .iter()
            .any(|it| name.starts_with(it))
    };
    descriptors.map(|(_, name)| name).filter(terminal).collect()
}

#[test]
fn no_process_of_the_server_s_has_the_caller_s_terminal_or_the_other_end_of_its_own() {
    need!(root, "setpriv");
    let server = script(Door::new(), "echo begun; sleep 600 & wait");
    let mut session = at_a_terminal(&server, &[]);
    session.wait_for("begun");
    let mut names = terminals(&server);
    // The program's 0, 1 and 2, and those of what it has started.
    assert!(names.len() >= 3, "{names:?}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("/dev/pts/"), "{names:?}");
    assert_ne!(names[0], session.name().to_str().unwrap());
}

/// Goes on behind its program's back, out of reach of its terminal's signals, until the call is over; then tries what it still has.
const STAYING: &str = r#"
import fcntl, os, sys, termios, time
results, go = sys.argv[1:]
if os.fork():
    print("gone", flush=True)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
while not os.path.exists(go):
    time.sleep(0.01)
# A terminal that has hung up gives the end of file, or fails.
said = []
def attempt(name, act):
    try:
        said.append(f"{name} {act()}")
    except OSError as error:
        said.append(f"{name} failed")
attempt("read", lambda: len(os.read(0, 100)))
attempt("write", lambda: os.write(1, b"written after the end"))
attempt("push", lambda: fcntl.ioctl(0, termios.TIOCSTI, b"p"))
attempt("open", lambda: os.open("/dev/tty", os.O_RDWR))
with open(results + ".new", "w") as file:
    file.write("\n".join(said))
os.rename(results + ".new", results)
"#;

#[test]
fn what_stays_when_the_call_is_over_neither_reads_nor_writes() {
    need!(root, "setpriv", "python3", "bash");
    let door = Door::new();
    let (results, go) = (door.path("results"), door.path("go"));
    let server = answer(door, ["python3", "-c", STAYING]);
    let arguments = [results.to_str().unwrap(), go.to_str().unwrap()];
    // The caller's shell stays in the terminal, as one does.
    let path = server.socket();
    let calling = words(&path, &arguments);
    let before = [
        "sh",
        "-c",
        "\"$@\"; echo over; read -r line; echo \"mine: $line\"",
        "sh",
    ];
    let screen = Screen::new().user(&User::unique());
    let mut session = screen.start(before.iter().map(Into::into).chain(calling));
    session.wait_for("gone");
    session.wait_for("over");
    assert_eq!(session.unread(), 0);
    fs::write(&go, "").unwrap();
    let said = eventually_some("what it tried", || fs::read_to_string(&results).ok());
    assert_eq!(said, "read 0\nwrite failed\npush failed\nopen failed");
    session.type_in("typed after\r");
    session.wait_for("mine: typed after");
    assert!(!session.shown().contains("written"));
}

#[test]
fn a_terminal_has_many_calls_and_nothing_is_left_of_them() {
    need!(root, "setpriv");
    let server = script(Door::new(), "exit 0");
    let screen = Screen::new().user(&User::unique());
    let mut shell: Vec<std::ffi::OsString> = vec!["sh".into(), "-c".into()];
    shell.push("for n in $(seq 30); do \"$@\" || echo failed; done".into());
    shell.push("sh".into());
    shell.extend(words(&server.socket(), &[]));
    let mut session = screen.start(shell);
    assert!(session.wait_exit().success());
    assert_eq!(session.shown(), "");
    server.wait_slots(0);
    eventually("no terminal to be left", || terminals(&server).is_empty());
}

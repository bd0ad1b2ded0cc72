//! What people do in a terminal: ask who and where they are, use a shell, an editor and a prompt for a password.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};

use super::{answer, at_a_terminal, script, words};
use crate::support::{Door, Screen, User, eventually};

#[test]
fn a_program_s_terminal_is_its_own_user_s_and_not_the_caller_s() {
    need!(root, "setpriv");
    let service = User::unique();
    let run_as = format!("{}:{}", service.uid, service.gid);
    let text = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; tty; echo whole; read -r line; echo \"got $line\"; exit 7";
    let server = script(Door::new().args(["--run-as", &run_as]), text);
    let mut session = at_a_terminal(&server, &[]);
    let shown = session.wait_for("whole\r\n");
    let names: Vec<&str> = shown.lines().take(4).collect();
    assert!(names[0].starts_with("/dev/pts/"), "{shown}");
    assert!(names.iter().all(|name| *name == names[0]), "{shown}");
    assert_ne!(Path::new(names[0]), session.name());
    let status = std::fs::metadata(names[0]).unwrap();
    assert!(status.file_type().is_char_device());
    assert_eq!(status.uid(), service.uid);
    assert_eq!(status.permissions().mode() & 0o777, 0o600);
    assert_ne!(status.rdev(), session.device());
    session.type_in("a word\r");
    session.wait_for("got a word\r\n");
    assert_eq!(session.wait_exit().code(), Some(7));
    assert!(!session.is_raw());
}

#[test]
fn size_and_modes_are_those_of_the_caller_s_terminal_and_the_size_follows() {
    need!(root, "setpriv");
    let text = "trap 'stty size' WINCH; stty size; stty -a | grep -o ' erase = [^;]*'; echo begun; while :; do sleep 1 & wait $!; done";
    let server = script(Door::new(), text);
    let screen = Screen::new().user(&User::unique());
    let session = {
        let (shell, path) = (
            "stty erase ^W rows 31 cols 97; exec \"$@\"",
            server.socket(),
        );
        let before = ["sh", "-c", shell, "sh"].map(Into::into);
        screen.start(before.into_iter().chain(words(&path, &[])))
    };
    let mut session = session;
    session.wait_for("31 97\r\n erase = ^W\r\nbegun");
    session.resize(40, 120);
    session.wait_for("40 120\r\n");
    session.resize(10, 20);
    session.wait_for("10 20\r\n");
}

#[test]
fn a_shell_has_its_keys_and_its_jobs() {
    need!(root, "setpriv", "bash");
    let shell = ["bash", "--norc", "-i"];
    let server = answer(Door::new().env("PS1", "root> "), shell);
    let mut session = at_a_terminal(&server, &[]);
    session.wait_for("root> ");
    assert!(!session.shown().contains("no job control"));
    session.type_in("echo $((40+2))\r");
    session.wait_for("\r\n42\r\n");
    // Ctrl-C: the job, and neither the shell nor the call.
    session.type_in("echo begun; sleep 60; echo slept $?\r");
    session.wait_for("\r\nbegun\r\n");
    eventually("a job in the foreground", || server_has(&server, "sleep"));
    session.type_in("\x03");
    session.wait_for("^C");
    session.wait_for("root> ");
    assert!(!session.shown().contains("slept 0"));
    // Ctrl-Z: the shell's job, and nothing else.
    session.type_in("sleep 61\r");
    eventually("a job in the foreground", || server_has(&server, "sleep"));
    session.type_in("\x1a");
    session.wait_for("Stopped");
    session.wait_for("root> ");
    session.type_in("kill %1; echo job $?\r");
    session.wait_for("job 0");
    session.type_in("\x04");
    session.wait_exit();
    assert!(!session.is_raw());
}

/// Whether something of that name runs below the server in the foreground of its terminal.
fn server_has(server: &crate::support::Served, name: &str) -> bool {
    let below = crate::support::inspect::descendants(server.pid());
    below.into_iter().any(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else {
            return false;
        };
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        // State, parent, group, session, terminal, the terminal's foreground.
        head.ends_with(name) && fields.get(2) == fields.get(5)
    })
}

#[test]
fn what_is_typed_at_a_prompt_for_a_password_is_not_shown() {
    need!(root, "setpriv");
    let text = "stty -echo; printf 'Password: '; read -r word; stty echo; echo; echo \"length ${#word}\"; read -r word; echo \"and $word\"";
    let server = script(Door::new(), text);
    let mut session = at_a_terminal(&server, &[]);
    session.wait_for("Password: ");
    session.type_in("secret\r");
    session.wait_for("length 6");
    assert!(!session.shown().contains("secret"));
    session.type_in("plain\r");
    session.wait_for("and plain");
    assert!(
        session.shown().contains("plain\r\nand plain"),
        "it is shown again"
    );
    assert!(session.wait_exit().success());
}

#[test]
fn editors_edit() {
    need!(root, "setpriv", "ed", "vi");
    let door = Door::new();
    let file = door.path("file");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let server = script(door, "exec \"$@\"");
    let path = file.to_str().unwrap();
    let mut session = at_a_terminal(&server, &["ed", path]);
    session.wait_for("8\r\n");
    session.type_in("2s/two/2/\rw\rq\r");
    assert!(session.wait_exit().success(), "{}", session.shown());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n2\n");
    let mut session = at_a_terminal(&server, &["vi", path]);
    session.wait_for("one");
    session.type_in("ddix\x1b:wq\r");
    assert!(session.wait_exit().success(), "{}", session.shown());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x2\n");
    assert!(!session.is_raw());
}

#[test]
fn a_call_that_finds_a_raw_terminal_leaves_it_as_it_was() {
    need!(root, "setpriv");
    let server = script(Door::new(), "echo begun; read -r line");
    let screen = Screen::new().user(&User::unique());
    let before = ["sh", "-c", "stty -echo intr ^G; exec \"$@\"", "sh"].map(Into::into);
    let path = server.socket();
    let mut session = screen.start(before.into_iter().chain(words(&path, &[])));
    session.wait_for("begun");
    session.type_in("\r");
    session.wait_exit();
    let modes = tcgetattr(&session).unwrap();
    assert!(!modes.local_flags.contains(LocalFlags::ECHO));
    assert!(modes.local_flags.contains(LocalFlags::ICANON));
    let interrupt = SpecialCharacterIndices::VINTR as usize;
    assert_eq!(modes.control_chars[interrupt], 7);
    // As the next program of a shell would.
    tcsetattr(&session, SetArg::TCSANOW, &modes).unwrap();
}

#[test]
fn the_kind_of_the_terminal_is_the_caller_s_word_if_it_is_plain() {
    need!(root, "setpriv");
    let server = script(Door::new().env("TERM", "server"), "echo \"<$TERM>\"");
    for (kind, expected) in [
        ("vt220", "<vt220>"),
        ("../../tmp/x", "<server>"),
        ("", "<server>"),
    ] {
        let term = format!("TERM={kind}");
        let before = ["env", &term].map(Into::into);
        let path = server.socket();
        let screen = Screen::new().user(&User::unique());
        let mut session = screen.start(before.into_iter().chain(words(&path, &[])));
        session.wait_for(expected);
    }
    // Without a terminal of the program's own the server decides, as of every variable.
    let mut bare = words(&server.socket(), &[]);
    bare.retain(|word| word != "--pty");
    let mut session = Screen::new().user(&User::unique()).start(bare);
    session.wait_for("<server>");
}

#[test]
fn output_is_whole_however_much_there_is() {
    need!(root, "setpriv");
    let text = "head -c 1048576 /dev/zero | tr '\\0' x; printf END";
    let server = script(Door::new(), text);
    for _ in 0..3 {
        let mut session = at_a_terminal(&server, &[]);
        assert!(session.wait_exit().success());
        let shown = session.shown();
        assert_eq!(shown.matches('x').count(), 1_048_576);
        assert!(shown.ends_with("END"));
    }
}

#[test]
fn what_is_written_right_before_the_end_is_shown() {
    need!(root, "setpriv");
    let server = script(Door::new(), "printf \"last words of $1\"");
    for round in 0..20 {
        let mut session = at_a_terminal(&server, &[&round.to_string()]);
        session.wait_exit();
        let words = format!("last words of {round}");
        assert!(session.shown().ends_with(&words), "{:?}", session.shown());
    }
}

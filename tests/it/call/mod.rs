//! `doorward call` and `doorward answer`: a program of one user on the descriptors of another.

mod ending;
mod environment;
mod hostile;
mod request;
mod s6;
mod signals;
mod stdio;
mod terminal;
mod words;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitStatus;

use crate::support::{Door, Report, Scratch, Served, User, doorward, probe};

/// `door` with `doorward answer OPTIONS PROGRAM` for its clients, whoever they are.
fn answer<S: AsRef<OsStr>>(
    door: Door,
    options: &[&str],
    program: impl IntoIterator<Item = S>,
) -> Served {
    let mut words: Vec<OsString> = vec![doorward().into(), "answer".into()];
    words.extend(options.iter().map(Into::into));
    words.extend(program.into_iter().map(|word| word.as_ref().to_owned()));
    door.args(["--mode", "0666"]).serve(words)
}

/// The same with a shell's script, whose `$@` are the caller's words.
fn script(door: Door, options: &[&str], text: &str) -> Served {
    answer(door, options, ["sh", "-c", text, "sh"])
}

/// `doorward call OPTIONS PATH`, to be started with arguments; whatever the tests' own parent ignores, it does not.
fn call(path: &Path, options: &[&str]) -> Door {
    Door::new()
        .wrap(["env", "--default-signal"])
        .command("call")
        .no_bind()
        .no_notify()
        .args(options)
        .args([path])
}

/// The words that make what follows run as `user`.
fn as_user(user: &User) -> Vec<String> {
    let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
    let mut words = vec!["setpriv".to_owned()];
    words.push(format!("--reuid={}", user.uid));
    words.push(format!("--regid={}", user.gid));
    words.push(if groups.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={}", groups.join(","))
    });
    words
}

/// A call that has ended.
struct Called {
    status: ExitStatus,
    output: Vec<String>,
    log: String,
}

#[track_caller]
fn called<S: AsRef<OsStr>>(call: Door, arguments: impl IntoIterator<Item = S>) -> Called {
    let mut running = call.start(arguments);
    let status = running.wait_exit();
    Called {
        status,
        output: running.output().whole(),
        log: running.whole_log().join("\n"),
    }
}

impl Called {
    #[track_caller]
    fn assert(&self, code: i32, words: &str) {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}: {}",
            self.status,
            self.log
        );
        assert!(
            self.log.contains(words),
            "{words:?} is not in: {}",
            self.log
        );
    }

    #[track_caller]
    fn said(self) -> Vec<String> {
        assert!(self.status.success(), "{}: {}", self.status, self.log);
        self.output
    }
}

/// What the program of a server that serves the probe finds.
#[track_caller]
fn report(call: Door) -> Report {
    Report::parse(called(call, ["report", "1"]).said().join("\n") + "\n")
}

#[test]
fn a_caller_has_another_user_s_program_run_on_its_own_descriptors() {
    need!(root, "setpriv");
    let (service, caller) = (User::unique(), User::unique());
    let door = Door::new();
    std::fs::set_permissions(door.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run_as = format!("{}:{}", service.uid, service.gid);
    let script_ = "echo \"$(id -u) for $IPCREMOTEEUID, $*: $(cat)\"; echo aside >&2";
    let server = script(door.args(["--run-as", &run_as]), &[], script_);
    let scratch = Scratch::new();
    std::fs::write(scratch.path("input"), "input").unwrap();
    let input = std::fs::File::open(scratch.path("input")).unwrap();
    let call = call(&server.socket(), &[])
        .fd0(input)
        .wrap(as_user(&caller));
    let called = called(call, ["one", "two three"]);
    assert_eq!(called.log, "aside");
    let expected = format!("{} for {}, one two three: input", service.uid, caller.uid);
    assert_eq!(called.said(), [expected]);
}

#[test]
fn operators_are_let_in_and_everybody_else_is_refused_and_told_so() {
    need!(root, "setpriv");
    let operators = User::unique().gid;
    let door = Door::new().args(["--allow", &format!("group:{operators}")]);
    let server = script(door, &[], "echo done");
    let operator = User::unique().groups([operators]);
    let by = |user: &User| {
        let call = call(&server.socket(), &[]).wrap(as_user(user));
        called(call, [""; 0])
    };
    assert_eq!(by(&operator).said(), ["done"]);
    let other = by(&User::unique());
    other.assert(1, "refused");
    assert_eq!(other.output, [""; 0]);
    let door = Door::new().args(["--deny", "all", "--deny-text", "not today"]);
    let server = script(door, &[], "echo done");
    called(call(&server.socket(), &[]), [""; 0]).assert(1, "not today");
}

#[test]
fn every_exit_code_comes_back() {
    let server = answer(Door::new(), &[], [probe().as_os_str(), "exit".as_ref()]);
    for code in 0..=255 {
        let called = called(call(&server.socket(), &[]), [code.to_string()]);
        assert_eq!(called.status.code(), Some(code), "{}", called.log);
        assert_eq!(called.log, "");
    }
}

#[test]
fn death_by_a_signal_comes_back_as_that_and_leaves_no_core_file() {
    use std::os::unix::process::ExitStatusExt;
    let server = answer(Door::new(), &[], [probe().as_os_str(), "die".as_ref()]);
    let unlimited = ["sh", "-c", "cd \"$0\" && ulimit -c unlimited; exec \"$@\""];
    let scratch = Scratch::new();
    for signal in [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13, 14, 15, 24, 31, 34, 64] {
        let wrap = unlimited
            .iter()
            .map(OsStr::new)
            .chain([scratch.dir().as_os_str()]);
        let called = called(call(&server.socket(), &[]).wrap(wrap), [signal.to_string()]);
        let status = called.status;
        assert_eq!(status.signal(), Some(signal), "{status}: {}", called.log);
        assert!(!status.core_dumped(), "signal {signal}");
    }
    assert_eq!(std::fs::read_dir(scratch.dir()).unwrap().count(), 0);
}

#[test]
fn a_program_that_does_not_start_is_told_by_its_cause() {
    let nowhere = answer(Door::new(), &[], ["/nowhere/at/all"]);
    called(call(&nowhere.socket(), &[]), [""; 0]).assert(127, "No such file or directory");
    let door = Door::new();
    let plain = door.path("plain");
    std::fs::write(&plain, "").unwrap();
    let server = answer(door, &[], [plain]);
    called(call(&server.socket(), &[]), [""; 0]).assert(126, "Permission denied");
    // The server's log says it too.
    server.wait_log("unable to run");
    // Found, and refused by execve alone.
    let door = Door::new();
    let broken = door.script("broken", "#!/nowhere/at/all\n");
    let server = answer(door, &[], [broken]);
    called(call(&server.socket(), &[]), [""; 0]).assert(127, "No such file");
}

#[test]
fn who_serves_can_be_demanded() {
    need!(root, "setpriv");
    let service = User::unique();
    let run_as = format!("{}:{}", service.uid, service.gid);
    let server = script(Door::new().args(["--run-as", &run_as]), &[], "echo done");
    let demanding = |who: &str| called(call(&server.socket(), &["--server", who]), [""; 0]);
    assert_eq!(demanding(&format!("user:{}", service.uid)).said(), ["done"]);
    demanding("self").assert(1, "server must run as self");
    demanding("all").assert(100, "--server all");
}

#[test]
fn a_server_that_says_nothing_or_something_else_is_left() {
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let silent = called(
        call(&scratch.path("s"), &["--connect-timeout", "0.2"]),
        [""; 0],
    );
    silent.assert(99, "no answer within 0.2 seconds");
    drop(listening);
    called(call(&scratch.path("s"), &[]), [""; 0]).assert(111, "unable to connect");
    let other = Door::new()
        .args(["--inetd"])
        .serve(["echo", "\x1b[2Jhello"]);
    called(call(&other.socket(), &[]), [""; 0]).assert(1, "\\u{1b}[2Jhello");
}

#[test]
fn wrong_use_is_said() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    for (options, words) in [
        (&["--s6", "--cwd"][..], "--s6 and --cwd"),
        (&["--s6", "--detach"], "--s6 and --detach"),
        (&["--connect-timeout", "0"], "--connect-timeout 0"),
    ] {
        called(call(&path, options), [""; 0]).assert(100, words);
    }
    let answer = |options: &[&str]| {
        let door = Door::new().command("answer").no_bind().no_notify();
        door.args(options).fails(["true"])
    };
    answer(&[]).assert(100, ["no connection"]);
    answer(&["--s6", "--allow-cwd"]).assert(100, ["--s6 and --allow-cwd"]);
    answer(&["--s6", "--allow-detach"]).assert(100, ["--s6 and --allow-detach"]);
    answer(&["--s6", "--allow-pty"]).assert(100, ["--s6 and --allow-pty"]);
    answer(&["--message-timeout", "0"]).assert(100, ["--message-timeout 0"]);
    for name in ["PROTO", "IPCREMOTEEUID", "LISTEN_FDS", "", "A=B"] {
        let door = Door::new();
        let server = self::answer(door, &["--pass-env", name], ["true"]);
        called(call(&server.socket(), &[]), [""; 0]).assert(1, "refused");
        server.wait_log("--pass-env: ");
    }
}

#[test]
fn answer_finds_its_connection_as_inetd_has_it_too() {
    let server = script(Door::new().args(["--inetd"]), &[], "echo \"$*\"");
    assert_eq!(called(call(&server.socket(), &[]), ["a b"]).said(), ["a b"]);
}

#[test]
fn who_had_what_run_is_in_the_log_and_forges_no_line() {
    need!(root, "setpriv");
    let caller = User::unique();
    let server = script(Door::new(), &["--verbose"], "exit 3");
    let call = call(&server.socket(), &[]).wrap(as_user(&caller));
    called(call, ["one", "x\ndoorward: call user=0 group=0"]).assert(3, "");
    let line = server.wait_log("doorward: call ");
    let user = format!(
        "doorward: call user={} group={} pid=",
        caller.uid, caller.gid
    );
    assert!(line.starts_with(&user), "{line}");
    let args = " args=one,x\\x0adoorward:\\x20call\\x20user=0\\x20group=0";
    assert!(line.ends_with(args), "{line}");
    let end = server.wait_log("doorward: end ");
    assert!(
        end.contains(&format!("user={} status=3", caller.uid)),
        "{end}"
    );
}

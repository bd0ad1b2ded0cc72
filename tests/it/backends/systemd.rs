//! The units of a hand-off under the real systemd, as they are, with each of the backends in its place.

use super::{ALL, Guest, Language, converse};
use crate::support::neighbour::project;
use crate::support::{Client, Dial, Systemd, User, eventually, inspect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

const UNITS: [&str; 4] = [
    "doorward-handoff.socket",
    "doorward-backend.socket",
    "doorward-handoff.service",
    "doorward-backend.service",
];
const SOCKET: &str = "/run/doorward/watch.sock";

/// The two pairs, with one backend; there is one set of them, so who has it has it alone.
struct Pairs {
    systemd: &'static Systemd,
    _alone: MutexGuard<'static, ()>,
}

impl Pairs {
    fn with(language: Language) -> Pairs {
        let program = language.program();
        let module =
            (language == Language::Python).then(|| program.with_file_name("doorward_backend.py"));
        Pairs::of(program, module.as_deref(), None)
    }

    /// With `program`, a module beside it, and a drop-in for its service.
    fn of(program: &Path, module: Option<&Path>, drop_in: Option<&str>) -> Pairs {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|held| held.into_inner());
        let systemd = Systemd::boot();
        systemd.put(program, "/usr/local/lib/doorward/watch");
        if let Some(module) = module {
            systemd.put(module, "/usr/local/lib/doorward/doorward_backend.py");
        }
        let units = project().join("units");
        systemd.put(
            &units.join("doorward-handoff.conf"),
            "/etc/sysusers.d/doorward-handoff.conf",
        );
        systemd.run(["systemd-sysusers"]);
        for unit in UNITS {
            systemd.install(unit, &fs::read_to_string(units.join(unit)).unwrap());
        }
        let everybody = "[Socket]\nSocketMode=0666\n";
        systemd.install("doorward-handoff.socket.d/mode.conf", everybody);
        systemd.install(
            "doorward-backend.service.d/program.conf",
            drop_in.unwrap_or("[Service]\n"),
        );
        for unit in ["doorward-backend.socket", "doorward-handoff.socket"] {
            systemd.start_unit(unit);
        }
        Pairs {
            systemd,
            _alone: alone,
        }
    }

    fn dial(&self) -> Dial {
        Dial::to(self.systemd.path(SOCKET))
    }

    fn connect_as(&self, uid: u32) -> Client {
        let user = User::new(uid, uid).groups([7, uid]);
        self.dial().user(&user).connect()
    }

    fn journals(&self) -> String {
        let [_, _, handoff, backend] = UNITS;
        self.systemd.journal(handoff) + &self.systemd.journal(backend)
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        let _ = self.systemd.systemctl(&[&["stop"], &UNITS[..]].concat());
        let _ = self
            .systemd
            .systemctl(&[&["reset-failed"], &UNITS[..]].concat());
    }
}

#[test]
fn each_language_answers_behind_the_units_as_they_are() {
    need!(
        root,
        "systemctl",
        "systemd",
        "unshare",
        "nsenter",
        "systemd-sysusers",
        "python3",
        "gcc",
        "go"
    );
    for language in ALL {
        let pairs = Pairs::with(language);
        let node = pairs.systemd.path("/run/doorward/backend.sock");
        let refused = Dial::to(node).seqpacket().user(&User::new(1000, 1000));
        assert_eq!(
            refused.try_connect().unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        converse(|uid| pairs.connect_as(uid));
        for unit in ["doorward-handoff.service", "doorward-backend.service"] {
            assert_eq!(pairs.systemd.show(unit, "ActiveState"), "active");
            let pid = pairs.systemd.main_pid(unit).unwrap();
            let uid = inspect::status_line(pid, "Uid").unwrap();
            assert!(!uid.trim_start().starts_with("0\t"), "{unit} is not root");
        }
        assert!(
            !pairs.journals().contains("dropped"),
            "{}",
            pairs.journals()
        );
    }
}

/// The fourth language: the crate's own example, which speaks the same protocol of doorward's and one of its own to clients.
#[test]
fn the_rust_example_answers_behind_the_same_units() {
    need!(
        root,
        "systemctl",
        "systemd",
        "unshare",
        "nsenter",
        "systemd-sysusers"
    );
    let command = "[Service]\nExecStart=\nExecStart=/usr/local/lib/doorward/watch --allow-user doorward-handoff\n\
        Type=simple\n";
    let pairs = Pairs::of(&crate::library::example("watch"), None, Some(command));
    let mut lamp = pairs.connect_as(1001);
    let (greeting, descriptors) = lamp.recv_greeting();
    assert_eq!(
        (&greeting[..], descriptors.len()),
        (&b"doorward 1\n"[..], 1)
    );
    lamp.send(b"watch lamp\n");
    assert_eq!(lamp.read_line(), "ok");
    let mut hand = pairs.connect_as(1002);
    drop(hand.recv_greeting());
    hand.send(b"who\n");
    assert_eq!(hand.read_line(), "ok 1002");
    hand.send(b"set lamp on\n");
    assert_eq!(hand.read_line(), "ok");
    let mut events = BufReader::new(File::from(descriptors.into_iter().next().unwrap()));
    let mut event = String::new();
    events.read_line(&mut event).unwrap();
    assert_eq!(event, "changed lamp 1002 on\n");
}

#[test]
fn restarts_of_either_side_cut_and_refuse_nobody() {
    need!(
        root,
        "systemctl",
        "systemd",
        "unshare",
        "nsenter",
        "systemd-sysusers",
        "python3",
        "gcc",
        "go"
    );
    for language in ALL {
        let pairs = Pairs::with(language);
        let served = AtomicUsize::new(0);
        let over = AtomicBool::new(false);
        let bad: Mutex<Vec<String>> = Mutex::default();
        let mut processes = BTreeSet::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        match visit(&pairs) {
                            Ok(()) => drop(served.fetch_add(1, Ordering::SeqCst)),
                            Err(why) => bad.lock().unwrap().push(why),
                        }
                    }
                });
            }
            for unit in [
                "doorward-backend.service",
                "doorward-handoff.service",
                "doorward-backend.service",
                "doorward-handoff.service",
            ] {
                let before = served.load(Ordering::SeqCst);
                let going = || {
                    served.load(Ordering::SeqCst) >= before + 20 || !bad.lock().unwrap().is_empty()
                };
                eventually("visitors", going);
                let output = pairs.systemd.systemctl(&["restart", unit]);
                if !output.status.success() {
                    bad.lock().unwrap().push(format!("{output:?}"));
                }
                processes.insert(pairs.systemd.show(unit, "InvocationID"));
            }
            let before = served.load(Ordering::SeqCst);
            eventually("visitors after the last restart", || {
                served.load(Ordering::SeqCst) >= before + 20 || !bad.lock().unwrap().is_empty()
            });
            over.store(true, Ordering::SeqCst);
        });
        let bad = bad.into_inner().unwrap();
        assert!(
            bad.is_empty(),
            "{language:?}: {bad:?}\n{}",
            pairs.journals()
        );
        assert_eq!(processes.len(), 4, "each restart was one");
    }
}

/// Comes, is answered, and leaves.
fn visit(pairs: &Pairs) -> Result<(), String> {
    let client = pairs
        .dial()
        .try_connect()
        .map_err(|e| format!("connect: {e}"))?;
    let mut guest = thread::spawn(|| Guest::greeted(client))
        .join()
        .map_err(|_| "no greeting".to_owned())?;
    guest
        .client
        .try_send(b"whoami\nquit\n")
        .map_err(|e| format!("ask: {e}"))?;
    let answer = guest
        .client
        .try_read_to_end()
        .map_err(|e| format!("answer: {e}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let whole = answer.starts_with("ok uid=0 ") && answer.ends_with("\nok\n");
    whole
        .then_some(())
        .ok_or_else(|| format!("answer: {answer:?}"))
}

#[test]
fn killed_backend_is_started_again_and_serves_who_waited() {
    need!(
        root,
        "systemctl",
        "systemd",
        "unshare",
        "nsenter",
        "systemd-sysusers",
        "gcc"
    );
    let pairs = Pairs::with(Language::C);
    assert!(visit(&pairs).is_ok());
    let unit = "doorward-backend.service";
    let pid = pairs.systemd.main_pid(unit).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let waiting: Vec<_> = (0..5).map(|_| pairs.dial().connect()).collect();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    for client in waiting {
        assert_eq!(Guest::greeted(client).ask("get lamp"), "none");
    }
    eventually("one restart", || {
        pairs.systemd.show(unit, "NRestarts") == "1"
    });
}

//! The units under the real systemd: installed as they are, started by their first client, reloaded, watched, stopped
//! and restarted under load.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::neighbour::{assert_no_child_listens, project};
use crate::support::{Dial, Neighbour, Report, Systemd, User, eventually, inspect, probe};

/// A unit of the project, as it is.
fn install(systemd: &Systemd, name: &str) {
    let text = fs::read_to_string(project().join("units").join(name)).unwrap();
    systemd.install(name, &text);
}

/// The one pair without instances: who uses it has it alone, stopped and without drop-ins.
struct Pair {
    systemd: &'static Systemd,
    _alone: std::sync::MutexGuard<'static, ()>,
}

const PAIR: &str = "/run/doorward/whoami.sock";

impl Pair {
    fn installed() -> Pair {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|held| held.into_inner());
        let systemd = Systemd::boot();
        let _ = fs::remove_dir_all(systemd.path("/run/systemd/system/doorward.service.d"));
        install(systemd, "doorward.socket");
        install(systemd, "doorward.service");
        Pair {
            systemd,
            _alone: alone,
        }
    }

    fn started() -> Pair {
        let pair = Pair::installed();
        pair.systemd.start_unit("doorward.socket");
        pair
    }

    fn ask(&self) -> String {
        Dial::to(self.systemd.path(PAIR)).connect().read_text()
    }

    fn show(&self, property: &str) -> String {
        self.systemd.show("doorward.service", property)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self
            .systemd
            .systemctl(&["stop", "doorward.socket", "doorward.service"]);
    }
}

/// A service by name, of the template pair.
struct Instance {
    systemd: &'static Systemd,
    name: &'static str,
}

impl Instance {
    /// With its program and its socket open to all; the rules let in root alone.
    fn new(name: &'static str, run: &str) -> Instance {
        let systemd = Systemd::boot();
        install(systemd, "doorward@.socket");
        install(systemd, "doorward@.service");
        let instance = Instance { systemd, name };
        systemd.script(&instance.etc("run"), run);
        instance.rule("uid/0/allow");
        systemd.install(
            &format!("doorward@{name}.socket.d/mode.conf"),
            "[Socket]\nSocketMode=0666\n",
        );
        instance
    }

    fn started(self) -> Instance {
        self.systemd.start_unit(&self.socket());
        self
    }

    fn drop_in(self, text: &str) -> Instance {
        let name = format!("doorward@{}.service.d/test.conf", self.name);
        self.systemd.install(&name, text);
        self
    }

    fn etc(&self, file: &str) -> String {
        format!("/etc/doorward/{}/{file}", self.name)
    }

    fn rule(&self, rule: &str) {
        self.systemd.write(&self.etc(&format!("rules/{rule}")), "");
    }

    fn socket(&self) -> String {
        format!("doorward@{}.socket", self.name)
    }

    fn service(&self) -> String {
        format!("doorward@{}.service", self.name)
    }

    fn dial(&self) -> Dial {
        Dial::to(
            self.systemd
                .path(format!("/run/doorward/{}.sock", self.name)),
        )
    }

    fn ask(&self) -> String {
        self.dial().connect().read_text()
    }

    fn ask_as(&self, uid: u32) -> String {
        self.dial().user(&User::new(uid, uid)).connect().read_text()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self
            .systemd
            .systemctl(&["stop", &self.socket(), &self.service()]);
    }
}

#[test]
fn pair_answers_at_the_first_client_stops_and_comes_back() {
    need_systemd!();
    let pair = Pair::started();
    let node = fs::metadata(pair.systemd.path(PAIR)).unwrap();
    assert_eq!((node.permissions().mode() & 0o777, node.uid()), (0o600, 0));
    assert_eq!(pair.show("ActiveState"), "inactive");

    let answer = pair.ask();
    assert!(
        answer.starts_with("you are uid 0, gid 0, groups "),
        "{answer}"
    );
    assert!(
        answer.ends_with(", pid unknown\n"),
        "this side's pid namespace: {answer}"
    );

    assert_eq!(pair.show("ActiveState"), "active");
    let status = pair.show("StatusText");
    assert!(!status.is_empty(), "a status line");
    let first = pair.systemd.main_pid("doorward.service").unwrap();
    let uid = inspect::status_line(first, "Uid").unwrap();
    let uid: u32 = uid.split_whitespace().next().unwrap().parse().unwrap();
    assert!((61184..=65519).contains(&uid), "a dynamic user: {uid}");
    let start = pair
        .systemd
        .wait_journal("doorward.service", "serving /run/doorward/whoami.sock");
    assert!(
        start.ends_with("mode 0600: only root may connect"),
        "{start}"
    );

    pair.systemd.stop_unit("doorward.service");
    assert_eq!(pair.show("Result"), "success");
    assert!(
        pair.ask().starts_with("you are uid 0"),
        "a client starts it again"
    );
    assert_ne!(pair.systemd.main_pid("doorward.service"), Some(first));

    pair.systemd.stop_unit("doorward.socket");
    assert_eq!(
        pair.show("ActiveState"),
        "inactive",
        "it goes with its socket"
    );
    let gone = Dial::to(pair.systemd.path(PAIR)).try_connect().unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[test]
fn pair_reloads_and_keeps_its_process() {
    need_systemd!();
    let pair = Pair::started();
    pair.ask();
    let before = pair.show("MainPID");
    pair.systemd
        .run(["systemctl", "reload", "doorward.service"]);
    pair.systemd
        .wait_journal("doorward.service", "doorward: reload");
    eventually("the end of the reload", || {
        pair.show("ActiveState") == "active"
    });
    assert_eq!(pair.show("MainPID"), before);
    assert!(pair.ask().starts_with("you are uid 0"));
    assert_eq!(pair.show("NRestarts"), "0");
}

#[test]
fn pair_pings_the_watchdog_and_comes_back_when_it_hangs() {
    need_systemd!();
    let pair = Pair::installed();
    let often = "[Service]\nWatchdogSec=3\nWatchdogSignal=KILL\n";
    pair.systemd
        .install("doorward.service.d/watchdog.conf", often);
    pair.systemd.start_unit("doorward.socket");
    pair.ask();
    let pid = pair.systemd.main_pid("doorward.service").unwrap();

    // Three more pings: longer than it would live without.
    let mut pings = BTreeSet::new();
    eventually("pings", || {
        pings.insert(pair.show("WatchdogTimestampMonotonic"));
        pings.len() > 3
    });
    assert_eq!(pair.systemd.main_pid("doorward.service"), Some(pid));

    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    eventually("a restart", || pair.show("NRestarts") == "1");
    assert!(pair.ask().starts_with("you are uid 0"));
    assert_ne!(pair.systemd.main_pid("doorward.service"), Some(pid));
}

#[test]
fn instance_follows_its_rules_and_options_live() {
    need_systemd!();
    let instance = Instance::new("rules", "#!/bin/sh\nexec printenv IPCREMOTEEUID\n");
    instance.systemd.write(
        &instance.etc("options"),
        "DOORWARD_OPTIONS=--inetd --deny-text 'not you'\n",
    );
    let instance = instance.started();
    assert_eq!(instance.ask(), "0\n");
    // systemd splits the variable at blanks and takes quotes for what they are.
    assert_eq!(instance.ask_as(1000), "not you\n");
    instance
        .systemd
        .wait_journal(&instance.service(), "deny user=1000");
    instance.rule("uid/1000/allow");
    assert_eq!(instance.ask_as(1000), "1000\n");
    fs::remove_file(instance.systemd.path(instance.etc("rules/uid/1000/allow"))).unwrap();
    assert_eq!(instance.ask_as(1000), "not you\n");
}

#[test]
fn instance_without_rules_lets_nobody_in_and_serves_who_waited_once_they_are_there() {
    need_systemd!();
    let instance = Instance::new("late", "#!/bin/sh\necho at last\n");
    fs::remove_dir_all(instance.systemd.path(instance.etc("rules"))).unwrap();
    let instance = instance.started();
    let mut waiting = instance.dial().connect();
    instance.systemd.wait_journal(&instance.service(), "rules");
    let restarts = || instance.systemd.show(&instance.service(), "NRestarts");
    eventually("another try", || restarts().parse::<u32>().unwrap() >= 2);
    assert_eq!(
        instance.systemd.show(&instance.socket(), "ActiveState"),
        "active",
        "the socket is not given up"
    );
    instance.rule("uid/0/allow");
    assert_eq!(waiting.read_text(), "at last\n");
}

#[test]
fn no_child_under_systemd_holds_the_listening_socket_or_a_word_of_the_manager() {
    need_systemd!();
    let instance = Instance::new(
        "holds",
        "#!/bin/sh\nexec /usr/bin/doorward-probe report-hold 1\n",
    );
    let instance = instance.started();
    let mut client = instance.dial().connect();
    let mut report = String::new();
    while !report.ends_with("end \n") {
        report += &(client.read_line() + "\n");
    }
    let report = Report::parse(report);
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    let names = report.env_names();
    let kept = |name: &&String| name.starts_with("LISTEN_") || name.starts_with("WATCHDOG_");
    assert_eq!(names.iter().find(kept), None);
    assert!(!names.contains(&"NOTIFY_SOCKET".to_owned()));
    assert_eq!(
        report.get("nofile"),
        "1024 16384",
        "the limit before it was raised"
    );
    assert_no_child_listens(instance.systemd.main_pid(&instance.service()).unwrap());
}

#[test]
fn drop_ins_that_the_comments_name_loosen_what_they_say() {
    need!(
        root,
        "systemctl",
        "systemd",
        "unshare",
        "nsenter",
        "s6-setuidgid",
        "perl"
    );
    let root = "[Service]\nDynamicUser=no\nUser=root\nCapabilityBoundingSet=CAP_SETUID CAP_SETGID\n\
        SystemCallFilter=@setuid\n";
    let network = "[Service]\nPrivateNetwork=no\nIPAddressDeny=\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n";
    let inet = "perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0) && print qq(yes\\n)' 2>&1";
    let become_other = "s6-setuidgid nobody id -u 2>&1";
    let namespaces = "[Service]\nRestrictNamespaces=no\nSystemCallFilter=@mount\n";
    let container =
        "unshare --map-root-user --mount sh -c 'mount -t tmpfs none /tmp && echo yes' 2>&1";
    let cases = [
        ("other-no", "", become_other, None),
        ("other-yes", root, become_other, Some("65534\n")),
        ("write-no", "", "touch /var/lib/it && echo yes", None),
        (
            "write-yes",
            "[Service]\nStateDirectory=write-yes\n",
            "touch /var/lib/write-yes/it && echo yes",
            Some("yes\n"),
        ),
        ("container-no", "", container, None),
        ("container-yes", namespaces, container, Some("yes\n")),
        ("inet-no", "", inet, None),
        ("inet-yes", network, inet, Some("yes\n")),
    ];
    for (name, drop_in, command, answer) in cases {
        let instance = Instance::new(name, &format!("#!/bin/sh\n{command}\n"));
        let instance = instance.drop_in(drop_in).started();
        let said = instance.ask();
        match answer {
            Some(answer) => assert_eq!(said, answer, "{name}"),
            None => assert!(said != "yes\n" && said != "65534\n", "{name}: {said}"),
        }
    }
}

#[test]
fn ten_restarts_under_load_cut_no_connection_and_refuse_none() {
    need_systemd!();
    const RESTARTS: usize = 10;
    const CONNECTIONS: usize = 400;
    let instance = Instance::new("load", "#!/bin/sh\nsleep 0.05\necho whole\n").started();
    assert_eq!(instance.ask(), "whole\n");
    let service = instance.service();

    let (answered, restarted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let deadline = Instant::now() + Duration::from_secs(100);
    let bad: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut processes = BTreeSet::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while answered.load(Ordering::SeqCst) < CONNECTIONS
                    || restarted.load(Ordering::SeqCst) < RESTARTS
                {
                    let answer = instance
                        .dial()
                        .try_connect()
                        .and_then(|mut client| client.try_read_to_end());
                    match answer {
                        Ok(text) if text == b"whole\n" => (),
                        other => bad.lock().unwrap().push(format!("{other:?}")),
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                    if Instant::now() > deadline {
                        bad.lock().unwrap().push("out of time".to_owned());
                        return;
                    }
                }
            });
        }
        for n in 0..RESTARTS {
            // Spread over the load; 8 clients at any time, so each restart meets running connections.
            while answered.load(Ordering::SeqCst) < n * CONNECTIONS / (RESTARTS + 1)
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(5));
            }
            let output = instance.systemd.systemctl(&["restart", &service]);
            if !output.status.success() {
                bad.lock().unwrap().push(format!("{output:?}"));
            }
            processes.insert(instance.systemd.show(&service, "MainPID"));
            restarted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let bad = bad.into_inner().unwrap();
    let answered = answered.into_inner();
    assert!(
        bad.is_empty(),
        "{} of {answered}: {bad:?}\n{}",
        bad.len(),
        instance.systemd.journal(&service)
    );
    assert!(answered >= CONNECTIONS);
    assert_eq!(processes.len(), RESTARTS, "each restart was one");
}

#[test]
fn stop_waits_for_a_running_program_longer_than_the_managers_timeout() {
    need_systemd!();
    let instance = Instance::new("slow", "#!/bin/sh\necho begun\nsleep 7\necho ended\n")
        .drop_in("[Service]\nTimeoutStopSec=4\n")
        .started();
    let undisturbed = instance.systemd.without_reloads();
    let mut client = instance.dial().connect();
    assert_eq!(client.read_line(), "begun");
    let stop = ["systemctl", "stop", "--no-block", &instance.socket()];
    instance.systemd.run(stop);
    let substate = || instance.systemd.show(&instance.service(), "SubState");
    eventually("the stop", || substate() == "stop-sigterm");
    // A reload takes the timeout back to 4 seconds, so it has to be asked for again.
    instance.systemd.run(["systemctl", "daemon-reload"]);
    let journal = || instance.systemd.journal(&instance.service());
    assert_eq!(client.read_text(), "ended\n", "{}", journal());
    drop(undisturbed);
    eventually("the end", || substate() == "dead");
    let result = instance.systemd.show(&instance.service(), "Result");
    assert_eq!(result, "success", "{}", journal());
}

#[test]
fn killed_doorward_comes_back_by_itself_and_who_waited_is_served() {
    need_systemd!();
    let instance = Instance::new("killed", "#!/bin/sh\nexec printenv IPCREMOTEEUID\n").started();
    assert_eq!(instance.ask(), "0\n");
    let pid = instance.systemd.main_pid(&instance.service()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // Gone for systemd: a zombie may have threads left that die in accept4, with a connection.
    eventually("its end", || inspect::status_line(pid, "State").is_none());
    assert_eq!(instance.ask(), "0\n");
    let restarts = instance.systemd.show(&instance.service(), "NRestarts");
    assert_eq!(restarts, "1");
}

#[test]
fn burst_that_ends_other_socket_units_for_good_is_served_whole() {
    need_systemd!();
    let instance = Instance::new("burst", "#!/bin/sh\nexec echo served\n").started();
    // Systemd's own limit with Accept=yes is 200 in two seconds.
    let clients: Vec<_> = (0..500).map(|_| instance.dial().connect()).collect();
    for mut client in clients {
        assert_eq!(client.read_text(), "served\n");
    }
    for unit in [instance.socket(), instance.service()] {
        assert_eq!(instance.systemd.show(&unit, "ActiveState"), "active");
    }
    assert_eq!(instance.systemd.show(&instance.service(), "NRestarts"), "0");
}

#[test]
fn standard_input_socket_of_a_service_is_taken_from_descriptor_0() {
    need_systemd!();
    let systemd = Systemd::boot();
    systemd.install(
        "stdin-socket.socket",
        "[Socket]\nListenStream=/run/stdin-socket.sock\nSocketMode=0600\n",
    );
    systemd.install(
        "stdin-socket.service",
        "[Service]\nStandardInput=socket\nStandardOutput=journal\nType=notify\n\
         ExecStart=/usr/bin/doorward spawn --inetd -- /usr/bin/doorward-probe report-hold 1\n",
    );
    systemd.start_unit("stdin-socket.socket");
    let _client = Dial::to(systemd.path("/run/stdin-socket.sock")).connect();
    eventually("a child", || {
        let pid = systemd.main_pid("stdin-socket.service");
        pid.is_some_and(|pid| !inspect::children(pid).is_empty())
    });
    assert_no_child_listens(systemd.main_pid("stdin-socket.service").unwrap());
    let _ = systemd.systemctl(&["stop", "stdin-socket.socket", "stdin-socket.service"]);
}

#[test]
fn systemd_socket_activate_hands_over_its_socket_by_name() {
    need!("systemd-socket-activate");
    let mut here = Neighbour::new();
    let mut activate = here.command("systemd-socket-activate");
    activate.args(["--listen", &here.text("socket"), "--fdname", "web"]);
    activate.args(["doorward", "spawn", "--name", "web", "--inetd"]);
    activate.arg(probe()).args(["report-hold", "1"]);
    let pid = here.start(&mut activate);
    let _client = here.connect("socket");
    eventually("a child", || !inspect::children(pid).is_empty());
    assert_no_child_listens(pid);
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn verify_finds_nothing_to_say_and_an_exposure_below_3() {
    need!("systemd-analyze");
    let here = Neighbour::new();
    let verify = project().join("units/verify");
    let said = here.say(verify.to_str().unwrap(), &[]);
    assert_eq!(said.matches("Overall exposure level").count(), 5, "{said}");
}

#[test]
fn verify_fails_for_an_unknown_key_a_missing_program_and_a_weak_sandbox() {
    need!("systemd-analyze");
    let here = Neighbour::new();
    here.copy("units");
    let verify = here.text("units/verify");
    let unit = "units/doorward.service";
    let whole = fs::read_to_string(here.path(unit)).unwrap();
    here.say(&verify, &[]);

    here.write(unit, &whole.replace("WatchdogSec=", "WatchDogSec="));
    let unknown = here.run(&verify, &[]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("WatchDogSec"));

    let weak = |line: &&str| {
        !line.starts_with("SystemCallFilter")
            && !line.contains("Protect")
            && !line.starts_with("Capability")
            && !line.contains("DynamicUser=yes")
            && !line.starts_with("Private")
            && !line.starts_with("Restrict")
    };
    here.write(
        unit,
        &(whole.lines().filter(weak).collect::<Vec<_>>().join("\n") + "\n"),
    );
    assert!(!here.run(&verify, &[]).status.success());

    here.write(unit, &whole);
    assert!(!here.run(&verify, &["/does/not/exist"]).status.success());
}

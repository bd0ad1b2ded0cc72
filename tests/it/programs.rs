//! Real programs behind the door: git, sshd, ucspilogd by the bridges of contrib, and the demonstration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::neighbour::project;
use crate::support::{Neighbour, doorward, eventually};

/// A bridge of contrib that serves `socket` in this directory, and listens.
fn bridge(name: &str, args: &[&str]) -> Neighbour {
    let mut here = Neighbour::new();
    serve(&mut here, name, args);
    here
}

fn serve(here: &mut Neighbour, name: &str, args: &[&str]) {
    let mut command = here.command(project().join("contrib/bridges").join(name));
    command.arg("socket").args(args);
    here.start(&mut command);
    here.wait_line("serving socket");
}

/// A repository with one file, as a server keeps it.
fn repository(here: &Neighbour) {
    let git = |args: &[&str]| here.say("git", args);
    git(&["init", "-q", "--initial-branch=main", "work"]);
    here.write("work/file", "what was committed\n");
    git(&["-C", "work", "add", "file"]);
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    git(&[
        &["-C", "work"],
        &identity[..],
        &["commit", "-q", "-m", "one"],
    ]
    .concat());
    fs::create_dir(here.path("srv")).unwrap();
    git(&["clone", "-q", "--bare", "work", "srv/project.git"]);
}

#[test]
fn git_clones_fetches_and_is_refused_through_the_socket() {
    need!("git", "socat");
    let mut here = Neighbour::new();
    repository(&here);
    let served = here.text("srv");
    serve(&mut here, "git-serve", &[&served]);
    let transport = format!(
        "ext::socat - UNIX-CONNECT:{} %G/project.git",
        here.text("socket")
    );

    let clone = [
        "-c",
        "protocol.ext.allow=always",
        "clone",
        "-q",
        &transport,
        "clone",
    ];
    here.say("git", &clone);
    assert_eq!(
        fs::read_to_string(here.path("clone/file")).unwrap(),
        "what was committed\n"
    );

    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    let commit = ["commit", "-q", "--allow-empty", "-m", "two"];
    here.say("git", &[&["-C", "work"], &identity[..], &commit].concat());
    here.say(
        "git",
        &["-C", "work", "push", "-q", "../srv/project.git", "main"],
    );
    let fetch = [
        "-C",
        "clone",
        "-c",
        "protocol.ext.allow=always",
        "pull",
        "-q",
        "--ff-only",
    ];
    here.say("git", &fetch);
    assert_eq!(
        here.say("git", &["-C", "clone", "log", "--format=%s"]),
        "two\none\n"
    );

    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn git_gets_nothing_where_the_door_refuses() {
    need!("git", "socat");
    let mut here = Neighbour::new();
    repository(&here);
    let served = here.text("srv");
    serve(&mut here, "git-serve", &[&served, "--deny", "self"]);
    let transport = format!(
        "ext::socat - UNIX-CONNECT:{} %G/project.git",
        here.text("socket")
    );
    let clone = [
        "-c",
        "protocol.ext.allow=always",
        "clone",
        "-q",
        &transport,
        "clone",
    ];
    assert!(!here.run("git", &clone).status.success());
    assert!(!here.path("clone").exists());
    here.wait_line("reason=rule");
}

#[test]
fn sshd_gives_a_session_through_the_socket() {
    need!(
        root,
        "unshare",
        "/usr/sbin/sshd",
        "ssh",
        "ssh-keygen",
        "socat"
    );
    let mut here = Neighbour::new();
    for key in ["host", "user"] {
        here.say("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
    }
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPasswordAuthentication no\nPidFile none\n",
        here.text("host"),
        here.text("user.pub")
    );
    let config = here
        .write("sshd_config", &config)
        .to_str()
        .unwrap()
        .to_owned();
    // The bridge makes /run/sshd where a service manager has not.
    let own_run = "mount -t tmpfs -o mode=0755 none /run && exec \"$0\" \"$@\"";
    let mut command = here.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", own_run]);
    command.arg(project().join("contrib/bridges/sshd-serve"));
    command.args(["socket", &config]);
    here.start(&mut command);
    here.wait_line("serving socket");

    let proxy = format!("ProxyCommand=socat - UNIX-CONNECT:{}", here.text("socket"));
    let known = format!("UserKnownHostsFile={}", here.text("known"));
    let options = [
        "-F",
        "none",
        "-i",
        "user",
        "-o",
        "StrictHostKeyChecking=accept-new",
    ];
    let session = [
        "root@door",
        "echo \"$(id -u) from $SSH_CONNECTION\"; exit 7",
    ];
    let args = [&options[..], &["-o", &proxy, "-o", &known], &session].concat();
    let output = here.run("ssh", &args);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(7),
        "{text}{errors}{:?}",
        here.lines().all()
    );
    assert!(text.starts_with("0 from UNKNOWN 65535 "), "{text}");
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn logger_reaches_ucspilogd_with_the_senders_uid() {
    need!("logger", "ucspilogd");
    let here = bridge("syslog-serve", &[]);
    let socket = here.text("socket");
    let message = "three wrong passwords";
    here.say(
        "logger",
        &["--socket", &socket, "--priority", "auth.warning", message],
    );
    let line = here.wait_line(message);
    let start = format!("{}: auth.warn", nix::unistd::geteuid());
    assert!(line.starts_with(&start), "{line}");
}

#[test]
fn demonstration_answers_refuses_and_leaves_nothing() {
    let here = Neighbour::new();
    let demo = project().join("contrib/demo");
    let before = demonstrations();
    let said = here.say(demo.to_str().unwrap(), &[doorward().to_str().unwrap()]);
    let me = nix::unistd::geteuid();
    let answers = said.matches(&format!("you are uid {me}, ")).count();
    assert_eq!(answers, 3, "{said}");
    assert!(said.contains("not now, or not you"), "{said}");
    assert!(
        said.contains(&format!("doorward: deny user={me} ")),
        "{said}"
    );
    assert!(said.contains("reason=rate"), "{said}");
    if me.is_root() {
        assert!(said.contains("doorward: deny user=65534 "), "{said}");
    }
    assert!(said.contains("ended with exit code 0"), "{said}");
    here.assert_all_ended();
    eventually("its directory gone", || demonstrations() == before);
}

fn demonstrations() -> usize {
    let entries = fs::read_dir("/tmp").unwrap().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("doorward-demo.")
        })
        .count()
}

#[test]
fn what_is_to_be_run_can_be_run() {
    for script in [
        "contrib/demo",
        "contrib/bridges/git-serve",
        "contrib/bridges/sshd-serve",
        "contrib/bridges/syslog-serve",
        "contrib/s6/doorward-echo/run",
        "contrib/s6/doorward-echo/finish",
        "contrib/s6/doorward-echo/log/run",
        "contrib/s6/doorward-admit/run",
        "contrib/s6/doorward-admit/log/run",
        "contrib/runit/doorward-echo/run",
        "contrib/runit/doorward-echo/log/run",
        "units/verify",
    ] {
        let mode = fs::metadata(project().join(script))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script}");
    }
}

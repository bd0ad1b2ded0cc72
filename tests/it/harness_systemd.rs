//! The systemd in namespaces itself: it boots, runs services and sockets, and leaves the machine alone.

use std::process::{Command, Stdio};

use crate::support::{Dial, Scratch, Systemd, User, eventually, inspect};

#[test]
fn systemd_runs_a_service_and_shows_its_output() {
    need_systemd!();
    let systemd = Systemd::boot();
    let text =
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo it ran as $(id -u)'\nUser=65534\n";
    systemd.install("harness-once.service", text);

    systemd.start_unit("harness-once.service");

    assert_eq!(systemd.show("harness-once.service", "Result"), "success");
    systemd.wait_journal("harness-once.service", "it ran as 65534");
    assert!(
        !systemd
            .systemctl(&["start", "harness-absent.service"])
            .status
            .success()
    );
}

#[test]
fn systemd_socket_units_answer_clients_of_this_side() {
    need_systemd!();
    let systemd = Systemd::boot();
    let socket = "[Socket]\nListenStream=/run/harness-accept.sock\nAccept=yes\n";
    systemd.install(
        "harness-accept@.service",
        "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n",
    );
    systemd.install("harness-accept.socket", socket);
    systemd.start_unit("harness-accept.socket");

    let mut client = Dial::to(systemd.path("/run/harness-accept.sock"))
        .user(&User::new(1000, 1000))
        .connect();

    assert_eq!(client.ask(b"hello"), b"hello");
    systemd.stop_unit("harness-accept.socket");
}

#[test]
fn systemd_finds_the_binaries_of_the_tests_and_their_pids_are_known_on_this_side() {
    need_systemd!();
    let systemd = Systemd::boot();
    systemd.run(["test", "-x", "/usr/bin/doorward"]);
    systemd.install(
        "harness-probe.service",
        "[Service]\nExecStart=/usr/bin/doorward-probe sleep-ms 60000\n",
    );
    systemd.start_unit("harness-probe.service");

    let pid = systemd.main_pid("harness-probe.service").unwrap();
    let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    eventually("the probe", || name().trim() == "doorward-probe");
    systemd.stop_unit("harness-probe.service");
    eventually("the end of the probe", || !inspect::alive(pid));
}

#[test]
fn systemd_inside_leaves_the_files_of_the_machine_alone() {
    need_systemd!();
    let marker = Scratch::new();
    std::fs::write(marker.path("marker"), "here").unwrap();
    let systemd = Systemd::boot();

    // Run what would empty /tmp on a real boot, write where packages write, and change a kernel setting.
    let _ = systemd
        .enter(["systemd-tmpfiles", "--create", "--remove", "--boot"])
        .output()
        .unwrap();
    systemd.write("/tmp/inside", "x");
    systemd.write("/etc/doorward-harness", "x");
    systemd.run([
        "touch",
        "/usr/bin/doorward-harness",
        "/var/lib/doorward-harness",
    ]);
    assert!(systemd.path("/usr/bin/doorward-harness").exists());
    let kernel = systemd
        .enter(["sh", "-c", "echo 1 >/proc/sys/fs/nr_open"])
        .output()
        .unwrap();
    assert!(!kernel.status.success(), "/proc/sys is read-only");

    assert_eq!(
        std::fs::read_to_string(marker.path("marker")).unwrap(),
        "here"
    );
    for path in [
        "/etc/doorward-harness",
        "/usr/bin/doorward-harness",
        "/var/lib/doorward-harness",
        "/tmp/inside",
    ] {
        assert!(
            !std::path::Path::new(path).exists(),
            "{path} is on the machine"
        );
    }
    assert!(
        !systemd.path(marker.path("marker")).exists(),
        "the machine's /tmp is hidden"
    );
}

#[test]
fn systemd_ends_with_whoever_keeps_it() {
    need_systemd!();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/support/systemd-in-namespaces.sh"
    );
    let mut command = Command::new("sh");
    let mut keeper = command
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(keeper.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    let inside = inspect::descendants(pid);
    assert!(inspect::alive(pid) && !inside.is_empty());

    drop(keeper.stdin.take());

    assert!(keeper.wait().unwrap().success());
    assert!(!inspect::alive(pid));
    assert_eq!(
        inside
            .into_iter()
            .filter(|&pid| inspect::alive(pid))
            .count(),
        0
    );
}

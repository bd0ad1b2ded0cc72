//! Clients of others that reach a program through `doorward spawn`: s6-ipcclient, unixclient, socat, curl, nc; and s6-connlimit as
//! the program.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Client, Dial, Door, Neighbour, Served, User, eventually_some, probe};

/// `doorward spawn --bind socket OPTIONS PROG`, ready.
fn serving(options: &[&str], program: &[&str]) -> Neighbour {
    let mut here = Neighbour::new();
    let mut server = here.command("doorward");
    server
        .args(["spawn", "--bind", "socket"])
        .args(options)
        .args(program);
    here.start(&mut server);
    here.wait_line("doorward: ready");
    here
}

/// A line in, a line out, with who asked: what an inetd program does.
const GREET: [&str; 3] = [
    "sh",
    "-c",
    "read name; echo \"hello $name, you are $IPCREMOTEEUID\"",
];

fn expected() -> String {
    format!("hello door, you are {}\n", User::me().uid)
}

#[test]
fn s6_ipcclient_and_unixclient_talk_on_6_and_7() {
    need!("s6-ipcclient", "unixclient");
    let mut here = serving(&["--inetd"], &GREET);
    let ask = "echo door >&7; cat <&6";
    for client in ["s6-ipcclient", "unixclient"] {
        assert_eq!(
            here.say(client, &["socket", "sh", "-c", ask]),
            expected(),
            "{client}"
        );
    }
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn layout_of_ucspi_clients_serves_their_programs_too() {
    need!("s6-ipcclient");
    // The same program at both ends: what is said on 7 is heard on 6.
    let exchange = "echo \"from $0\" >&7; read line <&6; echo \"$0 heard: $line\"";
    let mut here = serving(&[], &["sh", "-c", exchange, "server"]);
    let said = here.say("s6-ipcclient", &["socket", "sh", "-c", exchange, "client"]);
    assert_eq!(said, "client heard: from server\n");
    here.wait_line("server heard: from client");
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn socat_and_nc_keep_the_half_close() {
    need!("socat", "nc");
    // Answers only when it has heard the end.
    let count = ["sh", "-c", "lines=$(wc -l); echo \"$lines lines\""];
    let mut here = serving(&["--inetd"], &count);
    for client in ["socat -t 20 - UNIX-CONNECT:socket", "nc -N -U socket"] {
        let said = here.say("sh", &["-c", &format!("printf 'a\\nb\\nc\\n' | {client}")]);
        assert_eq!(said.trim(), "3 lines", "{client}");
    }
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn curl_gets_an_answer_and_a_refused_one_reads_the_deny_text() {
    need!(root, "curl", "setpriv");
    let page = "while read -r line; do case $line in ?) break ;; esac; done
        body=\"you are $IPCREMOTEEUID\"
        printf 'HTTP/1.1 200 OK\\r\\nContent-Length: %s\\r\\nConnection: close\\r\\n\\r\\n%s' ${#body} \"$body\"";
    let options = [
        "--inetd",
        "--mode",
        "0666",
        "--allow",
        "self",
        "--deny-text",
        "not you",
    ];
    let mut here = serving(&options, &["sh", "-c", page]);
    let curl = [
        "curl",
        "-sS",
        "--max-time",
        "20",
        "--unix-socket",
        "socket",
        "http://door/",
    ];
    assert_eq!(here.say(curl[0], &curl[1..]), "you are 0");

    let as_nobody = ["--reuid", "4731", "--regid", "4731", "--clear-groups"];
    let words = [&as_nobody[..], &curl[..1], &["--http0.9"], &curl[1..]].concat();
    let refused = here.run("setpriv", &words);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    // Told before curl has sent all, or after: it reads the text or notices the end, and no page.
    assert!(said == "not you\n" || !refused.status.success(), "{said}");
    assert!(!said.contains("you are"), "{said}");
    here.wait_line("deny user=4731 ");
    assert!(here.stop(Signal::SIGTERM).success());
}

/// A door with a rule for everybody that gives IPCCONNMAX=2 to a program behind s6-connlimit.
fn limited() -> Served {
    let door = Door::new().args(["--mode", "0666", "--inetd"]);
    let env = door.path("rules/uid/default/env");
    fs::create_dir_all(&env).unwrap();
    fs::write(door.path("rules/uid/default/allow"), "").unwrap();
    fs::write(env.join("IPCCONNMAX"), "2\n").unwrap();
    let rules = door.path("rules");
    let program = probe();
    door.args(["--rules".into(), rules]).serve([
        "s6-connlimit",
        program.to_str().unwrap(),
        "echo",
        "0",
        "1",
    ])
}

#[test]
fn s6_connlimit_counts_what_spawn_counts() {
    need!(root, "s6-connlimit");
    let door = limited();
    let (one, other) = (User::new(4_741, 4_741), User::new(4_742, 4_742));
    let open = |user: &User| {
        let mut client = door.connect_as(user);
        client.send(b"x");
        assert_eq!(client.read_exactly(1), b"x");
        client
    };
    let mut held = vec![open(&one), open(&one)];
    assert_closed_by_limit(&door, &one);
    door.wait_log("number of connections from this client limited to 2");
    held.push(open(&other));

    held.remove(0);
    door.wait_slots(2);
    held.push(open(&one));
    assert_closed_by_limit(&door, &one);
}

/// One more connection of `user` is closed, and all are as they were.
#[track_caller]
fn assert_closed_by_limit(door: &Served, user: &User) {
    let before = door.slots();
    door.connect_as(user).assert_closed();
    door.wait_slots(before);
}

#[test]
fn s6_connlimit_counts_what_s6_ipcserverd_counts_through_admit() {
    need!(root, "s6-ipcserver", "s6-connlimit");
    let mut here = Neighbour::new();
    fs::create_dir_all(here.path("rules/uid/4741/env")).unwrap();
    here.write("rules/uid/4741/allow", "");
    here.write("rules/uid/4741/env/IPCCONNMAX", "1\n");
    let mut server = here.command("s6-ipcserver");
    server.args([
        "socket",
        "doorward",
        "admit",
        "--rules",
        "rules",
        "s6-connlimit",
    ]);
    server.arg(probe()).args(["echo", "0", "1"]);
    here.start(&mut server);
    let user = User::new(4_741, 4_741);
    let dial = || Dial::to(here.path("socket")).user(&user);
    let is_served =
        |client: &mut Client| client.try_send(b"x").is_ok() && client.try_read_exactly(1).is_ok();
    let mut first = eventually_some("a server", || dial().try_connect().ok());
    assert!(is_served(&mut first));
    // The count of the first is 1, or 0 from s6 2.12 on: the second or the third is beyond the limit.
    let mut more: Vec<Client> = (0..2).map(|_| dial().connect()).collect();
    let served: Vec<bool> = more.iter_mut().map(is_served).collect();
    assert!(!served[1], "{served:?}");
    here.wait_line("number of connections from this client limited to 1");
    assert!(here.stop(Signal::SIGTERM).success());
}

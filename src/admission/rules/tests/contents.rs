//! What `env` and `exec` may be, and what they give.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use super::*;

/// What is asked within ten seconds: to fail, and not hang, where a FIFO would be waited for.
fn failure_in_time(tree: &Tree) -> String {
    let rules = tree.open();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(rules.judge(&asker(1))));
    match told.recv_timeout(Duration::from_secs(10)) {
        Ok(Answer::Failed(cause)) => cause,
        other => panic!("{other:?} where reading must fail"),
    }
}

#[test]
fn env_files_and_texts_are_taken_up_to_4095_bytes_and_denied_beyond() {
    for size in [4094, 4095, 4096, 4097, 70_000] {
        let env = Tree::new()
            .file("rules/uid/1/allow", "")
            .file("rules/uid/1/env/V", vec![b'v'; size]);
        let exec = Tree::new()
            .file("rules/uid/1/allow", "")
            .file("rules/uid/1/exec", vec![b'x'; size]);
        if size <= 4095 {
            assert_eq!(env.grant(1).env, [(b"V".to_vec(), Some(vec![b'v'; size]))]);
            assert_eq!(exec.grant(1).exec, Some(vec![b'x'; size]));
        } else {
            assert_eq!(
                env.failure(1),
                env.shown("rules/uid/1/env/V is longer than 4095 bytes")
            );
            assert_eq!(
                exec.failure(1),
                exec.shown("rules/uid/1/exec is longer than 4095 bytes")
            );
        }
    }
}

#[test]
fn a_value_is_the_first_line_without_trailing_blanks() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .file("rules/uid/1/env/BLANK", " \t\r\nmore")
        .file("rules/uid/1/env/KEPT", " a\x0bb\0c \t\r\nmore\n")
        .file("rules/uid/1/env/REMOVED", "");
    let mut env = tree.grant(1).env;
    env.sort();
    let expected = [
        variable("BLANK", Some("")),
        variable("KEPT", Some(" a\x0bb\nc")),
        variable("REMOVED", None),
    ];
    assert_eq!(env, expected);
}

#[test]
fn a_text_ends_at_its_first_zero_byte() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .file("rules/uid/1/exec", "true\0false");
    assert_eq!(tree.grant(1).exec.as_deref(), Some(b"true".as_slice()));
}

#[test]
fn a_fifo_is_neither_read_nor_waited_for() {
    for name in ["env/V", "exec", "env"] {
        let tree = Tree::new().file("rules/uid/1/allow", "").dir("rules/uid/1");
        let tree = if name == "env/V" {
            tree.dir("rules/uid/1/env")
        } else {
            tree
        };
        mkfifo(
            &tree.path("rules/uid/1").join(name),
            Mode::from_bits_truncate(0o644),
        )
        .unwrap();
        let cause = failure_in_time(&tree);
        let path = tree.shown("rules/uid/1");
        if name == "env" {
            assert_eq!(
                cause,
                format!("unable to read {path}/env: Not a directory (os error 20)")
            );
        } else {
            assert_eq!(cause, format!("{path}/{name} is no regular file"));
        }
    }
}

#[test]
fn a_device_a_socket_and_a_directory_are_no_values() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env/V");
    assert_eq!(
        tree.failure(1),
        tree.shown("rules/uid/1/env/V is no regular file")
    );
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/exec");
    assert_eq!(
        tree.failure(1),
        tree.shown("rules/uid/1/exec is no regular file")
    );
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env");
    let socket = tree.path("rules/uid/1/env/V");
    let _socket = UnixListener::bind(&socket).unwrap();
    set_mode(&socket, 0o600);
    assert_eq!(
        tree.failure(1),
        tree.shown("rules/uid/1/env/V is no regular file")
    );
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env")
        .link("rules/uid/1/env/V", "/dev/zero");
    assert!(
        tree.failure(1)
            .starts_with("/dev/zero is writable by everybody"),
        "{}",
        tree.failure(1)
    );
    if is_root("a device as a value") {
        let tree = Tree::new()
            .file("rules/uid/1/allow", "")
            .dir("rules/uid/1/env");
        let zero = makedev(1, 5);
        mknod(
            &tree.path("rules/uid/1/env/V"),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o600),
            zero,
        )
        .unwrap();
        assert_eq!(
            tree.failure(1),
            tree.shown("rules/uid/1/env/V is no regular file")
        );
    }
}

#[test]
fn keys_and_env_that_are_files_fail() {
    let tree = Tree::new()
        .file("rules/uid/1", "")
        .file("rules/uid/default/allow", "");
    let cause = format!(
        "unable to read {}: Not a directory (os error 20)",
        tree.shown("rules/uid/1")
    );
    assert_eq!(tree.failure(1), cause);
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .file("rules/uid/1/env", "");
    let cause = format!(
        "unable to read {}: Not a directory (os error 20)",
        tree.shown("rules/uid/1/env")
    );
    assert_eq!(tree.failure(1), cause);
    let tree = Tree::new().file("rules/uid", "");
    let cause = RuleTree::open(&tree.rules()).unwrap_err();
    assert!(
        cause.ends_with("rules/uid: Not a directory (os error 20)"),
        "{cause}"
    );
}

#[test]
fn variables_of_more_than_16_kib_in_all_fail() {
    // Four times "A=" 4,093 bytes and a zero are 16 KiB exactly.
    let mut tree = Tree::new().file("rules/uid/1/allow", "");
    for name in ["A", "B", "C", "D"] {
        tree = tree.file(&format!("rules/uid/1/env/{name}"), vec![b'v'; 4093]);
    }
    assert_eq!(tree.grant(1).env.len(), 4);
    let tree = tree.file("rules/uid/1/env/E", "");
    assert_eq!(
        tree.failure(1),
        tree.shown("rules/uid/1/env holds more than 16384 bytes of variables")
    );
}

#[test]
fn thousands_of_entries_are_not_read_to_the_end() {
    let [many, hidden] = [("V", 3000), (".", 4100)].map(|(start, count)| {
        let tree = Tree::new()
            .file("rules/uid/1/allow", "")
            .dir("rules/uid/1/env");
        for number in 0..count {
            let name = format!("rules/uid/1/env/{start}{number}");
            fs::File::create(tree.path(&name)).unwrap();
        }
        tree
    });
    assert_eq!(
        many.failure(1),
        many.shown("rules/uid/1/env holds more than 16384 bytes of variables")
    );
    assert_eq!(
        hidden.failure(1),
        hidden.shown("rules/uid/1/env has more than 4096 entries")
    );
}

#[test]
fn odd_names_are_taken_as_they_are_and_shown_without_control_bytes() {
    let odd = std::ffi::OsStr::from_bytes(b"\xff \n\x1b[2J\\");
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env");
    let path = tree.path("rules/uid/1/env").join(odd);
    fs::write(&path, "x").unwrap();
    set_mode(&path, 0o644);
    assert_eq!(
        tree.grant(1).env,
        [(odd.as_bytes().to_vec(), Some(b"x".to_vec()))]
    );
    fs::write(&path, vec![b'x'; 5000]).unwrap();
    let cause = tree.shown(r"rules/uid/1/env/\xff \x0a\x1b[2J\x5c is longer than 4095 bytes");
    assert_eq!(tree.failure(1), cause);
}

#[test]
fn skipped_entries_are_not_even_opened() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env/.git")
        .dir("rules/uid/1/env/A=B");
    assert_eq!(tree.grant(1).env, []);
}

#[test]
fn an_env_entry_that_leads_nowhere_fails_while_env_or_exec_that_do_are_absent() {
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env")
        .link("rules/uid/1/env/V", "nowhere");
    let cause = format!(
        "unable to read {}: No such file or directory (os error 2)",
        tree.shown("rules/uid/1/env/V")
    );
    assert_eq!(tree.failure(1), cause);
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .link("rules/uid/1/env", "nowhere")
        .link("rules/uid/1/exec", "nowhere");
    assert_eq!(
        tree.grant(1),
        Grant {
            key: "uid/1".into(),
            env: vec![],
            exec: None
        }
    );
}

#[test]
fn an_unmapped_peer_meets_no_number_and_no_self() {
    let mut tree = Tree::new().file("rules/uid/default/deny", "");
    for id in ["self", "0", "65534", "4294967295"] {
        tree = tree
            .file(&format!("rules/uid/{id}/allow"), "")
            .file(&format!("rules/gid/{id}/allow"), "");
    }
    let unmapped = Asker {
        uid: None,
        gid: None,
    };
    assert_eq!(
        tree.open().judge(&unmapped),
        Answer::Deny("uid/default".into())
    );
}

#[test]
fn self_is_the_uid_in_uid_and_the_gid_in_gid() {
    let tree = Tree::new()
        .file("rules/uid/self/allow", "")
        .file("rules/gid/self/deny", "");
    let rules = RuleTree::open_as(&tree.rules(), 7, 8).unwrap();
    let judge = |uid, gid| {
        rules.judge(&Asker {
            uid: Some(uid),
            gid: Some(gid),
        })
    };
    assert_eq!(granted(judge(7, 8)).key, "uid/self");
    assert_eq!(judge(9, 8), Answer::Deny("gid/self".into()));
    assert_eq!(judge(8, 7), Answer::NoRule);
}

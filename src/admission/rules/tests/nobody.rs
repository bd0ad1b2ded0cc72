//! Root's rules, read by a doorward that dropped its rights: what it cannot read denies.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;

const NOBODY: u32 = 65534;
const TREE: &str = "DOORWARD_TEST_TREE";
const SELF: &str = "admission::rules::tests::nobody::what_nobody_cannot_read_denies";

/// Credentials are the process's: the test runs itself again as nobody, and that second run does the asking.
#[test]
fn what_nobody_cannot_read_denies() {
    if let Some(top) = std::env::var_os(TREE) {
        return ask_as_nobody(Path::new(&top));
    }
    if !is_root("rules of root's that nobody reads") {
        return;
    }
    let tree = build();
    // Where the test binary stands, nobody may not reach it.
    let copy = tree.path("again");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    set_mode(&copy, 0o755);
    let run = Command::new(&copy)
        .args(["--exact", SELF, "--nocapture"])
        .env(TREE, &tree.top)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(
        run.status.success() && out.contains("1 passed"),
        "{out}{err}"
    );
}

fn build() -> Tree {
    let mut tree = Tree::new()
        .file("rules/uid/default/allow", "")
        .file("rules/uid/self/allow", "");
    for uid in 1..=6 {
        tree = tree
            .file(&format!("rules/uid/{uid}/allow"), "")
            .file(&format!("rules/uid/{uid}/exec"), "true")
            .file(&format!("rules/uid/{uid}/env/V"), "v");
    }
    tree.mode("rules/uid/2/allow", 0o600)
        .mode("rules/uid/3", 0o700)
        .mode("rules/uid/4/exec", 0o600)
        .mode("rules/uid/5/env", 0o700)
        .mode("rules/uid/6/env/V", 0o600)
        .file("rules/uid/7/deny", "")
        .mode("rules/uid/7/deny", 0o600)
        .dir("closed")
        .mode("closed", 0o700)
        .dir("half/uid")
        .mode("half/uid", 0o700)
        .file("own/uid/1/allow", "")
        .owner("own/uid/1/allow", NOBODY)
        .owner("own/uid/1", NOBODY)
        .owner("own/uid", NOBODY)
        .owner("own", NOBODY)
        .dir("foreign")
        .owner("foreign", STRANGER)
}

fn ask_as_nobody(top: &Path) {
    assert_eq!(geteuid().as_raw(), NOBODY);
    let rules = RuleTree::open(&top.join("rules")).unwrap();
    let key = |uid| granted(rules.judge(&asker(uid))).key;
    assert_eq!(
        (key(1), key(8), key(NOBODY)),
        ("uid/1".into(), "uid/default".into(), "uid/self".into())
    );
    let unreadable = [
        (2, "/allow"),
        (3, "/allow"),
        (4, "/exec"),
        (5, "/env"),
        (6, "/env/V"),
        (7, "/deny"),
    ];
    for (uid, name) in unreadable {
        let path = format!("{}/rules/uid/{uid}{name}", top.display());
        let cause = format!("unable to read {path}: Permission denied (os error 13)");
        assert_eq!(rules.judge(&asker(uid)), Answer::Failed(cause));
    }

    let refused = |name: &str| RuleTree::open(&top.join(name)).unwrap_err();
    assert!(
        refused("closed").ends_with("/closed: Permission denied (os error 13)"),
        "{}",
        refused("closed")
    );
    assert!(
        refused("half").ends_with("/half/uid: Permission denied (os error 13)"),
        "{}",
        refused("half")
    );
    let foreign =
        format!("/foreign belongs to uid {STRANGER}; it must belong to root or to uid {NOBODY}");
    assert!(
        refused("foreign").ends_with(&foreign),
        "{}",
        refused("foreign")
    );
    granted(RuleTree::open(&top.join("own")).unwrap().judge(&asker(1)));
}

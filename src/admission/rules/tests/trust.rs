//! Who may write what; and links, which lead out of the tree only to what is as trusted.

use super::*;

const ALONE: &str = "it must be writable by its owner alone";

#[test]
fn whatever_others_can_write_fails() {
    let group = nix::unistd::getegid();
    let cases = [
        ("rules/uid/1", "rules/uid/1", 0o775),
        ("rules/uid/1/allow", "rules/uid/1/allow", 0o664),
        ("rules/uid/1/env", "rules/uid/1/env", 0o775),
        ("rules/uid/1/env/V", "rules/uid/1/env/V", 0o664),
        ("rules/uid/1/exec", "rules/uid/1/exec", 0o664),
        ("rules/uid/1", "rules/uid/1", 0o1775),
    ];
    for (path, shown, mode) in cases {
        let tree = Tree::new()
            .file("rules/uid/1/allow", "")
            .file("rules/uid/1/exec", "true")
            .file("rules/uid/1/env/V", "v");
        assert_eq!(tree.grant(1).env.len(), 1);
        let tree = tree.mode(path, mode);
        let path = tree.shown(shown);
        assert_eq!(
            tree.failure(1),
            format!("{path} is writable by group {group} (mode {mode:04o}); {ALONE}")
        );
    }
    let tree = Tree::new()
        .file("rules/uid/2/deny", "")
        .mode("rules/uid/2/deny", 0o602);
    let path = tree.shown("rules/uid/2/deny");
    assert_eq!(
        tree.failure(2),
        format!("{path} is writable by everybody (mode 0602); {ALONE}")
    );
}

#[test]
fn a_directory_that_others_can_write_is_refused_at_start_and_denies_later() {
    for path in ["", "rules", "rules/uid", "rules/gid"] {
        let tree = Tree::new().file("rules/uid/1/allow", "").dir("rules/gid");
        let rules = tree.open();
        granted(rules.judge(&asker(1)));
        let tree = tree.mode(path, 0o777);
        let shown = tree.shown(path);
        let shown = shown.trim_end_matches('/');
        let cause = format!("{shown} is writable by everybody (mode 0777); {ALONE}");
        let refused = RuleTree::open(&tree.rules()).unwrap_err();
        assert_eq!(
            refused,
            format!("rules directory {}: {cause}", tree.shown("rules"))
        );
        match path {
            // Above the rules one looks again when they are another directory, or changed.
            "" => set_mode(&tree.rules(), 0o700),
            // An answer is given before gid is looked at.
            "rules/gid" => fs::remove_dir_all(tree.path("rules/uid")).unwrap(),
            _ => {}
        }
        assert_eq!(rules.judge(&asker(1)), Answer::Failed(cause));
    }
}

#[test]
fn what_belongs_to_strangers_fails() {
    if !is_root("files that belong to others") {
        return;
    }
    let belongs = format!("belongs to uid {STRANGER}; it must belong to root");
    for path in [
        "rules/uid",
        "rules/uid/1",
        "rules/uid/1/allow",
        "rules/uid/1/env/V",
    ] {
        let tree = Tree::new()
            .file("rules/uid/1/allow", "")
            .file("rules/uid/1/env/V", "v");
        let rules = tree.open();
        granted(rules.judge(&asker(1)));
        let tree = tree.owner(path, STRANGER);
        assert_eq!(
            rules.judge(&asker(1)),
            Answer::Failed(format!("{} {belongs}", tree.shown(path)))
        );
    }
    let tree = Tree::new()
        .file("rules/uid/1/allow", "")
        .link("rules/uid/2", "1");
    let link = tree.path("rules/uid/2");
    std::os::unix::fs::lchown(&link, Some(STRANGER), Some(STRANGER)).unwrap();
    assert_eq!(
        tree.failure(2),
        format!("{} {belongs}", tree.shown("rules/uid/2"))
    );
}

#[test]
fn links_lead_out_of_the_tree_to_trusted_places() {
    let tree = Tree::new()
        .file("outside/key/allow", "")
        .file("outside/V", "v\n")
        .file("outside/text", "true")
        .file("rules/uid/1/allow", "")
        .dir("rules/uid/1/env")
        .link("rules/uid/1/env/V", "../../../../outside//./V")
        .link("rules/uid/3", "../../outside/key/");
    let tree = {
        let (text, gid) = (tree.path("outside/text"), tree.path("outside"));
        tree.link("rules/uid/1/exec", text).link("rules/gid", gid)
    };
    let expected = Grant {
        key: "uid/1".into(),
        env: vec![variable("V", Some("v"))],
        exec: Some("true".into()),
    };
    assert_eq!(tree.grant(1), expected);
    assert_eq!(tree.grant(3).key, "uid/3");
    // gid itself is a link, to a directory that has no key of the peer's.
    assert_eq!(tree.judge(4), Answer::NoRule);
}

#[test]
fn a_branch_that_is_a_link_serves_its_keys() {
    let tree = Tree::new()
        .file("outside/1/allow", "")
        .link("outside/2", "1")
        .link("rules/uid", "../outside");
    assert_eq!(
        (tree.grant(1).key, tree.grant(2).key),
        ("uid/1".into(), "uid/2".into())
    );
    let tree = tree.mode("outside", 0o1777);
    let cause = RuleTree::open(&tree.rules()).unwrap_err();
    assert!(
        cause.ends_with(&format!(
            "outside is writable by everybody (mode 1777); {ALONE}"
        )),
        "{cause}"
    );
}

#[test]
fn links_through_a_directory_that_others_can_write_fail() {
    let names = ["2", "3/allow", "1/deny", "1/env", "1/exec", "1/env/V"];
    for name in names {
        let tree = Tree::new()
            .file("open/key/allow", "")
            .file("open/file", "x")
            .dir("rules/uid/1")
            .dir("rules/uid/3");
        let tree = tree.mode("open", 0o777);
        let (tree, target) = match name {
            "1/env/V" => (tree.dir("rules/uid/1/env"), "open/file"),
            "2" | "1/env" => (tree, "open/key"),
            _ => (tree, "open/file"),
        };
        let tree = if matches!(name, "2" | "3/allow" | "1/deny") {
            tree
        } else {
            tree.file("rules/uid/1/allow", "")
        };
        let target = tree.path(target);
        let tree = tree.link(&format!("rules/uid/{name}"), target);
        let uid = name[..1].parse().unwrap();
        let open = tree.shown("open");
        assert_eq!(
            tree.failure(uid),
            format!("{open} is writable by everybody (mode 0777); {ALONE}"),
            "{name}"
        );
    }
}

#[test]
fn a_sticky_directory_of_roots_may_be_passed_unless_the_file_has_a_second_name() {
    if !is_root("a sticky directory of root's") {
        return;
    }
    let tree = Tree::new()
        .dir("sticky")
        .mode("sticky", 0o1777)
        .file("sticky/key/allow", "")
        .file("sticky/file", "");
    let tree = tree
        .dir("rules/uid/2")
        .link("rules/uid/1", "../../sticky/key")
        .link("rules/uid/2/allow", "../../../sticky/file");
    assert_eq!(
        (tree.grant(1).key, tree.grant(2).key),
        ("uid/1".into(), "uid/2".into())
    );
    fs::hard_link(tree.path("sticky/file"), tree.path("second")).unwrap();
    assert!(
        tree.failure(2).contains("sticky/file has a second name"),
        "{}",
        tree.failure(2)
    );
    let tree = tree.owner("sticky/key", STRANGER);
    assert!(
        tree.failure(1).contains("sticky/key belongs to uid"),
        "{}",
        tree.failure(1)
    );
}

#[test]
fn links_in_a_circle_fail_and_forty_in_a_row_do_not() {
    let tree = Tree::new()
        .dir("rules/uid")
        .link("rules/uid/1", "2")
        .link("rules/uid/2", "1");
    assert!(
        tree.failure(1)
            .ends_with("Too many levels of symbolic links (os error 40)"),
        "{}",
        tree.failure(1)
    );
    // From 100 to 139 are 40 links, 99 is one more.
    let mut tree = Tree::new().file("rules/uid/140/allow", "");
    for link in 99..140 {
        tree = tree.link(&format!("rules/uid/{link}"), (link + 1).to_string());
    }
    assert_eq!(tree.grant(100).key, "uid/100");
    assert!(
        tree.failure(99)
            .ends_with("Too many levels of symbolic links (os error 40)"),
        "{}",
        tree.failure(99)
    );
}

#[test]
fn a_missing_directory_is_refused_at_start() {
    let tree = Tree::new();
    let missing = tree.path("nothing\nhere");
    let shown = tree.shown(r"nothing\x0ahere");
    let refused = format!(
        "rules directory {shown}: unable to read {shown}: No such file or directory (os error 2)"
    );
    assert_eq!(RuleTree::open(&missing).unwrap_err(), refused);
}

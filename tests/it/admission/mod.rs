//! Who is it, may it, is there room: what doorward makes of a peer, through real connections of real users.

mod capacity;
mod namespaces;
mod order;
mod rate;
mod refusal;
mod reload;
mod room;
mod rules;
mod rules_delivery;
mod trust;
mod vectors;
mod who;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Door, Served, User};

/// A door that everybody may reach: admission alone decides.
fn reachable() -> Door {
    Door::new().args(["--mode", "0666"])
}

/// A user whose only group has the same number.
fn user(id: u32) -> User {
    User::new(id, id)
}

/// Serves so that [`comes_in`] can tell.
fn greeter(door: Door) -> Served {
    door.args(["--inetd"]).serve(["echo", "in"])
}

/// Connects as `user`: whether there was a child. Whoever is refused gets a clean end of file.
#[track_caller]
fn comes_in(door: &Served, user: &User) -> bool {
    let text = door.connect_as(user).read_text();
    assert!(
        text == "in\n" || text.is_empty(),
        "{user:?}: {text:?} in:\n{}",
        door.log().join("\n")
    );
    !text.is_empty()
}

/// A rules directory of a test's own; every node in it has the mode that a careful administrator gives.
struct Rules(PathBuf);

impl Rules {
    /// The directory `rules` of a door, still empty.
    fn of(door: &Door) -> Rules {
        let rules = Rules(door.path("rules"));
        rules.directory("");
        rules
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            return self.0.clone();
        }
        self.0.join(name)
    }

    fn directory(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        for part in path
            .ancestors()
            .take_while(|part| part.starts_with(&self.0))
        {
            set_mode(part, 0o755);
        }
    }

    /// Writes a file, its directories first.
    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let (directory, _) = name.rsplit_once('/').expect("a name below a key");
        self.directory(directory);
        // Whole at once: doorward may read it at any moment.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        set_mode(&new, 0o644);
        fs::rename(new, self.path(name)).unwrap();
    }

    fn allow(&self, key: &str) {
        self.file(&format!("{key}/allow"), "");
    }

    fn deny(&self, key: &str) {
        self.file(&format!("{key}/deny"), "");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

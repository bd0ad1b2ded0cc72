//! A directory of a test's own, with a short path: a socket's address has room for 107 bytes.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Mode 0755: tests connect as other users.
    pub fn new() -> Scratch {
        let root = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let dir = root.join(format!(
            "dw-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&dir)
            .unwrap_or_else(|e| panic!("mkdir {dir:?}: {e}"));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Scratch { dir }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes an executable script, whole, and gives its path.
    #[track_caller]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        write_script(&path, text);
        path
    }
}

/// Writes an executable script by another process: while this one has it open for writing, a child that some other
/// test is just starting would hold it too, and running it would fail with "text file busy".
#[track_caller]
pub fn write_script(path: &Path, text: &str) {
    let mut writer = Command::new("sh");
    writer
        .args(["-c", r#"printf %s "$2" >"$1" && chmod 0755 "$1""#, "sh"])
        .arg(path)
        .arg(text);
    assert!(
        writer.status().expect("sh").success(),
        "unable to write {path:?}"
    );
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that takes its own right to write away must not leave the directory behind.
        let _ = fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755));
        let _ = fs::remove_dir_all(&self.dir);
    }
}

//! What a test needs of the machine, and the loud skip where it is missing.

use std::path::PathBuf;

/// `need!(root, "s6-svscan", "socat")`: leaves the test, saying so, if this is not root or a program is missing.
/// With `DOORWARD_TESTS_ALL=1` in the environment it fails instead, so that a complete run cannot skip in silence.
#[macro_export]
macro_rules! need {
    (@word root) => { $crate::support::need::ROOT };
    (@word $program:expr) => { $program };
    ($($what:tt),+ $(,)?) => {
        fn here() {}
        if !$crate::support::need::met(std::any::type_name_of_val(&here), &[$(need!(@word $what)),+]) {
            return;
        }
    };
}

/// `need!` for a test that boots systemd.
#[macro_export]
macro_rules! need_systemd {
    () => {
        need!(root, "systemctl", "systemd", "unshare", "nsenter")
    };
}

/// The word for "must be root" among program names.
pub const ROOT: &str = "(root)";

/// Whether everything is there; says what is missing on stderr, past the capture of the test harness.
pub fn met(test: &str, needs: &[&str]) -> bool {
    let missing: Vec<&str> = needs.iter().copied().filter(|need| !has(need)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = test.trim_end_matches("::here").trim_start_matches("it::");
    let missing = missing.join(", ").replace(ROOT, "root");
    assert!(
        std::env::var_os("DOORWARD_TESTS_ALL").is_none_or(|all| all != "1"),
        "{test} needs {missing}"
    );
    // eprintln! would be captured and shown for failures only.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("SKIPPED {test}: needs {missing}\n").as_bytes(),
    );
    false
}

fn has(need: &str) -> bool {
    if need == ROOT {
        nix::unistd::geteuid().is_root()
    } else {
        find_program(need).is_some()
    }
}

/// Where a program stands: an absolute path that exists, or found in PATH and the places of system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain([
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
            "/lib/systemd",
        ])
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|file| file.is_file())
}

//! The names of the variables that doorward manages: what it sets itself, and what was meant for it alone.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
use crate::sys;
#[cfg(feature = "cli")]
use std::ffi::CStr;

/// The names that rules have set or removed, each after the other with `=` between them, which stands in no name. For `answer`, which takes
/// none of them from a caller.
#[cfg(feature = "cli")]
pub(crate) const RULE_NAMES: &str = "DOORWARD_RULE_NAMES";

/// What doorward sets behind the prefix (`IPC` or what `--proto` says).
const CONNECTION: [&str; 8] = [
    "REMOTEEUID",
    "REMOTEEGID",
    "REMOTEGROUPS",
    "REMOTEGROUPS_TRUNCATED",
    "REMOTEPID",
    "REMOTEPATH",
    "LOCALPATH",
    "CONNNUM",
];

/// What is said of a connection whatever the prefix is.
const ANY_CONNECTION: [&str; 3] = ["PROTO", "REMOTE_ADDR", "REMOTE_PORT"];

/// What is about descriptors of this process that no program has after it, or was meant for this process alone.
const OWN: [&str; 12] = [
    "NOTIFYFD",
    "PIDFD",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "SKALIBS_CHILD_SPAWN_FDS",
];

/// The process's own variables, each `NAME=VALUE` where it stands: all that a program may have of them.
#[cfg(feature = "cli")]
pub(crate) fn inherited() -> impl Iterator<Item = Variable> {
    sys::env::entries().filter_map(Variable::of)
}

/// An entry of an environment.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    /// `NAME=VALUE`.
    pub(crate) entry: &'static CStr,
    pub(crate) name: &'static [u8],
    pub(crate) value: &'static [u8],
}

#[cfg(feature = "cli")]
impl Variable {
    /// What is no variable (without a `=`, or with nothing before it) is nobody's, as for [`std::env::vars_os`]; a name may begin with `=`.
    pub(crate) fn of(entry: &'static CStr) -> Option<Variable> {
        let text = entry.to_bytes();
        let behind_first = text.get(1..)?;
        let end = 1 + behind_first.iter().position(|&byte| byte == b'=')?;
        let (name, value) = text.split_at_checked(end)?;
        Some(Variable {
            entry,
            name,
            value: value.get(1..)?,
        })
    }
}

/// Whether `name` was meant for this process: no program that it becomes or starts may inherit it.
pub(crate) fn is_own(name: &[u8]) -> bool {
    OWN.iter().any(|known| known.as_bytes() == name)
}

/// Whether a child must not inherit `name`; `proto` is the prefix in use.
pub(crate) fn is_managed(name: &[u8], proto: &str) -> bool {
    // Stale variables of the default prefix would mislead a program that looks at both.
    let of_connection = |prefix: &str| {
        name.strip_prefix(prefix.as_bytes())
            .is_some_and(|rest| CONNECTION.iter().any(|known| known.as_bytes() == rest))
    };
    is_own(name)
        || ANY_CONNECTION.iter().any(|known| known.as_bytes() == name)
        || name.starts_with(b"HANDOFF")
        || of_connection("IPC")
        || proto != "IPC" && of_connection(proto)
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn a_variable_has_a_name_and_what_is_none_is_left_out() {
        let parts = |entry| Variable::of(entry).map(|variable| (variable.name, variable.value));
        assert_eq!(parts(c"A=b"), Some((&b"A"[..], &b"b"[..])));
        assert_eq!(parts(c"A="), Some((&b"A"[..], &b""[..])));
        assert_eq!(parts(c"A=b=c"), Some((&b"A"[..], &b"b=c"[..])));
        assert_eq!(parts(c"=A=b"), Some((&b"=A"[..], &b"b"[..])));
        for odd in [c"", c"A", c"=", c"=A"] {
            assert_eq!(parts(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn the_process_s_variables_are_those_that_the_standard_library_has() {
        let own = inherited().map(|variable| {
            let text = |bytes| OsStr::from_bytes(bytes).to_owned();
            (text(variable.name), text(variable.value))
        });
        assert!(own.eq(std::env::vars_os()));
    }
}

//! The names of the variables that doorward manages: what it sets itself, and what was meant for it alone.
#![forbid(unsafe_code)]

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
        || of_connection(proto)
}

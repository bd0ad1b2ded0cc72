//! Which of a caller's variables reach the program: the server decides.
#![forbid(unsafe_code)]

use super::wire::name_of;
use crate::sys::cvec::CVec;
use crate::variables::{RULE_NAMES, Variable};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Names, and beginnings of names where they end in `*`, that no caller sets, whatever the server says: they are doorward's word.
const NEVER: [&str; 15] = [
    "PROTO",
    "IPC*",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "NOTIFYFD",
    "PIDFD",
    "HANDOFF*",
    "LISTEN_*",
    "NOTIFY_SOCKET",
    "WATCHDOG_*",
    "FDSTORE",
    "SKALIBS_CHILD_SPAWN_FDS",
    "DOORWARD_*",
    "MAINPID",
    "INVOCATION_ID",
];

/// Names that change what a loader, a shell or an interpreter runs: they pass by `--pass-env` alone, never because they are set and empty.
const GUARDED: [&str; 46] = [
    "LD_*",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_*",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TMPDIR",
    "TZDIR",
    "IFS",
    "CDPATH",
    "ENV",
    "BASH_*",
    "BASHOPTS",
    "SHELLOPTS",
    "GLOBIGNORE",
    "PS4",
    "PROMPT_COMMAND",
    "PATH",
    "ZDOTDIR",
    "FPATH",
    "PERL5*",
    "PERLLIB",
    "PERLIO*",
    "PYTHON*",
    "RUBYLIB",
    "RUBYOPT",
    "NODE_*",
    "JAVA_*",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "LUA_*",
    "GEM_*",
    "TERMINFO*",
    "TERMPATH",
    "TERMCAP",
    "SSLKEYLOGFILE",
    "OPENSSL_*",
    "GIT_*",
    "KRB5*",
];

/// What the server says of its callers' variables.
#[derive(Debug)]
pub(super) struct Policy {
    /// By name; of two with one name the last.
    own: BTreeMap<&'static [u8], Variable>,
    /// Names that a rule has set or removed.
    ruled: Vec<&'static [u8]>,
    /// The prefix of the connection's variables, where it is not IPC.
    proto: Option<&'static [u8]>,
    passed: Vec<OsString>,
}

/// Whether no caller may ever set `name`; `proto` is the prefix in use.
fn never(name: &[u8], proto: Option<&[u8]>) -> bool {
    is_among(name, &NEVER) || proto.is_some_and(|proto| name.starts_with(proto))
}

fn is_among(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == known.as_bytes(),
    })
}

impl Policy {
    /// `own` is the process's environment; `passed` are the names of `--pass-env`.
    ///
    /// # Errors
    /// A name that never passes, or is none.
    pub(super) fn new(
        own: impl Iterator<Item = Variable>,
        passed: Vec<OsString>,
    ) -> Result<Policy, String> {
        let mut own: BTreeMap<_, _> = own.map(|variable| (variable.name, variable)).collect();
        // It is a word of the parent's to this process alone. `=` stands in no name.
        let ruled = own.remove(RULE_NAMES.as_bytes());
        let ruled = ruled.map_or(&b""[..], |ruled| ruled.value);
        let ruled = ruled.split(|&byte| byte == b'=');
        let ruled = ruled.filter(|name| !name.is_empty()).collect();
        for name in ["NOTIFYFD", "PIDFD"] {
            // Their descriptors do not reach the program.
            own.remove(name.as_bytes());
        }
        let proto = own.get(&b"PROTO"[..]).map(|proto| proto.value);
        let proto = proto.filter(|proto| !proto.is_empty());
        for name in &passed {
            let bytes = name.as_bytes();
            if bytes.is_empty() || bytes.contains(&b'=') {
                return Err("a variable has a name without =".into());
            }
            if never(bytes, proto) {
                return Err("no caller may set what says who it is or what doorward gives".into());
            }
        }
        Ok(Policy {
            own,
            ruled,
            proto,
            passed,
        })
    }

    fn lets_pass(&self, name: &[u8]) -> bool {
        if never(name, self.proto) || self.ruled.contains(&name) {
            return false;
        }
        if self.passed.iter().any(|passed| passed.as_bytes() == name) {
            return true;
        }
        let own = self.own.get(name);
        !is_among(name, &GUARDED) && own.is_some_and(|own| own.value.is_empty())
    }

    /// Whether it is a TERM that leads to no file outside of where these are.
    fn is_plain_term(&self, name: &[u8], value: &[u8]) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        name == b"TERM"
            && !self.ruled.contains(&name)
            && (1..=64).contains(&value.len())
            && value.first().is_some_and(u8::is_ascii_alphanumeric)
            && value.iter().all(is_plain)
    }

    /// The program's environment: the server's own, and of the caller's what passes; of two with one name the first.
    /// With a terminal of its own, TERM is the caller's, who knows what draws it.
    pub(super) fn environment(self, callers: &[&OsStr], on_terminal: bool) -> CVec {
        let mut taken: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for entry in callers {
            if let Some(name) = name_of(entry)
                && let Some(value) = entry.as_bytes().get(name.len() + 1..)
                && (self.lets_pass(name) || on_terminal && self.is_plain_term(name, value))
            {
                taken.entry(name).or_insert(value);
            }
        }
        let mut all = CVec::default();
        let kept = self.own.values();
        let kept = kept.filter(|own| !taken.contains_key(own.name));
        all.keep(kept.map(|own| own.entry));
        for (name, value) in taken {
            all.push(&[name, b"=", value]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn passes(own: &[(&str, &str)], named: &[&str], caller: &[&str]) -> Vec<String> {
        let own = own.iter().map(variable);
        let named = named.iter().map(Into::into).collect();
        let policy = Policy::new(own, named).unwrap();
        let caller: Vec<&OsStr> = caller.iter().map(OsStr::new).collect();
        let environment = policy.environment(&caller, false);
        environment
            .iter()
            .map(|entry| String::from_utf8(entry.to_vec()).unwrap())
            .collect()
    }

    fn variable((name, value): &(&str, &str)) -> Variable {
        let entry = CString::new(format!("{name}={value}")).unwrap();
        Variable::of(Box::leak(entry.into_boxed_c_str())).unwrap()
    }

    #[test]
    fn the_server_s_variable_must_be_set_and_empty_or_named() {
        let own = [("EMPTY", ""), ("FULL", "own")];
        let caller = ["EMPTY=a", "FULL=b", "NAMED=c", "OTHER=d", "EMPTY=second"];
        let all = passes(&own, &["NAMED"], &caller);
        assert_eq!(all, ["FULL=own", "EMPTY=a", "NAMED=c"]);
    }

    #[test]
    fn what_doorward_says_never_comes_from_a_caller() {
        let own = [
            ("PROTO", "UNIX"),
            ("IPCREMOTEPATH", ""),
            ("UNIXREMOTEPATH", ""),
            ("REMOTE_ADDR", ""),
        ];
        let caller = [
            "PROTO=x",
            "IPCREMOTEPATH=x",
            "UNIXREMOTEPATH=x",
            "REMOTE_ADDR=x",
        ];
        let all = passes(&own, &[], &caller);
        assert!(all.iter().all(|entry| !entry.ends_with("=x")), "{all:?}");
        for name in [
            "IPCREMOTEEUID",
            "UNIXREMOTEEUID",
            "LISTEN_FDS",
            "HANDOFF_FDS",
            "PROTO",
            RULE_NAMES,
            "",
            "A=B",
        ] {
            let own = [variable(&("PROTO", "UNIX"))].into_iter();
            assert!(Policy::new(own, vec![name.into()]).is_err(), "{name}");
        }
    }

    #[test]
    fn what_a_rule_has_touched_never_comes_from_a_caller() {
        let own = [("ROLE", ""), ("LANG", ""), (RULE_NAMES, "ROLE=GONE")];
        let all = passes(&own, &["GONE"], &["ROLE=x", "GONE=x", "LANG=C"]);
        assert_eq!(all, ["ROLE=", "LANG=C"]);
    }

    #[test]
    fn what_changes_what_is_run_passes_by_name_alone() {
        let names = [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "IFS",
            "PATH",
            "BASH_ENV",
            "ENV",
            "PYTHONPATH",
            "BASH_FUNC_x%%",
        ];
        for name in names {
            let caller = format!("{name}=x");
            assert_eq!(passes(&[(name, "")], &[], &[&caller]), [format!("{name}=")]);
            assert_eq!(passes(&[], &[name], &[&caller]), [caller]);
        }
    }
}

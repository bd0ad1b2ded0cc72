//! The probe: a child that reports what it was started with (tests/probe/main.rs), and its report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::doorward;

/// The probe's path. `cargo test` has built it; with `--test it`, which builds no examples, it is built here.
pub fn probe() -> PathBuf {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(found_or_built).clone()
}

fn found_or_built() -> PathBuf {
    let profile = doorward().parent().expect("the directory of the binary");
    let path = profile.join("examples/probe");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let sources = fs::read_dir(sources).into_iter().flatten().flatten();
    if changed(&path) < sources.filter_map(|file| changed(&file.path())).max() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--example", "probe", "--manifest-path"]);
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().expect("cargo").success(),
            "unable to build the probe"
        );
    }
    path
}

/// An open descriptor of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What /proc/self/fd showed: `socket:[77]`, `/dev/null`.
    pub link: String,
    /// `stream`, `dgram`, `seqpacket`, or `-` for what is no socket.
    pub socket: String,
    /// SO_ACCEPTCONN.
    pub listening: bool,
    /// FD_CLOEXEC was set (it never should be: it has survived an exec).
    pub cloexec: bool,
    /// O_NONBLOCK.
    pub nonblock: bool,
}

/// What the probe found before it did anything.
#[derive(Debug, Default)]
pub struct Report {
    values: Vec<(String, Vec<u8>)>,
}

impl Report {
    /// Takes the text that `probe report N` wrote; panics unless it is whole.
    #[track_caller]
    pub fn parse(text: impl AsRef<[u8]>) -> Report {
        let text = String::from_utf8_lossy(text.as_ref()).into_owned();
        assert!(text.ends_with("end \n"), "no whole report: {text:?}");
        let values = text.lines().filter_map(|line| line.split_once(' '));
        Report {
            values: values
                .map(|(key, value)| (key.to_owned(), unescape(value)))
                .collect(),
        }
    }

    /// The values of a key, in order.
    pub fn all(&self, key: &str) -> Vec<String> {
        let these = self.values.iter().filter(|(k, _)| k == key);
        these
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The one value of a key: `pid`, `ppid`, `pgid`, `sid`, `cwd`, `umask`, `uid` and `gid` (real, effective, saved),
    /// `groups`, `nofile` (soft, hard), `blocked`, `ignored`, `caught` (hex).
    #[track_caller]
    pub fn get(&self, key: &str) -> String {
        let all = self.all(key);
        assert_eq!(all.len(), 1, "{key}: {all:?}");
        all[0].clone()
    }

    /// The same as a number.
    #[track_caller]
    pub fn number(&self, key: &str) -> i32 {
        self.get(key).parse().expect("a number")
    }

    /// The argument list, program first.
    pub fn argv(&self) -> Vec<String> {
        self.all("argv")
    }

    /// A variable's value; panics if it is set twice.
    #[track_caller]
    pub fn env(&self, name: &str) -> Option<String> {
        self.env_bytes(name)
            .map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The same, byte for byte.
    #[track_caller]
    pub fn env_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let name = format!("{name}=").into_bytes();
        let entries = self.values.iter().filter(|(key, _)| key == "env");
        let mut these = entries.filter_map(|(_, entry)| entry.strip_prefix(&name[..]));
        let value = these.next().map(<[u8]>::to_vec);
        assert!(
            these.next().is_none(),
            "set twice: {}",
            String::from_utf8_lossy(&name)
        );
        value
    }

    /// The names of all variables, sorted.
    pub fn env_names(&self) -> Vec<String> {
        let name = |entry: &String| {
            entry
                .split_once('=')
                .map_or(entry.clone(), |(name, _)| name.to_owned())
        };
        let mut names: Vec<String> = self.all("env").iter().map(name).collect();
        names.sort();
        names
    }

    /// The open descriptors.
    #[track_caller]
    pub fn fds(&self) -> BTreeMap<i32, Descriptor> {
        self.all("fd")
            .iter()
            .map(|line| descriptor(line).unwrap_or_else(|| panic!("odd line: {line}")))
            .collect()
    }

    /// The numbers of the open descriptors.
    #[track_caller]
    pub fn fd_numbers(&self) -> Vec<i32> {
        self.fds().into_keys().collect()
    }
}

/// `7 stream listening=0 cloexec=0 nonblock=0 socket:[77]`
fn descriptor(line: &str) -> Option<(i32, Descriptor)> {
    let mut words = line.splitn(6, ' ');
    let number = words.next()?.parse().ok()?;
    let socket = words.next()?.to_owned();
    let mut flag = |name| Some(words.next()?.strip_prefix(name)? == "1");
    let (listening, cloexec, nonblock) =
        (flag("listening=")?, flag("cloexec=")?, flag("nonblock=")?);
    Some((
        number,
        Descriptor {
            link: words.next()?.to_owned(),
            socket,
            listening,
            cloexec,
            nonblock,
        },
    ))
}

/// Takes `\xNN` back to bytes.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).expect("two hex digits"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

//! The environment of one connection. Later wins: the inherited variables less every name that doorward manages, the connection's,
//! the rule's, and last those that no rule touches.
#![forbid(unsafe_code)]

use super::Admitted;
use super::layout::{Channels, Layout, NOTIFY, PIDFD};
use crate::admission::Peer;
use crate::report::Escaped;
use crate::sys::cvec::CVec;
use crate::variables::{RULE_NAMES, Variable, is_managed};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;

/// IPCREMOTEGROUPS is left out beyond this many bytes.
const GROUPS_LIMIT: usize = 8 * 1024;

/// One connection, as far as the environment tells of it.
pub(super) struct Connection<'a> {
    pub(super) peer: &'a Peer,
    /// What the peer bound itself to, as the kernel gives it: with a leading zero byte where it is abstract.
    pub(super) peer_name: &'a [u8],
    pub(super) local_path: &'a OsStr,
    /// Connections that this user has open, this one included; `None`: nobody has counted.
    pub(super) number: Option<u32>,
    /// The rule's changes; `None` removes.
    pub(super) rule: &'a [(Vec<u8>, Option<Vec<u8>>)],
}

impl<'a> Connection<'a> {
    pub(super) fn of(admitted: &'a Admitted<'a>) -> Connection<'a> {
        Connection {
            peer: admitted.peer,
            peer_name: admitted.peer_name,
            local_path: admitted.local_path,
            number: admitted.number,
            rule: admitted.rule_env,
        }
    }
}

/// What is the same for every connection.
#[derive(Debug)]
pub(crate) struct Template {
    /// Each `NAME=VALUE`, where the process has it.
    inherited: Vec<&'static CStr>,
    /// What another doorward in front of this one said of its rule.
    rule_names: &'static [u8],
    proto: String,
    channels: Channels,
}

impl Template {
    /// `inherited` is the process's own environment.
    pub(crate) fn new(
        inherited: impl Iterator<Item = Variable>,
        proto: String,
        channels: Channels,
    ) -> Template {
        let mut rule_names: &[u8] = b"";
        let mut kept = Vec::with_capacity(64);
        for variable in inherited {
            if variable.name == RULE_NAMES.as_bytes() {
                rule_names = variable.value;
            } else if !is_managed(variable.name, &proto) {
                kept.push(variable.entry);
            }
        }
        Template {
            inherited: kept,
            rule_names,
            proto,
            channels,
        }
    }

    /// The inherited part, each `NAME=VALUE`.
    pub(crate) fn inherited(&self) -> &[&'static CStr] {
        &self.inherited
    }

    /// A door's buffer with the inherited part, and where that part ends.
    pub(super) fn begin(&self, block: &mut CVec) -> (usize, usize) {
        block.clear();
        block.keep(self.inherited.iter().copied());
        block.mark()
    }

    /// Appends what this connection has to a block that holds the inherited part. Gives where the child writes its pid, and whether the
    /// inherited part was changed, so that the block must be begun anew for the next connection.
    pub(super) fn finish(
        &self,
        block: &mut CVec,
        connection: &Connection<'_>,
    ) -> (Option<usize>, bool) {
        self.connection(block, connection);
        for (name, value) in connection.rule {
            self.rule(block, name, value.as_deref());
        }
        (self.fixed(block, connection), !connection.rule.is_empty())
    }

    /// The environment of a program that this very process becomes, and so keeps its pid.
    pub(crate) fn in_place(&self, admitted: &Admitted<'_>) -> CVec {
        let mut block = CVec::default();
        self.begin(&mut block);
        let (pid_at, _) = self.finish(&mut block, &Connection::of(admitted));
        if let Some(at) = pid_at {
            block.fill_pid(at, std::process::id());
        }
        block
    }

    /// Fills `block` with what a hand-off says of a connection: nothing of the process's own environment, each name once, and `NAME` alone
    /// for what the rule removes. `first` are the entries that come before.
    pub(super) fn hand_off(&self, block: &mut CVec, first: &[&str], connection: &Connection<'_>) {
        block.clear();
        for entry in first {
            block.push(&[entry.as_bytes()]);
        }
        self.connection(block, connection);
        for (name, value) in connection.rule {
            if self.is_identity(name) {
                continue;
            }
            self.rule(block, name, value.as_deref());
            if value.is_none() && !self.is_beyond_rules(name) && is_name(name) {
                block.push(&[name]);
            }
        }
        block.push(&[
            self.proto.as_bytes(),
            b"LOCALPATH=",
            connection.local_path.as_bytes(),
        ]);
    }

    /// What a backend relies on to know who its peer is.
    fn is_identity(&self, name: &[u8]) -> bool {
        let identity = |rest: &[u8]| rest.starts_with(b"REMOTE");
        name == b"PROTO"
            || name == b"REMOTE_ADDR"
            || name
                .strip_prefix(self.proto.as_bytes())
                .is_some_and(identity)
    }

    fn connection(&self, block: &mut CVec, connection: &Connection<'_>) {
        let Connection {
            peer,
            peer_name,
            number,
            ..
        } = connection;
        let proto = self.proto.as_bytes();
        let mut digits = Digits::default();
        block.push(&[b"PROTO=", proto]);
        if let Some(uid) = peer.uid {
            block.push(&[proto, b"REMOTEEUID=", digits.of(uid)]);
        }
        if let Some(gid) = peer.gid {
            block.push(&[proto, b"REMOTEEGID=", digits.of(gid)]);
        }
        self.groups(block, peer);
        if let Some(pid) = peer.pid {
            block.push(&[proto, b"REMOTEPID=", digits.of(pid.unsigned_abs())]);
        }
        match peer_name {
            [] => block.push(&[proto, b"REMOTEPATH="]),
            [0, name @ ..] => {
                block.push(&[proto, b"REMOTEPATH="]);
                block.push(&[b"REMOTE_ADDR=@", Escaped(name).to_string().as_bytes()]);
            }
            path => {
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                block.push(&[proto, b"REMOTEPATH=", path]);
                block.push(&[b"REMOTE_ADDR=", path]);
            }
        }
        if let Some(number) = number {
            block.push(&[proto, b"CONNNUM=", digits.of(*number)]);
        }
    }

    /// All groups: the effective one, then the supplementary ones.
    fn groups(&self, block: &mut CVec, peer: &Peer) {
        let proto = self.proto.as_bytes();
        let mut digits = Digits::default();
        let mut list = Vec::with_capacity(16 * (peer.groups.len().min(512) + 1));
        let others = peer.groups.iter().filter(|group| Some(**group) != peer.gid);
        for group in peer.gid.iter().chain(others) {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(digits.of(*group));
            if list.len() > GROUPS_LIMIT {
                return block.push(&[proto, b"REMOTEGROUPS_TRUNCATED=1"]);
            }
        }
        block.push(&[proto, b"REMOTEGROUPS=", &list]);
    }

    fn rule(&self, block: &mut CVec, name: &[u8], value: Option<&[u8]>) {
        if !is_name(name) || self.is_beyond_rules(name) {
            return;
        }
        block.remove(|entry| entry.split(|&byte| byte == b'=').next() == Some(name));
        if let Some(value) = value {
            block.push(&[name, b"=", value]);
        }
    }

    /// LOCALPATH, NOTIFYFD, PIDFD, LISTEN_* and HANDOFF*, and what is said of rules.
    fn is_beyond_rules(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.proto.as_bytes()) == Some(b"LOCALPATH")
            || name == b"NOTIFYFD"
            || name == b"PIDFD"
            || name.starts_with(b"LISTEN_")
            || name.starts_with(b"HANDOFF")
            || name == RULE_NAMES.as_bytes()
    }

    /// Says which names rules have touched, if any have.
    fn rule_names(&self, block: &mut CVec, connection: &Connection<'_>) {
        let touched = connection.rule.iter().map(|(name, _)| name.as_slice());
        let touched = touched.filter(|name| is_name(name) && !self.is_beyond_rules(name));
        let mut names = self.rule_names.to_vec();
        for name in touched {
            if !names.is_empty() {
                names.push(b'=');
            }
            names.extend_from_slice(name);
        }
        if !names.is_empty() {
            block.push(&[RULE_NAMES.as_bytes(), b"=", &names]);
        }
    }

    fn fixed(&self, block: &mut CVec, connection: &Connection<'_>) -> Option<usize> {
        let mut digits = Digits::default();
        block.push(&[
            self.proto.as_bytes(),
            b"LOCALPATH=",
            connection.local_path.as_bytes(),
        ]);
        self.rule_names(block, connection);
        if self.channels.notify {
            block.push(&[b"NOTIFYFD=", digits.of(NOTIFY.unsigned_abs())]);
        }
        if self.channels.pidfd {
            block.push(&[b"PIDFD=", digits.of(PIDFD.unsigned_abs())]);
        }
        if self.channels.layout != Layout::Systemd {
            return None;
        }
        block.push(&[b"LISTEN_FDS=1"]);
        block.push(&[b"LISTEN_FDNAMES=connection"]);
        Some(block.push_pid_room(b"LISTEN_PID="))
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0)
}

/// A decimal number without an allocation.
#[derive(Default)]
struct Digits {
    text: [u8; 10],
}

impl Digits {
    fn of(&mut self, mut number: u32) -> &[u8] {
        let mut first = self.text.len();
        for digit in self.text.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            first -= 1;
            if number == 0 {
                break;
            }
        }
        self.text.get(first..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn block_of(
        template: &Template,
        peer: &Peer,
        peer_name: &[u8],
        rule: &[(Vec<u8>, Option<Vec<u8>>)],
    ) -> Vec<String> {
        let mut block = CVec::default();
        template.begin(&mut block);
        let connection = Connection {
            peer,
            peer_name,
            local_path: OsStr::new("/run/x"),
            number: Some(3),
            rule,
        };
        template.finish(&mut block, &connection);
        block
            .iter()
            .map(|entry| String::from_utf8_lossy(entry).into_owned())
            .collect()
    }

    fn template(layout: Layout, inherited: &[(&str, &str)]) -> Template {
        let inherited = inherited.iter().map(|(name, value)| {
            let entry = CString::new(format!("{name}={value}")).unwrap();
            Variable::of(Box::leak(entry.into_boxed_c_str())).unwrap()
        });
        Template::new(
            inherited,
            "IPC".into(),
            Channels {
                layout,
                notify: false,
                pidfd: false,
            },
        )
    }

    fn peer() -> Peer {
        Peer {
            uid: Some(1000),
            gid: Some(100),
            pid: Some(42),
            groups: vec![4, 27],
        }
    }

    #[test]
    fn the_connection_s_variables_are_as_the_contract_has_them() {
        let mut block = block_of(
            &template(Layout::Ucspi, &[("PATH", "/bin")]),
            &peer(),
            b"",
            &[],
        );
        block.sort();
        let expected = [
            "IPCCONNNUM=3",
            "IPCLOCALPATH=/run/x",
            "IPCREMOTEEGID=100",
            "IPCREMOTEEUID=1000",
            "IPCREMOTEGROUPS=100,4,27",
            "IPCREMOTEPATH=",
            "IPCREMOTEPID=42",
            "PATH=/bin",
            "PROTO=IPC",
        ];
        assert_eq!(block, expected);
    }

    #[test]
    fn what_doorward_manages_is_never_inherited() {
        let inherited = [
            ("IPCREMOTEEUID", "0"),
            ("NOTIFY_SOCKET", "/x"),
            ("LISTEN_FDS", "1"),
            ("HANDOFF_FDS", "x"),
            ("REMOTE_ADDR", "x"),
            ("A", "b"),
        ];
        let block = block_of(
            &template(Layout::Ucspi, &inherited),
            &Peer::default(),
            b"",
            &[],
        );
        for name in [
            "IPCREMOTEEUID=",
            "NOTIFY_SOCKET=",
            "LISTEN_FDS=",
            "HANDOFF",
            "REMOTE_ADDR=",
            "IPCREMOTEPID=",
        ] {
            assert!(
                !block.iter().any(|entry| entry.starts_with(name)),
                "{name} in {block:?}"
            );
        }
        assert!(block.contains(&"A=b".to_owned()));
    }

    #[test]
    fn a_bound_peer_is_named_and_odd_bytes_of_abstract_names_are_escaped() {
        let block = block_of(
            &template(Layout::Ucspi, &[]),
            &peer(),
            b"/tmp/c\nx\0junk",
            &[],
        );
        assert!(
            block.contains(&"IPCREMOTEPATH=/tmp/c\nx".to_owned())
                && block.contains(&"REMOTE_ADDR=/tmp/c\nx".to_owned())
        );
        let block = block_of(&template(Layout::Ucspi, &[]), &peer(), b"\0name\n\0", &[]);
        assert!(
            block.contains(&"IPCREMOTEPATH=".to_owned())
                && block.contains(&"REMOTE_ADDR=@name\\x0a\\x00".to_owned())
        );
    }

    #[test]
    fn a_rule_changes_all_but_what_is_beyond_rules() {
        let set =
            |name: &str, value: &str| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let rule = [
            set("PATH", "/rule"),
            set("PROTO", "EVIL"),
            (b"IPCCONNNUM".to_vec(), None),
            set("IPCLOCALPATH", "/evil"),
            set("LISTEN_FDS", "9"),
            set("NOTIFYFD", "9"),
            set("HANDOFF_FDS", "9"),
        ];
        let block = block_of(
            &template(Layout::Systemd, &[("PATH", "/bin")]),
            &peer(),
            b"",
            &rule,
        );
        let count = |start: &str| {
            block
                .iter()
                .filter(|entry| entry.starts_with(start))
                .count()
        };
        assert_eq!(
            (
                count("PATH="),
                count("PATH=/rule"),
                count("PROTO=EVIL"),
                count("PROTO=IPC")
            ),
            (1, 1, 1, 0)
        );
        assert_eq!(
            (
                count("IPCCONNNUM"),
                count("IPCLOCALPATH=/run/x"),
                count("IPCLOCALPATH="),
                count("LISTEN_FDS=")
            ),
            (0, 1, 1, 1)
        );
        assert_eq!(
            (
                count("LISTEN_FDS=1"),
                count("NOTIFYFD"),
                count("HANDOFF"),
                count("LISTEN_PID=")
            ),
            (1, 0, 0, 1)
        );
    }

    #[test]
    fn what_rules_have_touched_is_said_and_no_rule_says_it() {
        let rule = [
            (b"ROLE".to_vec(), Some(b"".to_vec())),
            (b"GONE".to_vec(), None),
            (RULE_NAMES.as_bytes().to_vec(), None),
        ];
        let said = |inherited: &[(&str, &str)], rule: &[(Vec<u8>, Option<Vec<u8>>)]| {
            let mut block = block_of(&template(Layout::Ucspi, inherited), &peer(), b"", rule);
            block.retain(|entry| entry.starts_with(RULE_NAMES));
            block
        };
        assert_eq!(said(&[], &[]), [""; 0]);
        assert_eq!(said(&[], &rule), ["DOORWARD_RULE_NAMES=ROLE=GONE"]);
        let outer = [(RULE_NAMES, "OUTER")];
        assert_eq!(said(&outer, &rule), ["DOORWARD_RULE_NAMES=OUTER=ROLE=GONE"]);
        assert_eq!(said(&outer, &[]), ["DOORWARD_RULE_NAMES=OUTER"]);
    }

    #[test]
    fn too_many_groups_are_left_out_and_it_is_said() {
        let groups = (1_000_000..1_002_000).collect();
        let block = block_of(
            &template(Layout::Ucspi, &[]),
            &Peer { groups, ..peer() },
            b"",
            &[],
        );
        assert!(block.contains(&"IPCREMOTEGROUPS_TRUNCATED=1".to_owned()));
        assert!(
            !block
                .iter()
                .any(|entry| entry.starts_with("IPCREMOTEGROUPS="))
        );
    }

    #[test]
    fn what_is_passed_on_keeps_its_order_and_is_not_made_one() {
        let inherited = [("B", "1"), ("A", "2"), ("B", "3"), ("=C:", "=d")];
        let inherited = template(Layout::Ucspi, &inherited);
        let passed = |rule: &[(Vec<u8>, Option<Vec<u8>>)]| {
            let mut block = block_of(&inherited, &Peer::default(), b"", rule);
            block.retain(|entry| {
                ["A=", "B=", "=C"]
                    .iter()
                    .any(|name| entry.starts_with(name))
            });
            block
        };
        assert_eq!(passed(&[]), ["B=1", "A=2", "B=3", "=C:==d"]);
        let set = (b"B".to_vec(), Some(b"4".to_vec()));
        assert_eq!(passed(&[set]), ["A=2", "=C:==d", "B=4"]);
        let gone = (b"B".to_vec(), None);
        assert_eq!(passed(&[gone]), ["A=2", "=C:==d"]);
        let empty = block_of(&template(Layout::Ucspi, &[]), &Peer::default(), b"", &[]);
        assert_eq!(empty.first().map(String::as_str), Some("PROTO=IPC"));
    }

    #[test]
    fn a_program_that_this_process_becomes_has_its_pid() {
        let peer = peer();
        let admitted = Admitted {
            connection: std::fs::File::open("/dev/null").unwrap().into(),
            peer: &peer,
            peer_name: b"",
            local_path: OsStr::new("/run/x"),
            number: None,
            slots: 1,
            rule_env: &[],
            exec: None,
        };
        let block = template(Layout::Systemd, &[("A", "b")]).in_place(&admitted);
        let pid = format!("LISTEN_PID={}\0", std::process::id());
        assert_eq!(block.iter().next(), Some(&b"A=b"[..]));
        assert!(
            block
                .all()
                .windows(pid.len())
                .any(|at| at == pid.as_bytes())
        );
    }

    #[test]
    fn numbers_are_decimal() {
        let mut digits = Digits::default();
        assert_eq!(digits.of(0), b"0");
        assert_eq!(digits.of(4_294_967_295), b"4294967295");
    }
}

//! The payload of a message, as a value: bytes in, names and variables out. docs/PROTOCOL.md.
#![forbid(unsafe_code)]

use super::error::Error;
use crate::sys::cvec::first_zero;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

/// The largest payload, in bytes.
pub(super) const LARGEST: usize = 16 * 1024;

/// What the rules and doorward say of a connection: variables to set, and variables to unset.
///
/// The same that a child of `doorward spawn` finds in its environment (`PROTO`, `IPCREMOTEEUID`, `IPCLOCALPATH`, ...), less what this
/// process had before. Who the peer is, take from [`Peer`](super::Peer): it was read from the connection.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// As they came: `NAME=VALUE` or `NAME`, each ended by a zero byte. One piece of memory for all, since most are never asked for.
    text: Vec<u8>,
}

impl Environment {
    /// The value of `name`; `None` if it is unset or was not named.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, value)| value)
    }

    /// Every name, once, in the order of the message; `None` means that the variable is to be unset.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        entries(&self.text).map(|entry| {
            let (name, value) = name_and_value(entry);
            (OsStr::from_bytes(name), value.map(OsStr::from_bytes))
        })
    }

    /// Sets and unsets the variables for a command that this backend starts on behalf of the connection.
    pub fn apply(&self, command: &mut Command) {
        for (name, value) in self.iter() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

/// One payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// What the descriptors are, in their order, with colons between; none twice.
    pub(super) names: &'a [u8],
    pub(super) env: Environment,
}

/// Takes a payload apart.
///
/// # Errors
/// `Malformed`.
pub(super) fn parse(payload: &[u8]) -> Result<Message<'_>, Error> {
    if payload.len() > LARGEST {
        return Err(Error::Truncated);
    }
    if payload.last() != Some(&0) {
        return Err(Error::Malformed("it does not end in a zero byte"));
    }
    let rest = payload
        .strip_prefix(b"HANDOFF=1\0")
        .ok_or(Error::Malformed("HANDOFF=1 does not come first"))?;
    let mut rest = entries(rest);
    let names = rest
        .next()
        .and_then(|entry| entry.strip_prefix(b"HANDOFF_FDS="))
        .ok_or(Error::Malformed("HANDOFF_FDS does not come second"))?;
    if !are_names(&mut names.split(|&byte| byte == b':').collect::<Vec<_>>()) {
        return Err(Error::Malformed("a descriptor's name is empty or repeated"));
    }
    let variables = rest.text;
    let mut known = Vec::with_capacity(16);
    known.extend(entries(variables).map(|entry| name_and_value(entry).0));
    if !are_names(&mut known) {
        return Err(Error::Malformed("a variable's name is empty or repeated"));
    }
    let mut text = variables.to_vec();
    // What a later doorward says to backends is no part of the connection's environment.
    if known.iter().any(|name| name.starts_with(b"HANDOFF")) {
        text.clear();
        for entry in entries(variables).filter(|entry| !entry.starts_with(b"HANDOFF")) {
            text.extend_from_slice(entry);
            text.push(0);
        }
    }
    Ok(Message {
        names,
        env: Environment { text },
    })
}

/// The entries of a text in which each is ended by a zero byte.
fn entries(text: &[u8]) -> Entries<'_> {
    Entries { text }
}

struct Entries<'a> {
    text: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (entry, rest) = self.text.split_at_checked(first_zero(self.text)?)?;
        self.text = rest.get(1..).unwrap_or_default();
        Some(entry)
    }
}

/// `NAME=VALUE`, or `NAME` alone.
fn name_and_value(entry: &[u8]) -> (&[u8], Option<&[u8]>) {
    match entry.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let (name, rest) = entry.split_at(at);
            (name, rest.get(1..))
        }
        None => (entry, None),
    }
}

/// Whether none of `names` is empty, and none there twice; they are put in another order.
fn are_names(names: &mut [&[u8]]) -> bool {
    // By length first, which is at hand: an empty one is the first then, and equal ones are neighbours.
    names.sort_unstable_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
    names.first().is_none_or(|name| !name.is_empty())
        && names.windows(2).all(|two| two.first() != two.last())
}

/// The effective uid and gid that the payload claims; `None` where it names none, as for an unmapped peer.
///
/// # Errors
/// `Malformed`: no PROTO, or an id that is no number.
pub(super) fn claimed(env: &Environment) -> Result<(Option<u32>, Option<u32>), Error> {
    let proto = env.get("PROTO").ok_or(Error::Malformed("no PROTO"))?;
    let (mut uid, mut gid) = (None, None);
    for (name, value) in env.iter() {
        match name.as_bytes().strip_prefix(proto.as_bytes()) {
            Some(b"REMOTEEUID") => uid = value.map(number).transpose()?,
            Some(b"REMOTEEGID") => gid = value.map(number).transpose()?,
            _ => {}
        }
    }
    Ok((uid, gid))
}

/// Digits and nothing else.
fn number(text: &OsStr) -> Result<u32, Error> {
    let bytes = text.as_bytes();
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    text.to_str()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or(Error::Malformed("an id is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed(payload: &[u8]) {
        let result = parse(payload);
        assert!(
            matches!(result, Err(Error::Malformed(_))),
            "{:?}: {result:?}",
            payload.escape_ascii().to_string()
        );
    }

    #[test]
    fn a_whole_payload_gives_names_and_variables_in_order() {
        let message =
            parse(b"HANDOFF=1\0HANDOFF_FDS=connection:lease\0PROTO=IPC\0A=b=c\0B\0C=\0").unwrap();
        assert_eq!(message.names, b"connection:lease");
        assert_eq!(message.env.get("A"), Some(OsStr::new("b=c")));
        assert_eq!(message.env.get("B"), None);
        assert_eq!(message.env.get("C"), Some(OsStr::new("")));
        let names: Vec<_> = message.env.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PROTO", "A", "B", "C"]);
    }

    #[test]
    fn what_is_not_the_protocol_is_malformed() {
        for payload in [
            &b""[..],
            b"\0",
            b"HANDOFF=1",
            b"HANDOFF=1\0",
            b"HANDOFF=2\0HANDOFF_FDS=connection\0",
            b"HANDOFF_FDS=connection\0HANDOFF=1\0",
            b"PROTO=IPC\0HANDOFF=1\0HANDOFF_FDS=connection\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection",
            b"HANDOFF=1\0HANDOFF_FDS\0",
            b"HANDOFF=1\0HANDOFF_FDS=\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection:\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection:connection\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection\0A=1\0A=2\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection\0A=1\0A\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection\0=x\0",
            b"HANDOFF=1\0HANDOFF_FDS=connection\0\0",
            b"\xff\xfe\x00\x01 garbage\0",
        ] {
            malformed(payload);
        }
    }

    #[test]
    fn every_prefix_of_a_payload_is_malformed_or_a_shorter_whole_one() {
        let whole = b"HANDOFF=1\0HANDOFF_FDS=connection\0PROTO=IPC\0X=1\0";
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert_eq!(parse(cut).is_ok(), length > 32 && cut.ends_with(b"\0"));
        }
    }

    #[test]
    fn a_payload_beyond_the_limit_is_truncated_and_one_at_the_limit_is_not() {
        let mut payload = b"HANDOFF=1\0HANDOFF_FDS=connection\0A=".to_vec();
        payload.resize(LARGEST - 1, b'x');
        payload.push(0);
        assert!(parse(&payload).is_ok());
        payload.insert(LARGEST - 1, b'x');
        assert!(matches!(parse(&payload), Err(Error::Truncated)));
    }

    #[test]
    fn words_of_a_later_protocol_are_no_variables() {
        let message = parse(b"HANDOFF=1\0HANDOFF_FDS=connection\0HANDOFF_LATER=1\0X=1\0").unwrap();
        assert_eq!(message.env.iter().count(), 1);
    }

    #[test]
    fn the_claim_follows_the_prefix_and_must_be_a_number() {
        let env = |text: &str| {
            let payload = format!("HANDOFF=1\0HANDOFF_FDS=connection\0{text}");
            parse(payload.as_bytes()).unwrap().env
        };
        let both = env("PROTO=UNIX\0UNIXREMOTEEUID=7\0UNIXREMOTEEGID=8\0IPCREMOTEEUID=9\0");
        assert_eq!(claimed(&both).unwrap(), (Some(7), Some(8)));
        assert_eq!(claimed(&env("PROTO=IPC\0")).unwrap(), (None, None));
        for odd in ["+7", "-1", "", "7 ", "4294967296", "seven"] {
            let odd = env(&format!("PROTO=IPC\0IPCREMOTEEUID={odd}\0"));
            assert!(matches!(claimed(&odd), Err(Error::Malformed(_))));
        }
        assert!(matches!(claimed(&env("A=1\0")), Err(Error::Malformed(_))));
    }

    #[test]
    fn the_example_of_the_protocol_page_is_a_message() {
        let page = include_str!("../../docs/PROTOCOL.md");
        let hex = |line: &str| -> Option<Vec<u8>> {
            let (offset, rest) = line.split_once("  ")?;
            u16::from_str_radix(offset, 16).ok()?;
            let bytes = rest.get(..47).unwrap_or(rest).split_whitespace();
            bytes
                .take(16)
                .map(|byte| u8::from_str_radix(byte, 16).ok())
                .collect()
        };
        let payload: Vec<u8> = page.lines().filter_map(hex).flatten().collect();
        assert_eq!(payload.len(), 218);
        let message = parse(&payload).unwrap();
        assert_eq!(message.names, b"connection:notify:notify-peer:lease");
        assert_eq!(claimed(&message.env).unwrap(), (Some(1000), Some(1000)));
        assert_eq!(message.env.get("COLOUR"), Some(OsStr::new("red")));
        let last = message.env.iter().last().unwrap();
        assert_eq!(
            last,
            (OsStr::new("IPCLOCALPATH"), Some(OsStr::new("/run/x")))
        );
    }
}

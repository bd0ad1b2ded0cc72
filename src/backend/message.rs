//! The payload of a message, as a value: bytes in, names and variables out. docs/PROTOCOL.md.
#![forbid(unsafe_code)]

use super::error::Error;
use crate::sys::cvec::first;
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
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// What the descriptors are, in their order; none twice.
    pub(super) names: Vec<&'a [u8]>,
    /// `NAME` with its value, or `NAME` alone, in their order; no name twice.
    variables: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// The same as they came, without the first two entries.
    text: &'a [u8],
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
    let descriptors = rest
        .next()
        .and_then(|entry| entry.strip_prefix(b"HANDOFF_FDS="))
        .ok_or(Error::Malformed("HANDOFF_FDS does not come second"))?;
    let mut names = Vec::with_capacity(8);
    names.extend(descriptors.split(|&byte| byte == b':'));
    if !are_names(names.iter().copied()) {
        return Err(Error::Malformed("a descriptor's name is empty or repeated"));
    }
    let text = rest.text;
    let mut variables = Vec::with_capacity(16);
    variables.extend(rest.map(name_and_value));
    if !are_names(variables.iter().map(|&(name, _)| name)) {
        return Err(Error::Malformed("a variable's name is empty or repeated"));
    }
    Ok(Message {
        names,
        variables,
        text,
    })
}

impl Message<'_> {
    /// What is said of the connection. What a later doorward says to backends is no part of that.
    pub(super) fn env(&self) -> Environment {
        let is_later = |entry: &[u8]| entry.starts_with(b"HANDOFF");
        let mut text = self.text.to_vec();
        if self.variables.iter().any(|(name, _)| is_later(name)) {
            text.clear();
            for entry in entries(self.text).filter(|entry| !is_later(entry)) {
                text.extend_from_slice(entry);
                text.push(0);
            }
        }
        Environment { text }
    }

    /// The effective uid and gid that the payload claims; `None` where it names none, as for an unmapped peer.
    ///
    /// # Errors
    /// `Malformed`: no PROTO, or an id that is no number.
    pub(super) fn claimed(&self) -> Result<(Option<u32>, Option<u32>), Error> {
        let proto = self.variables.iter().find(|(name, _)| *name == b"PROTO");
        let proto = proto
            .and_then(|&(_, proto)| proto)
            .ok_or(Error::Malformed("no PROTO"))?;
        let claim = |rest: &[u8]| {
            let is_it = |name: &[u8]| {
                // Its length tells most others apart.
                name.len() == proto.len() + rest.len()
                    && name.ends_with(rest)
                    && name.starts_with(proto)
            };
            let found = self.variables.iter().find(|(name, _)| is_it(name));
            found.and_then(|&(_, id)| id).map(number).transpose()
        };
        Ok((claim(b"REMOTEEUID")?, claim(b"REMOTEEGID")?))
    }
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
        let (entry, rest) = self.text.split_at_checked(first(0, self.text)?)?;
        self.text = rest.get(1..).unwrap_or_default();
        Some(entry)
    }
}

/// `NAME=VALUE`, or `NAME` alone.
fn name_and_value(entry: &[u8]) -> (&[u8], Option<&[u8]>) {
    match first(b'=', entry) {
        Some(at) => {
            let (name, rest) = entry.split_at(at);
            (name, rest.get(1..))
        }
        None => (entry, None),
    }
}

/// Above this many names it is worth to put them in order.
const A_FEW: usize = 32;

/// Whether none of `names` is empty, and none there twice.
fn are_names<'a>(names: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> bool {
    if names.len() > A_FEW {
        let mut sorted: Vec<_> = names.collect();
        sorted.sort_unstable();
        return sorted.first().is_some_and(|name| !name.is_empty())
            && sorted.windows(2).all(|two| two.first() != two.last());
    }
    // Most differ in their lengths, which are at hand.
    names.clone().enumerate().all(|(index, name)| {
        !name.is_empty() && names.clone().take(index).all(|earlier| earlier != name)
    })
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Result<u32, Error> {
    let digit = |byte: &u8| char::from(*byte).to_digit(10);
    let value = text.iter().try_fold(0u32, |value, byte| {
        value.checked_mul(10)?.checked_add(digit(byte)?)
    });
    value
        .filter(|_| !text.is_empty())
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
        assert_eq!(message.names, [&b"connection"[..], b"lease"]);
        let env = message.env();
        assert_eq!(env.get("A"), Some(OsStr::new("b=c")));
        assert_eq!(env.get("B"), None);
        assert_eq!(env.get("C"), Some(OsStr::new("")));
        let names: Vec<_> = env.iter().map(|(name, _)| name).collect();
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
    fn a_name_among_many_may_be_there_once_only() {
        let mut payload = b"HANDOFF=1\0HANDOFF_FDS=connection\0".to_vec();
        for index in 0..2 * A_FEW {
            payload.extend_from_slice(format!("A{index}={index}\0").as_bytes());
        }
        assert_eq!(parse(&payload).unwrap().env().iter().count(), 2 * A_FEW);
        payload.extend_from_slice(b"A1\0");
        malformed(&payload);
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
        assert_eq!(message.env().iter().count(), 1);
    }

    #[test]
    fn the_claim_follows_the_prefix_and_must_be_a_number() {
        let claimed = |text: &str| {
            let payload = format!("HANDOFF=1\0HANDOFF_FDS=connection\0{text}");
            parse(payload.as_bytes()).unwrap().claimed()
        };
        let both = "PROTO=UNIX\0UNIXREMOTEEUID=7\0UNIXREMOTEEGID=8\0IPCREMOTEEUID=9\0";
        assert_eq!(claimed(both).unwrap(), (Some(7), Some(8)));
        assert_eq!(claimed("PROTO=IPC\0").unwrap(), (None, None));
        let largest = claimed("PROTO=IPC\0IPCREMOTEEUID=4294967295\0");
        assert_eq!(largest.unwrap(), (Some(u32::MAX), None));
        for odd in ["+7", "-1", "", "7 ", "4294967296", "seven"] {
            let odd = claimed(&format!("PROTO=IPC\0IPCREMOTEEUID={odd}\0"));
            assert!(matches!(odd, Err(Error::Malformed(_))));
        }
        assert!(matches!(claimed("A=1\0"), Err(Error::Malformed(_))));
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
        assert_eq!(
            message.names,
            [&b"connection"[..], b"notify", b"notify-peer", b"lease"]
        );
        assert_eq!(message.claimed().unwrap(), (Some(1000), Some(1000)));
        let env = message.env();
        assert_eq!(env.get("COLOUR"), Some(OsStr::new("red")));
        let last = env.iter().last().unwrap();
        assert_eq!(
            last,
            (OsStr::new("IPCLOCALPATH"), Some(OsStr::new("/run/x")))
        );
    }
}

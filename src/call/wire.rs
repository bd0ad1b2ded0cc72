//! The request of `call`, to the byte: docs/CALL.md. Bytes in, a request or an error out; nothing here touches a descriptor.
#![forbid(unsafe_code)]

use crate::sys::terminal::Size;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt as _;

/// The first thing on the connection, from either side; the number is the version.
pub(super) const BANNER: &[u8; 16] = b"doorward-call 1\n";
/// The banner, then count and bytes of each of the three lists.
pub(super) const HEADER: usize = BANNER.len() + 6 * 4;
/// A whole request: more than execve takes unless its stack's limit is raised.
pub(super) const LARGEST: usize = 4 * 1024 * 1024;
/// Entries of the arguments, and of the environment.
pub(super) const MOST_ENTRIES: u32 = 65_536;
/// Entries of the settings, of which there are two.
const MOST_SETTINGS: u32 = 16;
/// Descriptors that come with a request.
pub(super) const MOST_DESCRIPTORS: usize = 4;

const DESCRIPTORS: &[u8] = b"DESCRIPTORS=";
const DETACH: &[u8] = b"DETACH=1";
const TERMINAL: &[u8] = b"TERMINAL=";

/// What a descriptor is for. The order is that of the list `DESCRIPTORS` and of the descriptors themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Role {
    Stdin,
    Stdout,
    Stderr,
    /// The directory to run the program in.
    Directory,
}

impl Role {
    pub(super) const ALL: [Role; MOST_DESCRIPTORS] =
        [Role::Stdin, Role::Stdout, Role::Stderr, Role::Directory];

    fn word(self) -> &'static str {
        match self {
            Role::Stdin => "stdin",
            Role::Stdout => "stdout",
            Role::Stderr => "stderr",
            Role::Directory => "directory",
        }
    }
}

/// What a caller asks for; the text is borrowed from the message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Request<'a> {
    /// One descriptor comes with the message for each.
    pub(super) roles: Vec<Role>,
    /// The program is to outlive its caller.
    pub(super) detach: bool,
    /// A terminal of the program's own, with this window, for those of 0, 1 and 2 that have no descriptor.
    pub(super) terminal: Option<Size>,
    pub(super) arguments: Vec<&'a OsStr>,
    /// Each `NAME=VALUE`, as it came.
    pub(super) environment: Vec<&'a OsStr>,
}

/// How far a request has come.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Parsed<'a> {
    /// So many bytes are missing at least, and it ends no sooner.
    Missing(usize),
    Whole(Request<'a>),
}

/// Why bytes are no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Malformed {
    Banner,
    TooLarge,
    Lengths,
    Settings,
    Variable,
}

impl Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Malformed::Banner => "it does not begin with the banner of this version",
            Malformed::TooLarge => "it is too large",
            Malformed::Lengths => "its lengths do not add up",
            Malformed::Settings => "it has a setting that is not known",
            Malformed::Variable => "a variable has no name",
        })
    }
}

/// Reads a request, or says how much of it is missing. A claimed length is believed only as far as bytes have come.
pub(super) fn parse(message: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((header, body)) = message.split_at_checked(HEADER) else {
        return Ok(Parsed::Missing(HEADER - message.len()));
    };
    let (banner, numbers) = header.split_at(BANNER.len());
    if banner != BANNER {
        return Err(Malformed::Banner);
    }
    let mut numbers = numbers.as_chunks::<4>().0.iter();
    let mut next = || numbers.next().copied().map_or(0, u32::from_be_bytes);
    let lists = [
        (MOST_SETTINGS, next(), next()),
        (MOST_ENTRIES, next(), next()),
        (MOST_ENTRIES, next(), next()),
    ];
    let mut total = 0usize;
    for (most, count, bytes) in lists {
        total = total.saturating_add(bytes as usize);
        if count > most || total > LARGEST - HEADER {
            return Err(Malformed::TooLarge);
        }
        // Each entry has its final zero byte at least.
        if count > bytes || (count == 0 && bytes > 0) {
            return Err(Malformed::Lengths);
        }
    }
    match total.checked_sub(body.len()) {
        Some(0) => {}
        Some(missing) => return Ok(Parsed::Missing(missing)),
        None => return Err(Malformed::Lengths),
    }
    let [
        (_, settings, settings_bytes),
        (_, arguments, arguments_bytes),
        (_, variables, _),
    ] = lists;
    let cut = |bytes: &'_ [u8], at: u32| bytes.len().min(at as usize);
    let (settings_part, rest) = body.split_at(cut(body, settings_bytes));
    let (arguments_part, environment_part) = rest.split_at(cut(rest, arguments_bytes));
    let (roles, detach, terminal) = read_settings(&entries(settings_part, settings)?)?;
    let arguments = entries(arguments_part, arguments)?;
    let environment = entries(environment_part, variables)?;
    if environment.iter().any(|entry| name_of(entry).is_none()) {
        return Err(Malformed::Variable);
    }
    Ok(Parsed::Whole(Request {
        roles,
        detach,
        terminal,
        arguments,
        environment,
    }))
}

/// The name of a variable; `None` where the entry has none.
pub(super) fn name_of(entry: &OsStr) -> Option<&[u8]> {
    let bytes = entry.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b'=')?;
    bytes.get(..end).filter(|name| !name.is_empty())
}

/// Exactly `count` entries, each with a zero byte at its end and nowhere else.
pub(super) fn entries(part: &[u8], count: u32) -> Result<Vec<&OsStr>, Malformed> {
    let Some(rest) = part.strip_suffix(b"\0") else {
        return if part.is_empty() && count == 0 {
            Ok(Vec::new())
        } else {
            Err(Malformed::Lengths)
        };
    };
    let entries: Vec<&OsStr> = rest
        .split(|&byte| byte == 0)
        .map(OsStr::from_bytes)
        .collect();
    if entries.len() == count as usize {
        Ok(entries)
    } else {
        Err(Malformed::Lengths)
    }
}

/// The settings stand in one order, so that a request can be written in one way only.
fn read_settings(entries: &[&OsStr]) -> Result<(Vec<Role>, bool, Option<Size>), Malformed> {
    let mut entries = entries.iter().map(|entry| entry.as_bytes()).peekable();
    let names = entries
        .next()
        .and_then(|entry| entry.strip_prefix(DESCRIPTORS))
        .ok_or(Malformed::Settings)?;
    let mut roles = Vec::new();
    for name in names
        .split(|&byte| byte == b':')
        .filter(|_| !names.is_empty())
    {
        let role = Role::ALL
            .into_iter()
            .find(|role| role.word().as_bytes() == name)
            .filter(|role| roles.last().is_none_or(|last| last < role))
            .ok_or(Malformed::Settings)?;
        roles.push(role);
    }
    let detach = entries.next_if_eq(&DETACH).is_some();
    let terminal = match entries.next() {
        None => None,
        Some(entry) => Some(read_terminal(entry).ok_or(Malformed::Settings)?),
    };
    match entries.next() {
        None => Ok((roles, detach, terminal)),
        Some(_) => Err(Malformed::Settings),
    }
}

/// `TERMINAL=ROWSxCOLUMNS`, each as it is written below.
fn read_terminal(entry: &[u8]) -> Option<Size> {
    let text = std::str::from_utf8(entry.strip_prefix(TERMINAL)?).ok()?;
    let (rows, columns) = text.split_once('x')?;
    let size = Size {
        rows: rows.parse().ok()?,
        columns: columns.parse().ok()?,
    };
    (terminal_setting(size) == entry).then_some(size)
}

fn terminal_setting(size: Size) -> Vec<u8> {
    let Size { rows, columns } = size;
    [TERMINAL, format!("{rows}x{columns}").as_bytes()].concat()
}

/// The bytes of a request.
///
/// # Errors
/// `TooLarge`, before anything is sent. An entry with a zero byte, which no program can have been given, is `Lengths`.
pub(super) fn encode(request: &Request<'_>) -> Result<Vec<u8>, Malformed> {
    let words: Vec<&str> = request.roles.iter().map(|role| role.word()).collect();
    let descriptors = [DESCRIPTORS, words.join(":").as_bytes()].concat();
    let mut settings = vec![OsStr::from_bytes(&descriptors)];
    if request.detach {
        settings.push(OsStr::from_bytes(DETACH));
    }
    let terminal = request.terminal.map(terminal_setting);
    settings.extend(terminal.as_deref().map(OsStr::from_bytes));
    let mut message = BANNER.to_vec();
    let mut body = Vec::new();
    for list in [&settings, &request.arguments, &request.environment] {
        let count = u32::try_from(list.len()).map_err(|_| Malformed::TooLarge)?;
        let bytes = append(&mut body, list)?;
        message.extend(count.to_be_bytes());
        message.extend(bytes.to_be_bytes());
    }
    message.append(&mut body);
    match parse(&message)? {
        Parsed::Whole(_) => Ok(message),
        Parsed::Missing(_) => Err(Malformed::Lengths),
    }
}

/// Appends a list's entries with their zero bytes; gives how many bytes these are.
pub(super) fn append(body: &mut Vec<u8>, list: &[&OsStr]) -> Result<u32, Malformed> {
    let before = body.len();
    for entry in list {
        body.extend_from_slice(entry.as_bytes());
        body.push(0);
    }
    u32::try_from(body.len() - before).map_err(|_| Malformed::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(arguments: &[&'a str], environment: &[&'a str]) -> Request<'a> {
        Request {
            roles: Role::ALL.to_vec(),
            detach: true,
            terminal: Some(Size {
                rows: 24,
                columns: 80,
            }),
            arguments: arguments.iter().copied().map(OsStr::new).collect(),
            environment: environment.iter().copied().map(OsStr::new).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (arguments, environment) in [
            (&[][..], &[][..]),
            (&["", "a\nb", "--", ""][..], &["A=", "B=c=d"][..]),
        ] {
            for roles in [&Role::ALL[..], &Role::ALL[1..2], &[]] {
                let request = Request {
                    roles: roles.to_vec(),
                    ..request(arguments, environment)
                };
                let message = encode(&request).unwrap();
                assert_eq!(parse(&message), Ok(Parsed::Whole(request)));
            }
        }
    }

    #[test]
    fn every_beginning_is_incomplete_and_a_byte_more_is_an_error() {
        let mut message = encode(&request(&["one", "two"], &["A=b"])).unwrap();
        for length in 0..message.len() {
            let Ok(Parsed::Missing(missing)) = parse(&message[..length]) else {
                panic!("{length}");
            };
            assert!(missing > 0 && length + missing <= message.len());
        }
        message.push(0);
        assert_eq!(parse(&message), Err(Malformed::Lengths));
    }

    fn with_number(at: usize, number: u32) -> Vec<u8> {
        let mut message = encode(&request(&["one", "two"], &["A=b"])).unwrap();
        let at = BANNER.len() + 4 * at;
        message[at..at + 4].copy_from_slice(&number.to_be_bytes());
        message
    }

    #[test]
    fn claims_beyond_the_limits_are_refused_by_the_header_alone() {
        for (at, number) in [
            (0, MOST_SETTINGS + 1),
            (1, u32::MAX),
            (2, MOST_ENTRIES + 1),
            (3, LARGEST as u32),
            (4, u32::MAX),
            (5, u32::MAX),
        ] {
            let message = with_number(at, number);
            let refused = parse(&message[..HEADER]);
            assert_eq!(refused, Err(Malformed::TooLarge), "number {at}");
        }
    }

    #[test]
    fn lengths_must_add_up() {
        for (at, number) in [(0, 1), (2, 1), (2, 3), (2, 0), (4, 0), (4, 2), (5, 3)] {
            let message = with_number(at, number);
            assert!(
                matches!(parse(&message), Err(Malformed::Lengths)),
                "number {at} as {number}: {:?}",
                parse(&message)
            );
        }
    }

    #[test]
    fn a_variable_has_a_name_and_settings_are_known() {
        for entry in ["", "=", "=x", "A"] {
            let broken = encode(&request(&[], &[entry]));
            assert_eq!(broken, Err(Malformed::Variable), "{entry:?}");
        }
        let good = encode(&request(&[], &[])).unwrap();
        let text = String::from_utf8(good).unwrap();
        for (from, to) in [
            ("DETACH=1", "DETACH=2"),
            ("stdin:", "stdon:"),
            ("=24x80", "=024x8"),
            ("=24x80", "=+4x80"),
            ("=24x80", "=24x8x"),
            ("=24x80", "=24080"),
            ("=24x80", "=24x8 "),
            ("DESCRIPTORS=", "DESCRIPTEURS"),
            ("stdout:stderr", "stderr:stdout"),
            ("stdin:stdout:stderr", "stdin:stdin:stdin::"),
        ] {
            let broken = text.replace(from, to);
            assert_ne!(broken, text);
            let refused = parse(broken.as_bytes());
            assert_eq!(refused, Err(Malformed::Settings), "{to}");
        }
    }

    #[test]
    fn what_no_execve_could_have_given_is_not_sent() {
        let zero = OsStr::from_bytes(b"a\0b");
        let mut bad = request(&[], &[]);
        bad.arguments.push(zero);
        assert_eq!(encode(&bad), Err(Malformed::Lengths));
        let long = "x".repeat(LARGEST);
        assert_eq!(encode(&request(&[&long], &[])), Err(Malformed::TooLarge));
    }

    /// xorshift64: the same bytes at every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }
    }

    /// Each change is made to a whole request. What still is one must be the one way to write it: nothing is read loosely.
    #[test]
    fn no_change_to_a_request_is_read_as_another_message_than_the_one_that_stands_there() {
        let whole = encode(&request(&["one", "", "two\n"], &["A=b", "PATH=/bin"])).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut read = 0;
        for _ in 0..60_000 {
            let mut message = whole.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(message.len().max(1));
                let byte = random.below(256) as u8;
                match random.below(6) {
                    0 => message.truncate(at),
                    1 => message.insert(at, byte),
                    2 if !message.is_empty() => drop(message.remove(at)),
                    3 if message.len() > HEADER => {
                        message[BANNER.len() + random.below(HEADER - BANNER.len())] = byte % 8;
                    }
                    4 if !message.is_empty() => message[at] ^= 1 << random.below(8),
                    _ => message.extend_from_within(at..),
                }
            }
            match parse(&message) {
                Ok(Parsed::Whole(request)) => {
                    read += 1;
                    assert_eq!(encode(&request).as_ref(), Ok(&message));
                }
                Ok(Parsed::Missing(missing)) => assert!(missing > 0 && missing <= LARGEST),
                Err(_) => {}
            }
        }
        assert!(
            read > 100,
            "changes of text alone are still requests: {read}"
        );
    }
}

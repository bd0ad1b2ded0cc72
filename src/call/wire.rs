//! The request of `call`, to the byte: docs/CALL.md. Bytes in, a request or an error out; nothing here touches a descriptor.
#![forbid(unsafe_code)]

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
/// Entries of the settings, of which there are three.
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
    /// Those of 0, 1 and 2 that are a terminal of the program's own. The caller gets its other end.
    pub(super) terminal: Vec<Role>,
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
    /// Behind the request.
    Words,
}

impl Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Malformed::Banner => "it does not begin with the banner of this version",
            Malformed::TooLarge => "it is too large",
            Malformed::Lengths => "its lengths do not add up",
            Malformed::Settings => "it has a setting that is not known",
            Malformed::Variable => "a variable has no name",
            Malformed::Words => "words that no caller says",
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
    let request = read_settings(&entries(settings_part, settings)?)?;
    let arguments = entries(arguments_part, arguments)?;
    let environment = entries(environment_part, variables)?;
    if environment.iter().any(|entry| name_of(entry).is_none()) {
        return Err(Malformed::Variable);
    }
    Ok(Parsed::Whole(Request {
        arguments,
        environment,
        ..request
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

/// A request with its settings alone. They stand in one order, so that a request can be written in one way only.
fn read_settings<'a>(entries: &[&OsStr]) -> Result<Request<'a>, Malformed> {
    let mut entries = entries.iter().map(|entry| entry.as_bytes()).peekable();
    let names = entries
        .next()
        .and_then(|entry| entry.strip_prefix(DESCRIPTORS))
        .ok_or(Malformed::Settings)?;
    let roles = read_roles(names)?;
    let detach = entries.next_if(|entry| *entry == DETACH).is_some();
    let terminal = match entries.next() {
        None => Vec::new(),
        Some(entry) => {
            let names = entry.strip_prefix(TERMINAL).ok_or(Malformed::Settings)?;
            let terminal = read_roles(names)?;
            let fit = |role: &Role| *role < Role::Directory && !roles.contains(role);
            // It hangs up when the caller dies, so nothing goes on in it.
            if terminal.is_empty() || detach || !terminal.iter().all(fit) {
                return Err(Malformed::Settings);
            }
            terminal
        }
    };
    match entries.next() {
        None => Ok(Request {
            roles,
            detach,
            terminal,
            ..Request::default()
        }),
        Some(_) => Err(Malformed::Settings),
    }
}

fn read_roles(names: &[u8]) -> Result<Vec<Role>, Malformed> {
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
    Ok(roles)
}

fn write_roles(name: &[u8], roles: &[Role]) -> Vec<u8> {
    let words: Vec<&str> = roles.iter().map(|role| role.word()).collect();
    [name, words.join(":").as_bytes()].concat()
}

/// The bytes of a request.
///
/// # Errors
/// `TooLarge`, before anything is sent. An entry with a zero byte, which no program can have been given, is `Lengths`.
pub(super) fn encode(request: &Request<'_>) -> Result<Vec<u8>, Malformed> {
    let descriptors = write_roles(DESCRIPTORS, &request.roles);
    let terminal = write_roles(TERMINAL, &request.terminal);
    let mut settings = vec![OsStr::from_bytes(&descriptors)];
    if request.detach {
        settings.push(OsStr::from_bytes(DETACH));
    }
    if !request.terminal.is_empty() {
        settings.push(OsStr::from_bytes(&terminal));
    }
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
            terminal: Vec::new(),
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

    /// `DESCRIPTORS=directory` and a terminal for 0 to 2.
    fn in_a_terminal<'a>() -> Request<'a> {
        Request {
            roles: Role::ALL[3..].to_vec(),
            detach: false,
            terminal: Role::ALL[..3].to_vec(),
            ..request(&["one", "", "two\n"], &["A=b", "PATH=/bin"])
        }
    }

    #[test]
    fn a_terminal_stands_in_for_what_is_not_sent_and_for_nothing_else() {
        let good = encode(&in_a_terminal()).unwrap();
        assert_eq!(parse(&good), Ok(Parsed::Whole(in_a_terminal())));
        type Change = fn(&mut Request<'_>);
        let changes: [Change; 3] = [
            |request| request.detach = true,
            |request| request.terminal = vec![Role::Directory],
            |request| request.roles = vec![Role::Stdout],
        ];
        for change in changes {
            let mut request = in_a_terminal();
            change(&mut request);
            assert_eq!(encode(&request), Err(Malformed::Settings), "{request:?}");
        }
        let text = String::from_utf8(good).unwrap();
        for (from, to) in [
            ("TERMINAL=", "TERMINUS="),
            ("stdin:stdout", "stdout:stdin"),
            ("stdin:stdout:stderr", "stderr:stderr:stdin"),
        ] {
            let broken = text.replace(from, to);
            assert_ne!(broken, text);
            let refused = parse(broken.as_bytes());
            assert_eq!(refused, Err(Malformed::Settings), "{to}");
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
        let detached = request(&["one", "", "two\n"], &["A=b", "PATH=/bin"]);
        let wholes = [detached, in_a_terminal()].map(|request| encode(&request).unwrap());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut read = 0;
        for round in 0..60_000 {
            let mut message = wholes[round % 2].clone();
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

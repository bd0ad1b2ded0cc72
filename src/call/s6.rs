//! The messages of s6-sudoc and s6-sudod, to the byte. All numbers are big-endian.
#![forbid(unsafe_code)]

use super::wire::{
    LARGEST, MOST_ENTRIES, Malformed, Parsed, Request, Role, append, entries, name_of,
};
use crate::sys::wait::End;

/// From the server, first of all.
pub(super) const SERVER_BANNER: &[u8; 15] = b"s6-sudo b v1.0\n";
/// Begins the body of the request.
const CLIENT_BANNER: &[u8; 15] = b"s6-sudo a v1.0\n";
/// The length of what follows, and the number of descriptors.
const FRAME: usize = 4 + 2;
/// The banner and four numbers.
const HEADER: usize = CLIENT_BANNER.len() + 4 * 4;

/// Its descriptors are always these, and unnamed.
pub(super) const ROLES: [Role; 3] = [Role::Stdin, Role::Stdout, Role::Stderr];

/// Reads a request, or says how much of it is missing.
pub(super) fn parse(message: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((frame, rest)) = message.split_at_checked(FRAME) else {
        return Ok(Parsed::Missing(FRAME - message.len()));
    };
    let (length, descriptors) = frame.split_at(4);
    let length = number(length) as usize;
    if length > LARGEST {
        return Err(Malformed::TooLarge);
    }
    if length < HEADER || descriptors != [0, 3] {
        return Err(Malformed::Lengths);
    }
    let Some((header, body)) = rest.split_at_checked(HEADER) else {
        return Ok(Parsed::Missing(HEADER - rest.len()));
    };
    let (banner, numbers) = header.split_at(CLIENT_BANNER.len());
    if banner != CLIENT_BANNER {
        return Err(Malformed::Banner);
    }
    let mut numbers = numbers.as_chunks::<4>().0.iter();
    let mut next = || numbers.next().copied().map_or(0, u32::from_be_bytes);
    let (arguments, variables) = (next(), next());
    let (arguments_bytes, variables_bytes) = (next() as usize, next() as usize);
    if arguments > MOST_ENTRIES || variables > MOST_ENTRIES {
        return Err(Malformed::TooLarge);
    }
    if arguments_bytes.saturating_add(variables_bytes) != length - HEADER {
        return Err(Malformed::Lengths);
    }
    match (length - HEADER).checked_sub(body.len()) {
        Some(0) => {}
        Some(missing) => return Ok(Parsed::Missing(missing)),
        None => return Err(Malformed::Lengths),
    }
    let (arguments_part, environment_part) = body.split_at(body.len().min(arguments_bytes));
    let environment = entries(environment_part, variables)?;
    if environment.iter().any(|entry| name_of(entry).is_none()) {
        return Err(Malformed::Variable);
    }
    Ok(Parsed::Whole(Request {
        roles: ROLES.to_vec(),
        detach: false,
        terminal: Vec::new(),
        arguments: entries(arguments_part, arguments)?,
        environment,
    }))
}

/// The bytes of a request; its descriptors go with the first of them.
///
/// # Errors
/// As `wire::encode`.
pub(super) fn encode(request: &Request<'_>) -> Result<Vec<u8>, Malformed> {
    let mut body = Vec::new();
    let arguments_bytes = append(&mut body, &request.arguments)?;
    let variables_bytes = append(&mut body, &request.environment)?;
    let count = |length: usize| u32::try_from(length).map_err(|_| Malformed::TooLarge);
    let mut message = count(HEADER + body.len())?.to_be_bytes().to_vec();
    message.extend([0, 3]);
    message.extend(CLIENT_BANNER);
    for number in [
        count(request.arguments.len())?,
        count(request.environment.len())?,
        arguments_bytes,
        variables_bytes,
    ] {
        message.extend(number.to_be_bytes());
    }
    message.append(&mut body);
    match parse(&message)? {
        Parsed::Whole(_) => Ok(message),
        Parsed::Missing(_) => Err(Malformed::Lengths),
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// The end of a program as its last message: a wait status.
pub(super) fn status(end: End) -> [u8; 4] {
    let status = match end {
        End::Code(code) => (code & 0xff) << 8,
        End::Signal(signal) => signal & 0x7f,
        End::Unknown => 111 << 8,
    };
    status.to_be_bytes()
}

/// Reads that message; `None`: no end of a program.
pub(super) fn end(status: [u8; 4]) -> Option<End> {
    match u32::from_be_bytes(status) {
        status @ 0..=0xffff if status & 0x7f == 0 => Some(End::Code((status >> 8) as i32)),
        status @ 0..=0xff if status & 0x7f < 0x7f => Some(End::Signal((status & 0x7f) as i32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn request() -> Request<'static> {
        Request {
            roles: ROLES.to_vec(),
            detach: false,
            terminal: Vec::new(),
            arguments: vec![OsStr::new("A0"), OsStr::new("A 1")],
            environment: vec![OsStr::new("PATH=/bin")],
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_real_ones() {
        let message = encode(&request()).unwrap();
        let mut expected = b"\0\0\0\x30\0\x03s6-sudo a v1.0\n".to_vec();
        expected.extend(b"\0\0\0\x02\0\0\0\x01\0\0\0\x07\0\0\0\x0aA0\0A 1\0PATH=/bin\0");
        assert_eq!(message, expected);
        assert_eq!(parse(&message), Ok(Parsed::Whole(request())));
    }

    #[test]
    fn every_beginning_is_incomplete_and_no_byte_can_be_changed_unseen() {
        let whole = encode(&request()).unwrap();
        for length in 0..whole.len() {
            let Ok(Parsed::Missing(missing)) = parse(&whole[..length]) else {
                panic!("{length}");
            };
            assert!(missing > 0 && length + missing <= whole.len());
        }
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut message = whole.clone();
                message[at] = byte;
                if let Ok(Parsed::Whole(request)) = parse(&message) {
                    assert_eq!(encode(&request), Ok(message));
                }
            }
        }
    }

    #[test]
    fn ends_are_wait_statuses() {
        for (end_, bytes) in [
            (End::Code(7), [0, 0, 7, 0]),
            (End::Code(255), [0, 0, 255, 0]),
            (End::Signal(9), [0, 0, 0, 9]),
        ] {
            assert_eq!((status(end_), end(bytes)), (bytes, Some(end_)));
        }
        assert_eq!(
            end([0, 0, 0, 0x8b]),
            Some(End::Signal(11)),
            "with a core file"
        );
        for wrong in [
            [0, 0, 0x13, 0x7f],
            [1, 0, 0, 0],
            [0, 0, 0xff, 0xff],
            [0, 1, 0, 0],
        ] {
            assert_eq!(end(wrong), None, "{wrong:?}");
        }
    }
}

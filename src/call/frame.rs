//! What either side says after the request: five bytes, a letter and a number (big-endian). docs/CALL.md has the table.
#![forbid(unsafe_code)]

use nix::libc::c_int;
use nix::sys::signal::Signal;

pub(super) const LENGTH: usize = 5;

/// The signals that a caller may pass on to the program's process group, and no other.
pub(super) const FORWARDED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// Why the answering side does not run the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum No {
    /// What came is no request.
    Malformed = 1,
    /// Other descriptors than announced, or unfit ones.
    Descriptors = 2,
    TooLarge = 3,
    TooLate = 4,
    /// `--detach` is not allowed.
    Detach = 5,
    /// `--cwd` is not allowed.
    Directory = 6,
    /// `--pty` is not allowed.
    Terminal = 7,
    /// It is allowed, and no terminal is to be had.
    TerminalMissing = 8,
}

impl No {
    const ALL: [No; 8] = [
        No::Malformed,
        No::Descriptors,
        No::TooLarge,
        No::TooLate,
        No::Detach,
        No::Directory,
        No::Terminal,
        No::TerminalMissing,
    ];
}

/// From the answering side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    No(No),
    /// The other end of the program's terminal comes with it.
    Terminal,
    Started,
    /// errno of the start.
    NotStarted(c_int),
    /// The program has stopped, after so many SIGCONT of the caller's.
    Stopped(u32),
    /// The program has stopped because it wants its terminal, which is its own now: to be continued when somebody is at it.
    Foreground,
    Exited(u8),
    Killed(c_int),
}

impl Reply {
    pub(super) fn bytes(self) -> [u8; LENGTH] {
        let (letter, number) = match self {
            Reply::No(no) => (b'N', no as u32),
            Reply::Terminal => (b'P', 0),
            Reply::Started => (b'S', 0),
            Reply::NotStarted(errno) => (b'F', errno.unsigned_abs()),
            Reply::Stopped(continued) => (b'T', continued),
            Reply::Foreground => (b'I', 0),
            Reply::Exited(code) => (b'E', u32::from(code)),
            Reply::Killed(signal) => (b'K', signal.unsigned_abs()),
        };
        frame(letter, number)
    }

    /// `None`: no such message.
    pub(super) fn read(bytes: [u8; LENGTH]) -> Option<Reply> {
        let (letter, number) = parts(bytes);
        let small = |most: u32| {
            c_int::try_from(number)
                .ok()
                .filter(|_| (1..=most).contains(&number))
        };
        match letter {
            b'N' => No::ALL
                .into_iter()
                .find(|no| *no as u32 == number)
                .map(Reply::No),
            b'P' if number == 0 => Some(Reply::Terminal),
            b'S' if number == 0 => Some(Reply::Started),
            b'F' => small(4095).map(Reply::NotStarted),
            b'T' => Some(Reply::Stopped(number)),
            b'I' if number == 0 => Some(Reply::Foreground),
            b'E' => u8::try_from(number).ok().map(Reply::Exited),
            b'K' => small(64).map(Reply::Killed),
            _ => None,
        }
    }
}

/// From the caller: it has set up its end of the terminal, and the program may start.
pub(super) const PREPARED: [u8; LENGTH] = [b'P', 0, 0, 0, 0];

/// A signal that reached the caller.
pub(super) fn signal_bytes(signal: Signal) -> [u8; LENGTH] {
    frame(b'G', (signal as c_int).unsigned_abs())
}

/// `None`: no such message, or a signal that no caller passes on.
pub(super) fn read_signal(bytes: [u8; LENGTH]) -> Option<Signal> {
    let (letter, number) = parts(bytes);
    FORWARDED
        .into_iter()
        .find(|signal| letter == b'G' && (*signal as c_int).unsigned_abs() == number)
}

fn frame(letter: u8, number: u32) -> [u8; LENGTH] {
    let [a, b, c, d] = number.to_be_bytes();
    [letter, a, b, c, d]
}

fn parts([letter, a, b, c, d]: [u8; LENGTH]) -> (u8, u32) {
    (letter, u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut replies: Vec<Reply> = No::ALL.map(Reply::No).to_vec();
        replies.extend((0..=255).map(Reply::Exited));
        replies.extend((1..=64).map(Reply::Killed));
        replies.extend([Reply::Started, Reply::NotStarted(2), Reply::Stopped(7)]);
        replies.extend([Reply::Terminal, Reply::Foreground]);
        for reply in replies {
            assert_eq!(Reply::read(reply.bytes()), Some(reply));
        }
        for wrong in [
            *b"N\0\0\0\0",
            *b"N\0\0\0\x09",
            *b"P\0\0\0\x01",
            *b"I\0\0\0\x01",
            *b"S\0\0\0\x01",
            *b"F\0\0\0\0",
            *b"E\0\0\x01\0",
            *b"K\0\0\0\0",
            *b"K\0\0\0\x41",
            *b"X\0\0\0\0",
        ] {
            assert_eq!(Reply::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_caller_passes_on_nine_signals_and_no_other() {
        let read = |number| read_signal(frame(b'G', number));
        let passed: Vec<Signal> = (0..=300).filter_map(read).collect();
        assert_eq!(passed.len(), FORWARDED.len());
        assert!(
            FORWARDED
                .iter()
                .all(|&signal| read_signal(signal_bytes(signal)) == Some(signal))
        );
        assert_eq!(read_signal(frame(b'H', 15)), None);
    }
}

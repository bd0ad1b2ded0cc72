//! Log lines: the grammar of the messages, who sees which, and a sink that never blocks and never fails.
//!
//! One line an event, `doorward: EVENT key=value...`; failures as `doorward: LEVEL: unable to VERB OBJECT: CAUSE`. What a client
//! controls goes through [`Escaped`], and no control byte reaches the log in any case.
#![forbid(unsafe_code)]

use crate::delivery::LAYOUTS_END;
use crate::sys;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fmt::{self, Display, Write as _};
use std::io::IsTerminal as _;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Which lines are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Verbosity {
    /// `-q`: failures alone.
    Failures = 0,
    /// The default: refusals and what happens to the service.
    Refusals = 1,
    /// `-v`: every connection too.
    Everything = 2,
}

/// What kind of line this is: its syslog priority and who sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The process ends.
    Fatal,
    /// Something is lost or denied that should not be.
    Error,
    /// Something is not as it should be, and nothing is lost.
    Warning,
    /// Something that the administrator wants to know once.
    Info,
    /// An event of the service, or a refused connection.
    Event,
    /// An event of one admitted connection.
    Connection,
}

impl Kind {
    fn priority(self) -> char {
        match self {
            Kind::Fatal => '2',
            Kind::Error => '3',
            Kind::Warning => '4',
            Kind::Info | Kind::Connection => '6',
            Kind::Event => '5',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Fatal => "fatal: ",
            Kind::Error => "error: ",
            Kind::Warning => "warning: ",
            Kind::Info => "info: ",
            Kind::Event | Kind::Connection => "",
        }
    }

    fn shown_from(self) -> Verbosity {
        match self {
            Kind::Fatal | Kind::Error | Kind::Warning => Verbosity::Failures,
            Kind::Info | Kind::Event => Verbosity::Refusals,
            Kind::Connection => Verbosity::Everything,
        }
    }
}

enum Sink {
    /// Standard error, with `<N>` before each line where the journal reads it.
    Stderr { prefixed: bool },
    /// Standard error was the listening socket, or is `--ready-fd`: the system's logger.
    Syslog,
}

static SINK: OnceLock<Sink> = OnceLock::new();
static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Refusals as u8);
static TERMINAL: OnceLock<OwnedFd> = OnceLock::new();
/// The last line was cut short: the next begins with the newline that it lacks.
static TORN: AtomicBool = AtomicBool::new(false);
static STDERR_LEFT: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static SYSLOG: OnceLock<Option<UnixDatagram>> = OnceLock::new();

/// Sets where lines go; the first call counts, and without one it is plain standard error.
pub(crate) fn set_up(stderr_is_ours: bool, journal: bool) {
    let _ = SINK.set(if stderr_is_ours {
        Sink::Stderr { prefixed: journal }
    } else {
        Sink::Syslog
    });
}

/// Opens the terminal of standard error once more, at `low` or above: it takes no question whether it has room for a whole line, and
/// an open file of our own may be non-blocking without anybody else's being so. Where that is not to be had, it stays as it is.
pub(crate) fn take_terminal(low: RawFd) {
    if STDERR_LEFT.load(Ordering::Relaxed) || !std::io::stderr().is_terminal() {
        return;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    if let Ok(opened) = nix::fcntl::open("/proc/self/fd/2", flags, Mode::empty())
        && let Ok(lifted) = sys::fd::lift(opened, low)
    {
        let _ = TERMINAL.set(lifted);
    }
}

/// From now on lines go to the system's logger: standard error is needed for something else.
pub(crate) fn leave_stderr() {
    STDERR_LEFT.store(true, Ordering::Relaxed);
}

/// `-v` and `-q`, as soon as they are known.
pub(crate) fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

/// Whether standard error is the stream that systemd connected to the journal (`JOURNAL_STREAM` is `device:inode`).
pub(crate) fn is_journal(journal_stream: Option<&std::ffi::OsStr>) -> bool {
    let Some(text) = journal_stream.and_then(|text| text.to_str()) else {
        return false;
    };
    let stderr = sys::fd::standard(2).and_then(|stderr| nix::sys::stat::fstat(stderr).ok());
    stderr.is_some_and(|stat| text == format!("{}:{}", stat.st_dev, stat.st_ino))
}

pub(crate) fn shows(kind: Kind) -> bool {
    VERBOSITY.load(Ordering::Relaxed) >= kind.shown_from() as u8
}

/// Writes one line. A line that would have to wait is dropped and counted; the next that fits says how many were.
pub(crate) fn line(kind: Kind, text: fmt::Arguments<'_>) {
    if !shows(kind) {
        return;
    }
    let mut line = String::with_capacity(160);
    let sink = if STDERR_LEFT.load(Ordering::Relaxed) {
        &Sink::Syslog
    } else {
        SINK.get().unwrap_or(&Sink::Stderr { prefixed: false })
    };
    if let Sink::Stderr { prefixed: true } = sink {
        let _ = write!(line, "<{}>", kind.priority());
    }
    let _ = write!(line, "doorward: {}{text}", kind.word());
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        let _ = write!(line, " dropped={dropped}");
    }
    // The last guard against forged lines, whatever a caller forgot to escape.
    let mut line: String = if line.chars().any(char::is_control) {
        line.chars().flat_map(visible).collect()
    } else {
        line
    };
    line.push('\n');
    let written = match sink {
        Sink::Stderr { .. } => stderr(line),
        Sink::Syslog => syslog(kind, &line),
    };
    if !written {
        DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
    }
}

/// Writes a line to standard error; gives whether all of it went off.
fn stderr(mut line: String) -> bool {
    let terminal = TERMINAL.get().map(AsFd::as_fd);
    let Some(stderr) = terminal.or_else(|| sys::fd::standard(2)) else {
        return false;
    };
    let torn = TORN.load(Ordering::Relaxed);
    if torn {
        line.insert(0, '\n');
    }
    let Ok(wrote) = sys::now::write_now(stderr, line.as_bytes()) else {
        return false;
    };
    TORN.store(wrote < line.len(), Ordering::Relaxed);
    wrote == line.len()
}

fn visible(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// One datagram to /dev/log in the old syslog format, facility daemon.
fn syslog(kind: Kind, line: &str) -> bool {
    let Some(socket) = SYSLOG.get_or_init(|| {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        // Above all numbers that a program in place of this process may get.
        let socket = sys::fd::lift(socket.into(), LAYOUTS_END).ok()?;
        Some(socket.into())
    }) else {
        return false;
    };
    let Some(text) = line.strip_prefix("doorward: ") else {
        return false;
    };
    let priority = 3 * 8 + kind.priority().to_digit(10).unwrap_or(5);
    socket
        .send_to(
            format!(
                "<{priority}>doorward[{}]: {}",
                std::process::id(),
                text.trim_end()
            )
            .as_bytes(),
            "/dev/log",
        )
        .is_ok()
}

/// Lines of one sort at most once a second, for failures that come with every connection.
pub(crate) struct Throttle(AtomicU64);

impl Throttle {
    pub(crate) const fn new() -> Throttle {
        Throttle(AtomicU64::new(0))
    }

    /// Whether a line may be written now (then the second begins anew).
    pub(crate) fn open(&self) -> bool {
        let now = crate::clock::now().as_millis() as u64 + 1_000;
        let last = self.0.load(Ordering::Relaxed);
        now >= last + 1_000
            && self
                .0
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Bytes of somebody else's making, shown so that they can be neither a new line nor a new key: `\xNN` for what is no visible ASCII.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'\\' => formatter.write_str("\\\\")?,
                0x21..=0x7e => formatter.write_char(char::from(byte))?,
                _ => write!(formatter, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// Seconds with two decimals, as the `end` line gives them.
pub(crate) struct Seconds(pub(crate) Duration);

impl Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.2}", self.0.as_secs_f64())
    }
}

/// A number, or `-` where it is not known.
pub(crate) struct OrDash<T>(pub(crate) Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_char('-'),
        }
    }
}

/// Keeps the descriptor that stands for /dev/null while others are replaced by it.
pub(crate) fn open_null() -> std::io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into())
}

macro_rules! event { ($($argument:tt)*) => { $crate::report::line($crate::report::Kind::Event, format_args!($($argument)*)) } }
macro_rules! info { ($($argument:tt)*) => { $crate::report::line($crate::report::Kind::Info, format_args!($($argument)*)) } }
macro_rules! warning { ($($argument:tt)*) => { $crate::report::line($crate::report::Kind::Warning, format_args!($($argument)*)) } }
macro_rules! error { ($($argument:tt)*) => { $crate::report::line($crate::report::Kind::Error, format_args!($($argument)*)) } }
pub(crate) use {error, event, info, warning};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_make_neither_a_line_nor_a_key() {
        assert_eq!(
            Escaped(b"/run/a\nb c\x1b[2J\\\xff").to_string(),
            "/run/a\\x0ab\\x20c\\x1b[2J\\\\\\xff"
        );
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(
            "a\nb\u{85}".chars().flat_map(visible).collect::<String>(),
            "a\\nb\\u{85}"
        );
    }

    #[test]
    fn a_throttle_lets_one_line_a_second_through() {
        let throttle = Throttle::new();
        assert!(throttle.open());
        assert!(!throttle.open());
    }
}

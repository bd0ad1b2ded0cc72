//! One client: what it has said, what it is to be told, and the bounds of both.
#![forbid(unsafe_code)]

use crate::store::{Event, Store, is_key};
use doorward::backend::{Error, Handoff};
use nix::poll::PollFlags;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The longest command, its newline included, in bytes.
const LONGEST_LINE: usize = 4096;
/// Events that wait for a client that does not read them, in bytes; the kernel holds some 200 KiB more.
const MOST_EVENTS: usize = 64 * 1024;
/// How many keys one client may watch.
const MOST_WATCHED: usize = 64;

/// A connection with its notification socket.
pub struct Client {
    user: u32,
    connection: UnixStream,
    /// Taken away when the client closes its end.
    notify: Option<UnixStream>,
    /// Closed with the client, which frees its slot.
    _lease: Option<OwnedFd>,
    said: Vec<u8>,
    /// No more will come.
    ended: bool,
    /// The connection does not work any more.
    broken: bool,
    answers: Vec<u8>,
    events: Vec<u8>,
    /// Events that did not fit.
    lost: u64,
    watched: HashSet<String>,
}

impl Client {
    pub fn new(mut handoff: Handoff) -> Result<Client, Error> {
        handoff.greet()?;
        let connection = UnixStream::from(handoff.connection);
        let notify = handoff.notify.map(UnixStream::from);
        for socket in std::iter::once(&connection).chain(&notify) {
            socket
                .set_nonblocking(true)
                .map_err(|error| Error::System("make a socket non-blocking", error))?;
        }
        Ok(Client {
            user: handoff.peer.uid,
            connection,
            notify,
            _lease: handoff.lease,
            said: Vec::new(),
            ended: false,
            broken: false,
            answers: Vec::new(),
            events: Vec::new(),
            lost: 0,
            watched: HashSet::new(),
        })
    }

    /// The connection, and what to wait for: who does not read the answers is not asked for more commands.
    pub fn connection(&self) -> (BorrowedFd<'_>, PollFlags) {
        let wanted = if !self.answers.is_empty() {
            PollFlags::POLLOUT
        } else if self.ended {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        };
        (self.connection.as_fd(), wanted)
    }

    /// The notification socket, if it is still there, and what to wait for: room, or its hang-up, which poll always tells.
    pub fn notify(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let wanted = if self.events.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::POLLOUT
        };
        self.notify.as_ref().map(|socket| (socket.as_fd(), wanted))
    }

    /// Nothing more is to be done for it.
    pub fn is_done(&self) -> bool {
        self.broken || (self.ended && self.answers.is_empty())
    }

    /// The connection is ready: sends answers, or else reads what the client says.
    pub fn talk(&mut self) {
        if !self.answers.is_empty() {
            self.broken |= send(&mut self.connection, &mut self.answers).is_err();
            return;
        }
        let mut buffer = [0; LONGEST_LINE];
        match self.connection.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self
                .said
                .extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_passing(&error) => {}
            Err(_) => self.broken = true,
        }
    }

    /// The notification socket is ready, or gone.
    pub fn tell(&mut self) {
        let Some(notify) = &mut self.notify else {
            return;
        };
        let gone = match self.events.is_empty() {
            // Nothing was wanted of it, so this is its hang-up.
            true => true,
            false => send(notify, &mut self.events).is_err(),
        };
        if gone {
            self.notify = None;
            self.events = Vec::new();
        } else if self.lost > 0 && self.events.is_empty() {
            self.events = format!("lost {}\n", std::mem::take(&mut self.lost)).into_bytes();
        }
    }

    /// One whole line, without its newline, once the answers before it have left.
    pub fn next_command(&mut self) -> Option<Vec<u8>> {
        if self.broken || !self.answers.is_empty() {
            return None;
        }
        match self.said.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let mut line: Vec<u8> = self.said.drain(..=end).collect();
                line.pop();
                Some(line)
            }
            None => {
                // Such a client is not worth an answer.
                self.broken |= self.said.len() >= LONGEST_LINE;
                None
            }
        }
    }

    /// Does what a line says, and answers it; gives the change, if there is one.
    pub fn obey(&mut self, line: &[u8], store: &mut Store) -> Option<Event> {
        let (answer, event) = match self.execute(line, store) {
            Ok((answer, event)) => (answer, event),
            Err(why) => (format!("error {why}"), None),
        };
        self.answers.extend_from_slice(answer.as_bytes());
        self.answers.push(b'\n');
        self.broken |= send(&mut self.connection, &mut self.answers).is_err();
        event
    }

    fn execute(
        &mut self,
        line: &[u8],
        store: &mut Store,
    ) -> Result<(String, Option<Event>), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        if line.chars().any(char::is_control) {
            return Err("control characters");
        }
        let mut words = line.splitn(3, ' ');
        let (command, key, value) = (words.next().unwrap_or_default(), words.next(), words.next());
        if key.is_some_and(|key| !is_key(key)) {
            return Err("not a key");
        }
        let ok = || "ok".to_owned();
        match (command, key, value) {
            ("get", Some(key), None) => {
                let value = store.get(key);
                Ok((
                    value.map_or("none".to_owned(), |value| format!("ok {value}")),
                    None,
                ))
            }
            ("set", Some(key), Some(value)) => Ok((ok(), Some(store.set(key, value, self.user)?))),
            ("del", Some(key), None) => Ok((ok(), Some(store.remove(key, self.user)?))),
            ("watch", Some(_), None) if self.notify.is_none() => Err("no notification socket"),
            ("watch", Some(key), None) => {
                if self.watched.len() >= MOST_WATCHED && !self.watched.contains(key) {
                    return Err("too many watched");
                }
                self.watched.insert(key.to_owned());
                Ok((ok(), None))
            }
            ("unwatch", Some(key), None) => {
                self.watched.remove(key);
                Ok((ok(), None))
            }
            ("who", None, None) => Ok((format!("ok {}", self.user), None)),
            _ => Err("unknown command"),
        }
    }

    /// A change; who does not watch the key, or reads too slowly, does not get it.
    pub fn hear(&mut self, event: &Event) {
        if self.notify.is_none() || !self.watched.contains(&event.key) {
            return;
        }
        if self.lost > 0 || self.events.len() + event.line.len() > MOST_EVENTS {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.events.extend_from_slice(event.line.as_bytes());
    }
}

/// Sends what goes without waiting, and removes it.
fn send(socket: &mut UnixStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match socket.write(bytes) {
        Ok(count) => {
            bytes.drain(..count.min(bytes.len()));
            Ok(())
        }
        Err(error) if is_passing(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

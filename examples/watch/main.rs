//! A key/value store that tells its clients of changes: one long-lived process, commands on the connection, events on the second socket.
//!
//! ```text
//! doorward handoff --bind /run/watch --mode 0666 watch
//! doorward connect --notify /run/watch sh -c 'echo watch lamp >&7; read -r answer <&6; read -r event <&8; echo "$event"'
//! ```
//!
//! | command | answer |
//! | --- | --- |
//! | `get KEY` | `ok VALUE`, or `none` |
//! | `set KEY VALUE`, `del KEY` | `ok`; the key then belongs to the user who has set it: others but root get `error not yours` |
//! | `watch KEY`, `unwatch KEY` | `ok` |
//! | `who` | `ok UID`, the caller's |
//!
//! Events, to who watches the key: `changed KEY UID VALUE`, `removed KEY UID`; `lost N` says how many did not fit since the last, because
//! the client reads too slowly. Every line ends in a newline and has at most 4,096 bytes.
//!
//! One thread and poll(2): a client that sends nothing, reads nothing or talks nonsense costs its buffers, which are bounded, and nobody
//! else's time. doorward limits how many connections a user has; this limits what each may make the service remember.
#![forbid(unsafe_code)]

mod client;
mod store;

use client::Client;
use doorward::backend::{Backend, Error, Listener, Next};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::User;
use std::os::fd::AsFd as _;
use store::Store;

/// How long to leave waiting connections alone when there is no descriptor left, in milliseconds.
const PAUSE: u16 = 100;
/// doorward's end of the control connection is closed.
const GONE: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

fn main() -> Result<(), Error> {
    let mut server = Server::start()?;
    while server.turn()? {}
    Ok(())
}

/// `--allow-user NAME|UID`, repeatable: who else but root and ourselves may bring a channel (the user that doorward runs as).
fn admitted(mut listener: Listener) -> Result<Listener, Error> {
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let name = words.next().filter(|_| word == "--allow-user");
        let uid = name.and_then(|name| match name.parse() {
            Ok(uid) => Some(uid),
            Err(_) => Some(User::from_name(&name).ok()??.uid.as_raw()),
        });
        let Some(uid) = uid else {
            eprintln!("watch: usage: watch [--allow-user NAME|UID]...");
            std::process::exit(100);
        };
        listener = listener.allow_uid(uid);
    }
    Ok(listener)
}

struct Server {
    /// Where the connections come from; none while a listening backend has no doorward.
    backend: Option<Backend>,
    listener: Option<Listener>,
    /// No descriptor is left: connections wait in the channel.
    full: bool,
    store: Store,
    clients: Vec<Client>,
}

impl Server {
    /// Started by doorward, or by a socket unit to which doorward connects.
    fn start() -> Result<Server, Error> {
        let (backend, listener) = match Backend::from_env() {
            Err(Error::NotGiven(_) | Error::WrongDescriptor(_)) => {
                (None, Some(admitted(Listener::from_env()?)?))
            }
            backend => (Some(logging(backend?)), None),
        };
        Ok(Server {
            backend,
            listener,
            full: false,
            store: Store::default(),
            clients: Vec::new(),
        })
    }

    /// Waits for something to do and does it; false when there is nobody left to serve.
    fn turn(&mut self) -> Result<bool, Error> {
        if self.backend.is_none() && self.listener.is_none() && self.clients.is_empty() {
            return Ok(false);
        }
        // After a pause: connections that wait in the channel are looked for; a listening socket is first watched again.
        let mut door = self.full && self.backend.is_some();
        let happened = self.wait()?;
        self.full = false;
        for place in happened {
            match place {
                Place::Door => door = true,
                Place::Connection(index) => self.with(index, Client::talk),
                Place::Events(index) => self.with(index, Client::tell),
            }
        }
        self.obey();
        self.clients.retain(|client| !client.is_done());
        if door {
            self.receive()?;
        }
        Ok(true)
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Client)) {
        if let Some(client) = self.clients.get_mut(index) {
            act(client);
        }
    }

    /// Where something happened.
    fn wait(&self) -> Result<Vec<Place>, Error> {
        let mut watched = Vec::new();
        let mut places = Vec::new();
        let mut watch = |fd, events, place| {
            watched.push(PollFd::new(fd, events));
            places.push(place);
        };
        match (&self.backend, &self.listener) {
            (Some(backend), _) => {
                if !self.full {
                    watch(backend.as_fd(), PollFlags::POLLIN, Place::Door);
                }
                if let Some(control) = backend.control() {
                    watch(control, GONE, Place::Door);
                }
            }
            (None, Some(listener)) if !self.full => {
                watch(listener.as_fd(), PollFlags::POLLIN, Place::Door)
            }
            _ => {}
        }
        for (index, client) in self.clients.iter().enumerate() {
            let (connection, wanted) = client.connection();
            watch(connection, wanted, Place::Connection(index));
            if let Some((notify, wanted)) = client.notify() {
                watch(notify, wanted, Place::Events(index));
            }
        }
        let limit = if self.full {
            PollTimeout::from(PAUSE)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut watched, limit) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(Error::System("wait", error.into())),
        }
        let happened = watched.iter().map(|entry| entry.any().unwrap_or(true));
        Ok(places
            .into_iter()
            .zip(happened)
            .filter_map(|(place, happened)| happened.then_some(place))
            .collect())
    }

    /// Takes one connection, or the channel of a doorward that has just come.
    fn receive(&mut self) -> Result<(), Error> {
        let Some(backend) = &mut self.backend else {
            if let Some(listener) = &self.listener {
                match Backend::accept_from(listener) {
                    Ok(backend) => self.backend = Some(logging(backend)),
                    Err(error) => {
                        eprintln!("watch: refused a control connection: {error}");
                        // A lasting failure must not become a busy loop.
                        self.full = true;
                    }
                }
            }
            return Ok(());
        };
        match backend.try_recv()? {
            Next::Handoff(handoff) => match Client::new(*handoff) {
                Ok(client) => self.clients.push(client),
                Err(error) => eprintln!("watch: a client was lost: {error}"),
            },
            Next::Nothing => {}
            Next::NoRoom => self.full = true,
            // The clients that are there stay.
            Next::Gone => self.backend = None,
        }
        Ok(())
    }

    /// Does what the clients have asked for, and tells those who watch.
    fn obey(&mut self) {
        let mut events = Vec::new();
        for client in &mut self.clients {
            while let Some(line) = client.next_command() {
                events.extend(client.obey(&line, &mut self.store));
            }
        }
        for event in events {
            for client in &mut self.clients {
                client.hear(&event);
            }
        }
    }
}

/// What a turn waits for.
enum Place {
    Door,
    Connection(usize),
    Events(usize),
}

fn logging(backend: Backend) -> Backend {
    backend.on_drop(|why| eprintln!("watch: dropped a connection: {why}"))
}

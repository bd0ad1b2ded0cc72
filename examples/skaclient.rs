//! A bulletin board that skarnet's client library (`skaclient` of skalibs) talks to: a backend whose protocol brings the second socket in
//! a way of its own, inside of a banner, and not with doorward's greeting.
//!
//! ```text
//! doorward handoff --bind /run/board --mode 0666 skaclient
//! ```
//!
//! Everything is a frame: the length in 4 bytes and the number of descriptors in 2, both big-endian, then the text.
//!
//! | who | on | frame |
//! | --- | --- | --- |
//! | client | connection | `board 1 (b)` and a newline, within 5 seconds |
//! | board | connection | `board 1 (a)` and a newline, with the client's end of the notification socket |
//! | client | connection | a note, 1 to 4,096 bytes |
//! | board | connection | one byte: 0, or an errno |
//! | board | every client's notification socket | `UID: NOTE` |
//!
//! A thread a client: doorward limits how many there are. Nobody waits for a client that does not read its notes: it is hung up on.
#![forbid(unsafe_code)]

use doorward::backend::{Backend, Error, Handoff};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::HashMap;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const BEFORE: &[u8] = b"board 1 (b)\n";
const AFTER: &[u8] = b"board 1 (a)\n";
/// The longest note, in bytes.
const LONGEST: usize = 4096;
/// For the banner, and for the answers to a client that does not read them.
const PATIENCE: Duration = Duration::from_secs(5);
const EINVAL: u8 = 22;

fn main() -> Result<(), Error> {
    let mut backend = Backend::from_env()?.on_drop(|why| eprintln!("skaclient: dropped: {why}"));
    let board = Board::default();
    let mut number = 0u64;
    while let Some(handoff) = backend.recv()? {
        number += 1;
        let (id, board) = (number, board.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            let user = handoff.peer.uid;
            if let Err(error) = serve(handoff, id, &board) {
                eprintln!("skaclient: end of client {id}, user {user}: {error}");
            }
            board.leave(id);
        });
        if let Err(error) = thread {
            eprintln!("skaclient: unable to serve client {number}: {error}");
        }
    }
    Ok(())
}

/// One client from its banner to its end; dropping the handoff's lease then frees its slot.
fn serve(handoff: Handoff, id: u64, board: &Board) -> io::Result<()> {
    let (Some(notify), Some(notify_peer)) = (handoff.notify, handoff.notify_peer) else {
        return Err(io::Error::other("no notification socket to give away"));
    };
    let mut connection = UnixStream::from(handoff.connection);
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    if receive(&mut connection)?.as_deref() != Some(BEFORE) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // First: whoever has its banner misses no note.
    board.join(id, UnixStream::from(notify))?;
    welcome(&connection, notify_peer)?;
    connection.set_read_timeout(None)?;
    while let Some(note) = receive(&mut connection)? {
        let code = if note.is_empty() { EINVAL } else { 0 };
        if code == 0 {
            let mut text = format!("{}: ", handoff.peer.uid).into_bytes();
            text.extend_from_slice(&note);
            board.publish(&text);
        }
        connection.write_all(&frame(&[code], 0))?;
    }
    Ok(())
}

/// The banner, with the client's end of the notification socket, non-blocking as the library wants it.
fn welcome(connection: &UnixStream, end: OwnedFd) -> io::Result<()> {
    let end = UnixStream::from(end);
    end.set_nonblocking(true)?;
    let banner = frame(AFTER, 1);
    let rights = [end.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&rights)];
    let sent = sendmsg::<()>(
        connection.as_raw_fd(),
        &[IoSlice::new(&banner)],
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    // The first bytes on a connection: they fit.
    if sent == banner.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

fn frame(text: &[u8], descriptors: u16) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(descriptors.to_be_bytes());
    frame.extend_from_slice(text);
    frame
}

/// One frame's text; `None` at the end of file between frames. Descriptors are of no use here: read(2) leaves them behind.
fn receive(connection: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let first = connection.read(&mut length)?;
    let Some(rest) = length.get_mut(first..).filter(|_| first > 0) else {
        return Ok(None);
    };
    connection.read_exact(rest)?;
    let mut descriptors = [0; 2];
    connection.read_exact(&mut descriptors)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST || descriptors != [0, 0] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    connection.read_exact(&mut text)?;
    Ok(Some(text))
}

/// Where the notes go.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<HashMap<u64, UnixStream>>>);

impl Board {
    fn readers(&self) -> MutexGuard<'_, HashMap<u64, UnixStream>> {
        // A reader is in the map or is not: no half of it is left by a thread that panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, id: u64, notify: UnixStream) -> io::Result<()> {
        notify.set_nonblocking(true)?;
        self.readers().insert(id, notify);
        Ok(())
    }

    fn leave(&self, id: u64) {
        self.readers().remove(&id);
    }

    fn publish(&self, text: &[u8]) {
        let frame = frame(text, 0);
        // Half a frame cannot be taken back, so who has no room for a whole one has no use for the next either.
        self.readers().retain(|_, notify| {
            let whole = notify.write(&frame).is_ok_and(|sent| sent == frame.len());
            if !whole {
                // It is going in any case.
                let _ = notify.shutdown(Shutdown::Both);
            }
            whole
        });
    }
}

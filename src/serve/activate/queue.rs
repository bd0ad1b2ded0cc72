//! Who waits in the queue of a listening socket, which the kernel tells without anything being accepted (sock_diag(7)).
#![forbid(unsafe_code)]

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::stat::fstat;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Of linux/sock_diag.h, linux/unix_diag.h and linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_UNIX: u8 = 1;
const SHOW_ICONS: u32 = 8;
const ICONS: u16 = 3;
/// A netlink header, and what the kernel says of a socket before the first attribute.
const HEADER: usize = 16;
const SOCKET: usize = 16;

/// The clients that wait, in order, by the inode numbers of their sockets (0: it has closed its own); `None` where the kernel does not tell: it has no such facility, the
/// process may not ask, the socket is of another network namespace, or no stream socket, or too many wait for one answer.
pub(super) fn clients(listening: BorrowedFd<'_>) -> Option<Vec<u32>> {
    let inode = u32::try_from(fstat(listening).ok()?.st_ino).ok()?;
    let asker = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
    .ok()?;
    send(asker.as_raw_fd(), &question(inode), MsgFlags::empty()).ok()?;
    // The kernel has answered by now; if not, nobody waits for it.
    let mut answer = vec![0; 32 * 1024];
    let length = recv(asker.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
    icons(answer.get(..length)?, inode)
}

fn question(inode: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([AF_UNIX, 0, 0, 0]);
    // Whatever its state is.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(inode.to_ne_bytes());
    bytes.extend(SHOW_ICONS.to_ne_bytes());
    // No cookie.
    bytes.extend(u64::MAX.to_ne_bytes());
    bytes
}

/// Whether one of those who waited `before` waits no more: whoever accepts takes the first.
pub(super) fn is_shorter(before: Option<&[u32]>, after: Option<&[u32]>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let stays = |(before, after): (&u32, &u32)| before == after || *after == 0;
    after.len() < before.len() || !before.iter().zip(after).all(stays)
}

/// The attribute with the waiting clients, in the answer about the socket `inode`.
fn icons(answer: &[u8], inode: u32) -> Option<Vec<u32>> {
    let is_answer = short(answer, 4)? == SOCK_DIAG_BY_FAMILY && long(answer, HEADER + 4)? == inode;
    let length = usize::try_from(long(answer, 0)?).ok()?;
    let mut rest = answer.get(HEADER + SOCKET..length).filter(|_| is_answer)?;
    while let (Some(length), Some(kind)) = (short(rest, 0), short(rest, 2)) {
        let length = usize::from(length);
        let data = rest.get(4..length)?;
        if kind == ICONS {
            let (numbers, _) = data.as_chunks::<4>();
            return Some(
                numbers
                    .iter()
                    .map(|number| u32::from_ne_bytes(*number))
                    .collect(),
            );
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    #[test]
    fn clients_are_those_that_wait_and_no_others() {
        let name = format!("doorward-queue-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let Some(none) = clients(listener.as_fd()) else {
            eprintln!("SKIPPED: this kernel does not tell who waits");
            return;
        };
        assert_eq!(none, [0; 0]);
        let connect = |_| UnixStream::connect_addr(&address).unwrap();
        let waiting: Vec<UnixStream> = (0..3).map(connect).collect();
        let inode = |stream: &UnixStream| fstat(stream).unwrap().st_ino as u32;
        assert_eq!(
            clients(listener.as_fd()),
            Some(waiting.iter().map(inode).collect())
        );
        drop(listener.accept());
        let left = waiting[1..].iter().map(inode).collect();
        assert_eq!(clients(listener.as_fd()), Some(left));
        assert_eq!(clients(waiting[0].as_fd()), None);
        let last = inode(&waiting[2]);
        drop(waiting);
        let before = Some(vec![1, last]);
        assert_eq!(clients(listener.as_fd()), Some(vec![0, 0]));
        assert!(!is_shorter(
            before.as_deref(),
            clients(listener.as_fd()).as_deref()
        ));
    }

    #[test]
    fn who_is_new_or_has_closed_is_not_one_who_was_taken() {
        let shorter = |before: &[u32], after: &[u32]| is_shorter(Some(before), Some(after));
        for after in [&[1, 2][..], &[1, 2, 3], &[0, 2], &[1, 0], &[0, 0, 3]] {
            assert!(!shorter(&[1, 2], after), "{after:?}");
        }
        for after in [&[][..], &[2], &[2, 3], &[3, 4, 5], &[0, 3]] {
            assert!(shorter(&[1, 2], after), "{after:?}");
        }
        assert!(!shorter(&[], &[1]));
        assert!(!is_shorter(Some(&[1]), None) && !is_shorter(None, Some(&[])));
    }

    #[test]
    fn an_answer_that_is_cut_short_or_about_another_socket_is_none() {
        let mut answer = Vec::new();
        answer.extend(48u32.to_ne_bytes());
        answer.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend([AF_UNIX, 1, 10, 0]);
        answer.extend(7u32.to_ne_bytes());
        answer.extend([0; 8]);
        answer.extend(12u16.to_ne_bytes());
        answer.extend(ICONS.to_ne_bytes());
        answer.extend(21u32.to_ne_bytes());
        answer.extend(22u32.to_ne_bytes());
        // Two bytes of the last number are missing, which the length of the whole does not know.
        assert_eq!(icons(&answer, 7), None);
        answer.splice(0..4, 44u32.to_ne_bytes());
        assert_eq!(icons(&answer, 7), Some(vec![21, 22]));
        assert_eq!(icons(&answer, 8), None);
        for length in 0..answer.len() {
            assert_eq!(icons(&answer[..length], 7), None, "{length}");
        }
    }
}

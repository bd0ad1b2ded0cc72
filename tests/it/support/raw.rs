//! The calls that no safe wrapper has. All unsafe code of the tests stands here and in the probe.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::User;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Turns the calling thread, and it alone, into `user` for good. glibc's wrappers would turn all threads.
pub fn become_user(user: &User) -> io::Result<()> {
    // SAFETY: three system calls that take numbers and a pointer to `groups`, which outlives the call; the kernel
    // refuses bad values. That the threads of this process then differ is no matter of memory.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            user.groups.len(),
            user.groups.as_ptr(),
        ))?;
        check(libc::syscall(
            libc::SYS_setresgid,
            user.gid,
            user.gid,
            user.gid,
        ))?;
        check(libc::syscall(
            libc::SYS_setresuid,
            user.uid,
            user.uid,
            user.uid,
        ))?;
    }
    Ok(())
}

/// `bind` to an address that is these bytes and no more, not even a zero byte at the end: nix refuses the full length.
pub fn bind_bytes(socket: &OwnedFd, address: &[u8]) -> io::Result<()> {
    let mut whole = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    assert!(
        address.len() <= whole.sun_path.len(),
        "a longer address than there is"
    );
    for (to, from) in whole.sun_path.iter_mut().zip(address) {
        *to = *from as libc::c_char;
    }
    let length = size_of::<libc::sa_family_t>() + address.len();
    // SAFETY: the kernel reads `length` bytes of `whole`, which is as long.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const whole).cast(),
            length as libc::socklen_t,
        )
    };
    check(result.into()).map(drop)
}

/// SO_PASSRIGHTS=0.
pub fn refuse_rights(socket: &OwnedFd) -> io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let no: libc::c_int = 0;
    // SAFETY: the kernel reads the four bytes of `no`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const no).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(result.into()).map(drop)
}

/// Makes `command` start with exactly 0, 1, 2 and `placed` (number, descriptor) open, and end with the calling thread.
pub fn place_descriptors(command: &mut Command, placed: Vec<(RawFd, OwnedFd)>) {
    let place = move || {
        // First out of each other's way, then to the numbers: a source may stand where another one belongs.
        let mut spare = [-1; 64];
        for ((_, fd), spare) in placed.iter().zip(&mut spare) {
            // SAFETY: dup of a descriptor that `placed` keeps open.
            *spare = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 1100) };
            if *spare < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: in the child between fork and exec nothing owns these numbers but the standard library's pipe for exec
        // errors, which is close-on-exec; where a placed descriptor replaces it, a failed exec shows as exit 1.
        unsafe {
            check(libc::syscall(
                libc::SYS_close_range,
                3,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            ))?;
            for ((number, _), spare) in placed.iter().zip(&spare) {
                check(libc::dup2(*spare, *number).into())?;
            }
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and builds no-heap errors only: sound between fork and exec.
    unsafe { command.pre_exec(place) };
}

/// A copy of descriptor `number` of process `pid` (`pidfd_getfd`).
pub fn descriptor_of(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: both calls take numbers and yield a new close-on-exec descriptor that nobody else owns.
    unsafe {
        let pidfd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        let pidfd = OwnedFd::from_raw_fd(pidfd as RawFd);
        let copy = check(libc::syscall(
            libc::SYS_pidfd_getfd,
            pidfd.as_raw_fd(),
            number,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(copy as RawFd))
    }
}

/// Sets a limit of a running process (`prlimit`), soft and hard; gives what it was.
pub fn set_limit(
    pid: i32,
    resource: libc::__rlimit_resource_t,
    limit: libc::rlimit,
) -> libc::rlimit {
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both structures live through the call, and the kernel checks the rest.
    let set = unsafe { libc::prlimit(pid, resource, &raw const limit, &raw mut before) };
    assert_eq!(set, 0, "prlimit of {pid}: {}", io::Error::last_os_error());
    before
}

/// Takes a write lease on a file that nobody else has open: whoever opens it then waits until `file` is closed
/// (45 s at most, /proc/sys/fs/lease-break-time). This process is told by a signal that it ignores.
pub fn lease(file: &std::fs::File) -> io::Result<()> {
    /// As Linux has it on every machine; the crate does not.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: two calls on a descriptor that `file` keeps open, with numbers alone.
    unsafe {
        check(libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGWINCH).into())?;
        check(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK).into())?;
    }
    Ok(())
}

/// A new terminal: the end that shows it, and the end of the program in it.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut shows, mut inside) = (-1, -1);
    // SAFETY: the two numbers live through the call; the null pointers ask for defaults.
    let opened = unsafe {
        libc::openpty(
            &raw mut shows,
            &raw mut inside,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_eq!(opened, 0, "openpty: {}", io::Error::last_os_error());
    for fd in [shows, inside] {
        // SAFETY: sets a flag of a descriptor that is open. Nothing that another test starts shall keep a terminal.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    let mut both = own(vec![shows, inside]).into_iter();
    match (both.next(), both.next()) {
        (Some(shows), Some(inside)) => (shows, inside),
        _ => unreachable!("two descriptors"),
    }
}

/// Makes `command` start as the leader of a session, in `terminal` if there is one, and end with the calling thread.
pub fn lead_a_session(command: &mut Command, terminal: Option<OwnedFd>) {
    let lead = move || {
        // SAFETY: system calls with numbers alone; `terminal` keeps its own open.
        unsafe {
            check(libc::syscall(
                libc::SYS_close_range,
                3,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            ))?;
            check(libc::setsid().into())?;
            if let Some(terminal) = &terminal {
                check(libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0).into())?;
            }
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and builds no-heap errors only: sound between fork and exec.
    unsafe { command.pre_exec(lead) };
}

/// The inner end of a pseudo-terminal, from its outer one (`TIOCGPTPEER`).
pub fn inside(outside: &OwnedFd) -> OwnedFd {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes a number, and yields a new descriptor that nobody else owns.
    let fd = unsafe { libc::ioctl(outside.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    assert!(fd >= 0, "TIOCGPTPEER: {}", io::Error::last_os_error());
    own(vec![fd]).remove(0)
}

/// The size of a terminal.
pub fn set_window(terminal: &impl AsRawFd, rows: u16, columns: u16) {
    let window = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) };
    assert_eq!(set, 0, "TIOCSWINSZ: {}", io::Error::last_os_error());
}

/// O_NONBLOCK.
pub fn set_nonblocking(fd: &OwnedFd) {
    // SAFETY: sets a flag of a descriptor that is open.
    let set = unsafe {
        libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            libc::O_NONBLOCK | libc::O_RDWR,
        )
    };
    assert_eq!(set, 0, "F_SETFL: {}", io::Error::last_os_error());
}

/// Bytes that can be read from a terminal, or from a socket, of all its messages together (`FIONREAD`).
pub fn queued(socket: &OwnedFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) }.into())?;
    Ok(bytes.unsigned_abs() as usize)
}

/// Takes possession of descriptors that `recvmsg` has just put into this process.
pub fn own(numbers: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the caller got the numbers from the kernel in this very call, so nobody else owns them.
    numbers
        .into_iter()
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

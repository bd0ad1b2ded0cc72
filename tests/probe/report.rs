//! The report: lines of `KEY VALUE`, bytes beyond printable ASCII (and `\`) as `\xNN`, closed by `end`.

use std::ffi::{OsString, c_int};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// Looks at this process, at first without opening anything that stays open.
pub fn taken(argv: &[OsString]) -> Vec<u8> {
    let fds = open_descriptors();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut report = Report(String::new());
    for word in argv {
        report.line("argv", word.as_bytes());
    }
    for entry in environment() {
        report.line("env", &entry);
    }
    for fd in fds {
        report.line("fd", fd.as_bytes());
    }
    for (key, name) in [
        ("blocked", "SigBlk"),
        ("ignored", "SigIgn"),
        ("caught", "SigCgt"),
        ("groups", "Groups"),
    ] {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        report.line(key, value.unwrap_or_default().trim().as_bytes());
    }
    ids(&mut report);
    report.line("end", b"");
    report.0.into_bytes()
}

struct Report(String);

impl Report {
    fn line(&mut self, key: &str, value: &[u8]) {
        self.0.push_str(key);
        self.0.push(' ');
        for &byte in value {
            match byte {
                b'\\' | 0..b' ' | 0x7f.. => write!(self.0, "\\x{byte:02x}").expect("memory"),
                _ => self.0.push(char::from(byte)),
            }
        }
        self.0.push('\n');
    }
}

/// Every entry as it stands, whether or not it has a name: the standard library would skip odd ones.
fn environment() -> Vec<Vec<u8>> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: this process has one thread and changes no variable: `environ` is a list of strings ended by a null.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            entries.push(std::ffi::CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
    }
    entries
}

/// `7 stream listening=0 cloexec=0 nonblock=0 socket:[77]`, in order of number.
fn open_descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let mut numbers: Vec<c_int> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    // The directory's own descriptor is closed by now and drops out.
    numbers.into_iter().filter_map(describe).collect()
}

pub fn describe(fd: c_int) -> Option<String> {
    // SAFETY: fcntl with numbers only.
    let (flags, status) = unsafe {
        (
            libc::fcntl(fd, libc::F_GETFD),
            libc::fcntl(fd, libc::F_GETFL),
        )
    };
    if flags < 0 {
        return None;
    }
    let kind = match option(fd, libc::SO_TYPE) {
        Some(libc::SOCK_STREAM) => "stream",
        Some(libc::SOCK_DGRAM) => "dgram",
        Some(libc::SOCK_SEQPACKET) => "seqpacket",
        Some(_) => "other",
        None => "-",
    };
    let listening = option(fd, libc::SO_ACCEPTCONN).unwrap_or(0);
    let cloexec = c_int::from(flags & libc::FD_CLOEXEC != 0);
    let nonblock = c_int::from(status & libc::O_NONBLOCK != 0);
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    Some(format!(
        "{fd} {kind} listening={listening} cloexec={cloexec} nonblock={nonblock} {}",
        link.display()
    ))
}

fn option(fd: c_int, name: c_int) -> Option<c_int> {
    let (mut value, mut size): (c_int, libc::socklen_t) = (0, 4);
    // SAFETY: the kernel writes at most `size` bytes into `value`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    (result == 0).then_some(value)
}

fn ids(report: &mut Report) {
    let (mut uid, mut gid) = ([0; 3], [0; 3]);
    let mut nofile = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: calls that return numbers or fill the numbers given.
    let (numbers, umask) = unsafe {
        libc::getresuid(&raw mut uid[0], &raw mut uid[1], &raw mut uid[2]);
        libc::getresgid(&raw mut gid[0], &raw mut gid[1], &raw mut gid[2]);
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut nofile);
        let umask = libc::umask(0);
        libc::umask(umask);
        (
            [
                libc::getpid(),
                libc::getppid(),
                libc::getpgid(0),
                libc::getsid(0),
            ],
            umask,
        )
    };
    for (key, value) in ["pid", "ppid", "pgid", "sid"].iter().zip(numbers) {
        report.line(key, value.to_string().as_bytes());
    }
    report.line("uid", uid.map(|id| id.to_string()).join(" ").as_bytes());
    report.line("gid", gid.map(|id| id.to_string()).join(" ").as_bytes());
    report.line(
        "nofile",
        format!("{} {}", nofile.rlim_cur, nofile.rlim_max).as_bytes(),
    );
    report.line("umask", format!("{umask:04o}").as_bytes());
    let cwd = std::env::current_dir().unwrap_or_default();
    report.line("cwd", cwd.as_os_str().as_bytes());
}

//! `doorward answer`: takes one request, runs its program on the caller's descriptors, and tells how it ended.
#![forbid(unsafe_code)]

use super::caller::{Caller, Protocol};
use super::environment::Policy;
use super::frame::{No, Reply};
use super::given;
use super::pty::{Terminal, Ungiven};
use super::receive::{self, Broken};
use super::supervise::{Supervision, watched_signals};
use super::wire::{Parsed, Request, Role};
use crate::admission::Peer;
use crate::delivery::{LAYOUTS_END, Program};
use crate::exit::{self, Failure, Unable as _, wrong_use};
use crate::report::{self, Escaped, Kind, event};
use crate::source::Activation;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Child, Failure as NoChild, Job, Stack, spawn_from_anywhere};
use crate::variables::inherited;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::stat::fstat;
use nix::unistd::{Pid, fchdir};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::{Duration, Instant};

/// How much of a caller's arguments a log line shows.
const SHOWN: usize = 1024;

/// `doorward answer`, understood.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) prog: Vec<OsString>,
    /// For the whole request.
    pub(crate) message_timeout: Duration,
    /// Names of variables that callers may set.
    pub(crate) pass_env: Vec<OsString>,
    pub(crate) allowed: Allowed,
    pub(crate) protocol: Protocol,
}

/// What callers may ask for beside a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) detach: bool,
    pub(crate) directory: bool,
    pub(crate) terminal: bool,
}

/// Serves the one caller; gives the exit code.
pub(crate) fn run(post: Post, activation: &Activation) -> exit::Result<u8> {
    // Whatever the parent left open, it is not the program's.
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    let connection = given::take(activation)?;
    let end = Instant::now() + post.message_timeout;
    let signals = watched_signals().unable("set up signals")?;
    set_child_subreaper(true).unable("become the reaper of what the program leaves")?;
    let policy = Policy::new(inherited(), post.pass_env)
        .map_err(|why| wrong_use(format!("--pass-env: {why}")))?;
    let mut peer = Peer::default();
    peer.identify_once(connection.as_fd())
        .unable("ask the kernel who calls")?;
    let mut caller = Caller::greet(connection, post.protocol).unable("greet the caller")?;
    let message = match receive::take(caller.connection(), end, post.protocol.parser()) {
        Ok(message) => message,
        Err(broken) => return refuse_broken(&caller, &peer, &broken),
    };
    let Ok(Parsed::Whole(request)) = post.protocol.parser()(&message.bytes) else {
        return Err(exit::system("unable to read the request a second time"));
    };
    let fitted = Descriptors::of(&request, message.descriptors, post.allowed);
    let mut descriptors = match fitted {
        Ok(descriptors) => descriptors,
        Err((no, why)) => return Ok(refuse(&caller, &peer, no, why)),
    };
    let mut terminal = None;
    if !request.terminal.is_empty() {
        match Terminal::give(&mut caller, &request, LAYOUTS_END, end) {
            Ok(given) => {
                let put = descriptors.put(&request.terminal, &given);
                put.unable("copy the terminal")?;
                terminal = Some(given);
            }
            Err(Ungiven::Broken(broken)) => return refuse_broken(&caller, &peer, &broken),
            Err(Ungiven::System(error)) => {
                caller.dismiss(No::TerminalMissing);
                return Err(error).unable("give the program a terminal");
            }
        }
    }
    let started = Program::look_up(post.prog)
        .map_err(|failure| (errno_of(failure.code), failure))
        .and_then(|program| {
            let foreground = terminal.as_ref().and_then(Terminal::foreground);
            start(program, &request, policy, descriptors, foreground).map_err(|cause| {
                let errno = cause.raw_os_error().unwrap_or(libc::EIO);
                let code = exit_of(errno);
                let error = anyhow::Error::new(cause).context("unable to run the program");
                (errno, Failure { code, error })
            })
        });
    let child = match started {
        Ok(child) => child,
        Err((errno, failure)) => {
            caller.tell(Reply::NotStarted(errno));
            return Err(failure);
        }
    };
    caller.tell(Reply::Started);
    tell_start(&peer, &child, &request);
    let leader = Pid::from_raw(child.pid);
    let supervision = Supervision::new(caller, signals, leader, request.detach);
    supervision.in_terminal(terminal).attend(&peer);
    Ok(0)
}

/// What the program gets from its caller.
struct Descriptors {
    /// For 0, 1 and 2.
    standard: [OwnedFd; 3],
    directory: Option<OwnedFd>,
}

impl Descriptors {
    /// Gives each descriptor its role; /dev/null stands in for what was not sent.
    fn of(
        request: &Request<'_>,
        sent: Vec<OwnedFd>,
        allowed: Allowed,
    ) -> Result<Descriptors, (No, &'static str)> {
        if request.detach && !allowed.detach {
            return Err((No::Detach, "detach is not allowed"));
        }
        if request.roles.contains(&Role::Directory) && !allowed.directory {
            return Err((No::Directory, "a directory is not allowed"));
        }
        if !request.terminal.is_empty() && !allowed.terminal {
            return Err((No::Terminal, "a terminal is not allowed"));
        }
        if sent.len() != request.roles.len() {
            return Err((No::Descriptors, "not the descriptors that it announces"));
        }
        let unfit = |_| (No::Descriptors, "no room for its descriptors");
        let mut found: [Option<OwnedFd>; 4] = [const { None }; 4];
        for (role, descriptor) in request.roles.iter().zip(sent) {
            if !is_fit(*role, &descriptor) {
                return Err((No::Descriptors, "a descriptor that is not what it is for"));
            }
            let lifted = sys::fd::lift(descriptor, LAYOUTS_END).map_err(unfit)?;
            if let Some(place) = found.get_mut(*role as usize) {
                *place = Some(lifted);
            }
        }
        let or_null = |descriptor: Option<OwnedFd>| match descriptor {
            Some(descriptor) => Ok(descriptor),
            None => report::open_null().and_then(|null| sys::fd::lift(null, LAYOUTS_END)),
        };
        let [stdin, stdout, stderr, directory] = found;
        let standard = [
            or_null(stdin).map_err(unfit)?,
            or_null(stdout).map_err(unfit)?,
            or_null(stderr).map_err(unfit)?,
        ];
        Ok(Descriptors {
            standard,
            directory,
        })
    }

    /// Those of 0, 1 and 2 that `roles` names are the terminal.
    fn put(&mut self, roles: &[Role], terminal: &Terminal) -> io::Result<()> {
        for role in roles {
            if let Some(place) = self.standard.get_mut(*role as usize) {
                *place = terminal.copy(LAYOUTS_END)?;
            }
        }
        Ok(())
    }
}

/// A descriptor that its holder can neither read nor write (O_PATH) could be opened anew by a program with more rights; a directory to
/// run in must be one.
fn is_fit(role: Role, descriptor: &OwnedFd) -> bool {
    if role == Role::Directory {
        return fstat(descriptor).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
    }
    let flags = fcntl(descriptor, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| !flags.contains(OFlag::O_PATH))
}

/// Starts the program. The caller's descriptors are its alone then.
fn start(
    program: Program,
    request: &Request<'_>,
    policy: Policy,
    descriptors: Descriptors,
    foreground: Option<RawFd>,
) -> io::Result<Child> {
    let path = absolute(program.path)?;
    if let Some(directory) = descriptors.directory {
        fchdir(directory)?;
    }
    let mut argv = CVec::default();
    let own = program.argv.iter().map(OsString::as_os_str);
    for word in own.chain(request.arguments.iter().copied()) {
        argv.push(&[word.as_bytes()]);
    }
    let on_terminal = !request.terminal.is_empty();
    let mut envp = policy.environment(&request.environment, on_terminal);
    let [stdin, stdout, stderr] = &descriptors.standard;
    let job = Job {
        path: &path,
        argv: &mut argv,
        envp: &mut envp,
        pid_at: None,
        places: &[
            (stdin.as_raw_fd(), 0),
            (stdout.as_raw_fd(), 1),
            (stderr.as_raw_fd(), 2),
        ],
        low: 3,
        nofile: None,
        foreground,
    };
    spawn_from_anywhere(&mut Stack::new()?, job).map_err(|failure| match failure {
        NoChild::NoProcess(error) | NoChild::NoProgram(error) => error,
    })
}

/// The program is the server's choice: a relative path must not lead to something in a caller's directory.
fn absolute(path: CString) -> io::Result<CString> {
    if path.to_bytes().starts_with(b"/") {
        return Ok(path);
    }
    let mut whole = std::env::current_dir()?.into_os_string().into_vec();
    whole.push(b'/');
    whole.extend_from_slice(path.to_bytes());
    CString::new(whole).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// What the look-up found, as execve would have said it.
fn errno_of(code: u8) -> libc::c_int {
    match code {
        exit::NOT_FOUND => Errno::ENOENT as i32,
        _ => Errno::EACCES as i32,
    }
}

/// The exit code for a program that could not be started, on both sides.
pub(super) fn exit_of(errno: libc::c_int) -> u8 {
    match errno {
        libc::ENOENT | libc::ENOTDIR => exit::NOT_FOUND,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EIO => exit::SYSTEM,
        _ => exit::NOT_EXECUTABLE,
    }
}

fn refuse_broken(caller: &Caller, peer: &Peer, broken: &Broken) -> exit::Result<u8> {
    let (no, why) = match broken {
        Broken::Malformed(why @ super::wire::Malformed::TooLarge) => {
            (No::TooLarge, why.to_string())
        }
        Broken::Malformed(why) => (No::Malformed, why.to_string()),
        Broken::Descriptors => (
            No::Descriptors,
            "more descriptors than there are uses for".into(),
        ),
        Broken::TooLate => (No::TooLate, "it did not come in time".into()),
        Broken::Gone => {
            let gone = format_args!("gone {peer}");
            report::line(Kind::Connection, gone);
            return Ok(0);
        }
        Broken::System(error) => {
            return Err(exit::system(format!(
                "unable to receive a request: {error}"
            )));
        }
    };
    Ok(refuse(caller, peer, no, &why))
}

fn refuse(caller: &Caller, peer: &Peer, no: No, why: &str) -> u8 {
    event!(
        "deny {peer} reason=request cause={}",
        Escaped(why.as_bytes())
    );
    caller.dismiss(no);
    match no {
        No::Detach | No::Directory | No::Terminal => exit::REFUSED,
        No::TooLate => exit::DEADLINE,
        No::Malformed | No::Descriptors | No::TooLarge => exit::WRONG_USE,
        No::TerminalMissing => exit::SYSTEM,
    }
}

/// Who had what run, for `-v`.
fn tell_start(peer: &Peer, child: &Child, request: &Request<'_>) {
    if !report::shows(Kind::Connection) {
        return;
    }
    let mut words = String::new();
    for word in &request.arguments {
        if words.len() > SHOWN {
            words.push_str(",...");
            break;
        }
        if !words.is_empty() {
            words.push(',');
        }
        let bytes = word.as_bytes();
        let shown = bytes.get(..SHOWN).unwrap_or(bytes);
        words.push_str(&Escaped(shown).to_string());
    }
    let child = child.pid;
    report::line(
        Kind::Connection,
        format_args!("call {peer} child={child} args={words}"),
    );
}

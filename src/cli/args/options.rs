//! The options that several commands share, each declared once: the same name and words everywhere.
#![forbid(unsafe_code)]

use super::in_order::InOrder;
use super::lean::lean;
use crate::delivery::{Layout, SocketLayout};
use crate::source::Type;
use clap::{Arg, Args};
use std::ffi::OsString;
use std::path::PathBuf;

const SOURCE: &str = "Source: where the listening socket comes from";
const ADMISSION: &str = "Admission: who may come in";
pub(super) const LIFE: &str = "Start and end";
pub(super) const DELIVERY: &str = "Delivery: what the program gets";

lean! {
    /// Which listening sockets are served, and as whom.
    #[derive(Args, Debug)]
    #[command(next_help_heading = SOURCE)]
    pub(in crate::cli) struct Sockets {
        /// Bind PATH and serve it (@NAME: in the abstract namespace); where sockets are inherited, they must be these; repeatable
        #[arg(long, value_name = "PATH")]
        pub(in crate::cli) bind: Vec<OsString>,
        /// Of the inherited sockets serve those called NAME in LISTEN_FDNAMES; repeatable [default: all]
        #[arg(long, value_name = "NAME")]
        pub(in crate::cli) name: Vec<String>,
        /// Call listen() again on inherited sockets, so that clients see doorward's credentials
        #[arg(long)]
        pub(in crate::cli) relisten: bool,
    }
}

lean! {
    /// The listening socket itself.
    #[derive(Args, Debug)]
    #[command(next_help_heading = SOURCE)]
    pub(in crate::cli) struct Node {
        /// Permission bits of the socket, octal; to connect takes w [default: 0600 when bound, unchanged when inherited]
        #[arg(long, value_name = "MODE")]
        pub(in crate::cli) mode: Option<String>,
        /// Owner of the socket, by name or number [default: unchanged]
        #[arg(long, value_name = "USER[:GROUP]")]
        pub(in crate::cli) owner: Option<String>,
        /// Connections that may wait in the kernel's queue to be accepted [default: the system's maximum]
        #[arg(long, value_name = "N")]
        pub(in crate::cli) backlog: Option<u32>,
        /// Type of the socket; dgram is for bind and activate [default: what is inherited, else stream]
        #[arg(long = "type", value_name = "TYPE", value_enum)]
        pub(in crate::cli) kind: Option<Type>,
        #[command(flatten)]
        pub(in crate::cli) run_as: RunAs,
    }
}

lean! {
    /// Who serves.
    #[derive(Args, Debug)]
    pub(in crate::cli) struct RunAs {
        /// User to become before the first client gets in, with its groups [default: stay who started it]
        #[arg(long, value_name = "USER[:GROUP]")]
        run_as: Option<String>,
    }
}

impl RunAs {
    pub(in crate::cli) fn as_deref(&self) -> Option<&str> {
        self.run_as.as_deref()
    }
}

lean! {
    /// Who may come in.
    #[derive(Args, Debug)]
    #[command(next_help_heading = ADMISSION)]
    pub(in crate::cli) struct Rules {
        #[command(flatten)]
        pub(in crate::cli) in_order: InOrder,
        /// Rules directory (read at each connection) or cdb file (kept open, opened again at SIGHUP) in the formats of
        /// s6-ipcserver-access -i and -x; who matches none is refused; not with --allow or --deny
        #[arg(long, value_name = "PATH")]
        pub(in crate::cli) rules: Option<PathBuf>,
        /// Text to send, with a newline, to whoever is refused [default: none]
        #[arg(long, value_name = "TEXT")]
        pub(in crate::cli) deny_text: Option<OsString>,
    }
}

lean! {
    /// For how many there is room.
    #[derive(Args, Debug)]
    #[command(next_help_heading = ADMISSION)]
    pub(in crate::cli) struct Places {
        /// Connections at once, of all users and sockets; when full, clients wait (0: no limit)
        #[arg(long, value_name = "N", default_value_t = 1000)]
        pub(in crate::cli) max: u32,
        /// Connections at once of one user; more are refused [default: three quarters of --max, none with --max 0]
        #[arg(long, value_name = "N")]
        pub(in crate::cli) max_per_user: Option<u32>,
        /// New connections of one user: N in a row, then as many as come back evenly at N in SECONDS; more are refused [default: no
        /// limit]
        #[arg(long, value_name = "N/SECONDS")]
        pub(in crate::cli) rate: Option<String>,
    }
}

/// The options of [`Rules`] and [`Places`], each with its dashes: for commands that ask nobody.
pub(in crate::cli) fn of_admission() -> impl Iterator<Item = String> {
    let all = Places::augment_args(Rules::augment_args(clap::Command::new("")));
    let names = all.get_arguments().filter_map(|option| option.get_long());
    names
        .map(|name| format!("--{name}"))
        .collect::<Vec<_>>()
        .into_iter()
}

lean! {
    /// How a program gets its connection.
    #[derive(Args, Debug)]
    #[command(next_help_heading = DELIVERY)]
    pub(in crate::cli) struct Connection {
        /// Where the program finds the connection; where that is not 0, 0 is /dev/null [default: ucspi]
        #[arg(long, value_name = "LAYOUT", value_enum)]
        pub(in crate::cli) layout: Option<Layout>,
        /// The connection on 0 and 1: --layout inetd
        #[arg(long)]
        pub(in crate::cli) inetd: bool,
        /// Prefix of the variables about the connection (IPC in IPCREMOTEEUID), and the value of PROTO
        #[arg(long, value_name = "NAME", default_value = "IPC")]
        pub(in crate::cli) proto: String,
        /// Give the program a notification socket on 8, and its client the other end, in a greeting (11 bytes and a descriptor)
        #[arg(long)]
        pub(in crate::cli) notify: bool,
        /// Give the program a pidfd of its client on 9
        #[arg(long)]
        pub(in crate::cli) pidfd: bool,
        #[command(flatten)]
        pub(in crate::cli) kept: Kept,
    }
}

lean! {
    /// How a program gets a listening socket.
    #[derive(Args, Debug)]
    #[command(next_help_heading = DELIVERY)]
    pub(in crate::cli) struct SocketItself {
        /// Where the program finds the listening socket [default: inetd with bind, systemd with activate]
        #[arg(long, value_name = "LAYOUT", value_enum)]
        pub(in crate::cli) layout: Option<SocketLayout>,
        /// The socket on 0: --layout inetd
        #[arg(long)]
        pub(in crate::cli) inetd: bool,
        /// Call the socket NAME in LISTEN_FDNAMES; of several sockets each in turn, so as often as there are sockets [default: as inherited,
        /// else LISTEN_FDNAMES is not set]
        #[arg(long, value_name = "NAME")]
        pub(in crate::cli) fdname: Vec<String>,
    }
}

lean! {
    /// What else of doorward's own the program gets.
    #[derive(Args, Debug)]
    #[command(next_help_heading = DELIVERY)]
    pub(in crate::cli) struct Kept {
        /// Let the program inherit descriptor N of doorward's own (3 to 1023); repeatable [default: none]
        #[arg(long, value_name = "N")]
        pub(in crate::cli) keep_fd: Vec<u32>,
    }
}

lean! {
    /// Who may serve a socket that doorward connects to.
    #[derive(Args, Debug)]
    pub(in crate::cli) struct Server {
        /// Whom the socket that is connected to must be served by: user:NAME|UID, group:NAME|GID, self; repeatable
        #[arg(long, value_name = "WHO")]
        pub(in crate::cli) server: Vec<String>,
    }
}

impl Server {
    /// The words are the same everywhere, who is trusted without them is not.
    pub(super) fn by_default(argument: Arg, who: &str) -> Arg {
        let help = argument.get_help().cloned().unwrap_or_default();
        argument.help(format!("{help} [default: {who}]"))
    }
}

lean! {
    /// How long a client waits.
    #[derive(Args, Debug)]
    pub(in crate::cli) struct Patience {
        /// Give up if the connection (with --notify the greeting, with call the start of the program) takes longer [default: no limit]
        #[arg(long, value_name = "SECONDS")]
        pub(in crate::cli) connect_timeout: Option<String>,
    }
}

lean! {
    /// How it is told that the service is ready.
    #[derive(Args, Debug)]
    #[command(next_help_heading = LIFE)]
    pub(in crate::cli) struct Readiness {
        /// Write a newline to descriptor N when ready, and close it (s6's notification-fd; NOTIFY_SOCKET is told in any case)
        /// [default: none]
        #[arg(long, value_name = "N")]
        pub(in crate::cli) ready_fd: Option<u32>,
    }
}

lean! {
    #[derive(Args, Debug)]
    #[command(next_help_heading = LIFE)]
    pub(in crate::cli) struct Life {
        #[command(flatten)]
        pub(in crate::cli) readiness: Readiness,
        /// After SIGTERM, let children finish for this long, then end them (0: exit at once, children go on)
        #[arg(long, value_name = "SECONDS", default_value = "0")]
        pub(in crate::cli) grace: String,
    }
}

lean! {
    #[derive(Args, Debug)]
    #[command(next_help_heading = "Log")]
    pub(in crate::cli) struct Log {
        /// Log admitted connections and the ends of children too
        #[arg(short, long)]
        pub(in crate::cli) verbose: bool,
        /// Log failures alone, not refusals or the state of the service
        #[arg(short, long)]
        pub(in crate::cli) quiet: bool,
    }
}

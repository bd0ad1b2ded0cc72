//! `--server WHO`: who must be behind a socket that this process connects to.
#![forbid(unsafe_code)]

use super::who::{Matcher, resolve_one};
use super::{Peer, Who};
use std::io;
use std::os::fd::BorrowedFd;

/// Who is trusted, with the ids that the names had when they were resolved.
#[derive(Debug)]
pub(crate) struct Servers {
    any_of: Vec<Matcher>,
    /// As given, for the refusal.
    words: String,
}

impl Servers {
    /// # Errors
    /// A sentence that names the option and the unknown name, or what the resolver said.
    pub(crate) fn resolve(options: &[(Who, String)]) -> Result<Servers, String> {
        let any_of = options
            .iter()
            .map(|(who, name)| resolve_one("--server", who, name));
        let words: Vec<&str> = options.iter().map(|(_, name)| name.as_str()).collect();
        Ok(Servers {
            any_of: any_of.collect::<Result<_, _>>()?,
            words: words.join(" or "),
        })
    }

    /// Asks the kernel who called listen(2) on the socket behind `connection`. What its path looks like by now does not matter.
    ///
    /// # Errors
    /// `PermissionDenied`: somebody else, or nobody that this user namespace knows. The system's, if the kernel does not say.
    pub(crate) fn check(&self, connection: BorrowedFd<'_>) -> io::Result<()> {
        let mut server = Peer::default();
        server.identify_once(connection)?;
        self.judge(&server)
    }

    fn judge(&self, server: &Peer) -> io::Result<()> {
        if self.any_of.iter().any(|who| who.matches(server)) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "server must run as {} (--server) but runs as {server}",
                self.words
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(who: &[&str], uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let options: Vec<_> = who
            .iter()
            .map(|who| (Who::parse(who).unwrap(), (*who).to_owned()))
            .collect();
        let server = Peer {
            uid,
            gid,
            pid: Some(9),
            groups: vec![7],
        };
        Servers::resolve(&options).unwrap().judge(&server)
    }

    #[test]
    fn a_server_is_any_of_those_that_are_named_and_nobody_else() {
        assert!(trusts(&["user:5", "user:6"], Some(6), Some(1)).is_ok());
        assert!(trusts(&["group:7"], Some(1), Some(1)).is_ok());
        let refused = trusts(&["user:5", "group:8"], Some(6), Some(1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "server must run as user:5 or group:8 (--server) but runs as user=6 group=1 pid=9"
        );
    }

    #[test]
    fn an_unmapped_server_is_nobody() {
        assert!(trusts(&["user:65534", "group:65534", "self"], None, None).is_err());
    }
}

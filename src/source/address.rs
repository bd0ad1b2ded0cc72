//! The name of a Unix socket: a path, or a name in the abstract namespace.
#![forbid(unsafe_code)]

use crate::report::Escaped;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::UnixAddr;
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The longest last component of a path: `/proc/self/fd/NNNN/` and it must fit into 107 bytes.
const LONGEST_NAME: usize = 88;
/// The longest path or abstract name that fits into a socket address as it is.
const LONGEST_ADDRESS: usize = 107;

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Path(PathBuf),
    /// Without the leading zero byte.
    Abstract(Vec<u8>),
    /// A listening socket always has a name, but the kernel's word is not taken on trust.
    Unnamed,
}

impl Address {
    /// `--bind`: a path, or `@name`.
    pub(crate) fn parse(text: &OsStr) -> Result<Address, String> {
        let bytes = text.as_bytes();
        if let Some(name) = bytes.strip_prefix(b"@") {
            return match name.len() {
                0 => Err("an abstract name has at least one byte after the @".into()),
                1..=LONGEST_ADDRESS => Ok(Address::Abstract(name.to_vec())),
                length => Err(format!(
                    "the abstract name has {length} bytes; the limit is {LONGEST_ADDRESS}"
                )),
            };
        }
        let name = bytes
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        if name.is_empty() || name == b"." || name == b".." {
            return Err("the path must end in the name of a socket".into());
        }
        if name.len() > LONGEST_NAME {
            return Err(format!(
                "the last component of the path has {} bytes; the limit is {LONGEST_NAME}",
                name.len()
            ));
        }
        Ok(Address::Path(PathBuf::from(text)))
    }

    /// What getsockname(2) gave.
    pub(crate) fn from_kernel(address: &UnixAddr) -> Address {
        if let Some(path) = address.path() {
            Address::Path(path.to_path_buf())
        } else if let Some(name) = address.as_abstract() {
            Address::Abstract(name.to_vec())
        } else {
            Address::Unnamed
        }
    }

    /// The directory and the last component of a path.
    pub(crate) fn split(path: &Path) -> (&Path, &OsStr) {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        (directory, path.file_name().unwrap_or_default())
    }

    /// The path as a socket address, if it is short enough to be one.
    pub(crate) fn short(path: &Path) -> Option<UnixAddr> {
        if path.as_os_str().len() > LONGEST_ADDRESS {
            None
        } else {
            UnixAddr::new(path).ok()
        }
    }

    /// The socket address of a peer there, and the directory through which it leads if the path is too long for one: to be held until
    /// the connection stands.
    pub(crate) fn reach(&self) -> nix::Result<(Option<OwnedFd>, UnixAddr)> {
        let path = match self {
            Address::Path(path) => path,
            Address::Abstract(name) => return Ok((None, UnixAddr::new_abstract(name)?)),
            Address::Unnamed => return Err(Errno::EINVAL),
        };
        if let Some(short) = Address::short(path) {
            return Ok((None, short));
        }
        let (parent, name) = Address::split(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(parent, flags, Mode::empty())?;
        let entry = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let through = UnixAddr::new(&Path::new(&entry).join(name))?;
        Ok((Some(directory), through))
    }

    /// The text of IPCLOCALPATH: the path as it is, an abstract name with `@` and odd bytes as `\xNN`.
    pub(crate) fn local_path(&self) -> OsString {
        match self {
            Address::Path(path) => path.clone().into_os_string(),
            Address::Abstract(name) => {
                OsString::from_vec(format!("@{}", Escaped(name)).into_bytes())
            }
            Address::Unnamed => OsString::new(),
        }
    }
}

impl Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Path(path) => Escaped(path.as_os_str().as_bytes()).fmt(formatter),
            Address::Abstract(name) => write!(formatter, "@{}", Escaped(name)),
            Address::Unnamed => formatter.write_str("(unnamed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_limited_and_paths_are_not() {
        let name = "n".repeat(LONGEST_NAME);
        let path = format!("/{}/{name}", "d".repeat(300));
        assert!(Address::parse(OsStr::new(&path)).is_ok());
        assert!(
            Address::parse(OsStr::new(&format!("{path}n")))
                .unwrap_err()
                .contains("88")
        );
        assert!(
            Address::parse(OsStr::new(&format!("@{}", "n".repeat(108))))
                .unwrap_err()
                .contains("107")
        );
    }

    #[test]
    fn a_path_must_name_a_socket() {
        for path in ["", "/", "/run/", "..", "/run/.", "@"] {
            assert!(Address::parse(OsStr::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        assert_eq!(
            Address::split(Path::new("sock")),
            (Path::new("."), OsStr::new("sock"))
        );
        assert_eq!(
            Address::split(Path::new("/sock")),
            (Path::new("/"), OsStr::new("sock"))
        );
    }
}

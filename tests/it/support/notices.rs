//! The service manager's side of NOTIFY_SOCKET.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// One datagram, and when it came.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The whole text.
    pub text: String,
    /// When it was read here.
    pub at: Instant,
}

/// Receives datagrams with a thread of its own until dropped.
pub struct Notices {
    address: String,
    heard: Arc<(Mutex<Vec<Notice>>, Condvar)>,
    stop: Arc<UnixDatagram>,
}

impl Notices {
    /// Listens on a path that every user may write to.
    pub fn at_path(path: &Path) -> Notices {
        let socket = UnixDatagram::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
        Notices::hear(socket, path.to_str().unwrap().to_owned())
    }

    /// Listens on an abstract name, given without the `@`.
    pub fn at_name(name: &str) -> Notices {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        Notices::hear(
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
        )
    }

    fn hear(socket: UnixDatagram, address: String) -> Notices {
        let socket = Arc::new(socket);
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let notices = Notices {
            address,
            heard: heard.clone(),
            stop: socket.clone(),
        };
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Drop shuts the socket down: the read then gives nothing.
            while let Ok(n @ 1..) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                heard.0.lock().unwrap().push(Notice {
                    text,
                    at: Instant::now(),
                });
                heard.1.notify_all();
            }
        });
        notices
    }

    /// What belongs into NOTIFY_SOCKET.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All that came so far.
    pub fn all(&self) -> Vec<Notice> {
        self.heard.0.lock().unwrap().clone()
    }

    /// The first one that contains `text`, waiting at most `patience` for it.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Option<Notice> {
        self.wait_until(patience, |all| {
            all.iter()
                .find(|notice| notice.text.contains(text))
                .cloned()
        })
    }

    /// Waits until `count` datagrams containing `text` came.
    pub fn wait_count(&self, text: &str, count: usize) -> Option<Vec<Notice>> {
        self.wait_until(DEADLINE, |all| {
            let these: Vec<_> = all
                .iter()
                .filter(|notice| notice.text.contains(text))
                .cloned()
                .collect();
            (these.len() >= count).then_some(these)
        })
    }

    fn wait_until<T>(
        &self,
        patience: Duration,
        look: impl Fn(&[Notice]) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + patience;
        let mut all = self.heard.0.lock().unwrap();
        loop {
            if let Some(found) = look(&all) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            all = self.heard.1.wait_timeout(all, left).unwrap().0;
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
    }
}

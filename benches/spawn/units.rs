//! The rows that a systemd runs: their socket units and services.
#![forbid(unsafe_code)]

use super::common::systemd::PLACE;
use super::peers::{DOORWARD_OPTIONS, Peer, Start};
use std::path::{Path, PathBuf};

/// The names of these rows.
pub const NAMES: [&str; 2] = ["systemd Accept=yes", "doorward under systemd"];

/// A socket unit and its service.
pub struct Units {
    /// Of both, and of the socket: all rows are up at the same time.
    name: &'static str,
    socket: &'static str,
    service: String,
    /// Whether the service is a template, of which each connection makes an instance.
    template: bool,
}

impl Units {
    pub fn socket_name(&self) -> String {
        format!("{}.socket", self.name)
    }

    pub fn service_name(&self) -> String {
        let at = if self.template { "@" } else { "" };
        format!("{}{at}.service", self.name)
    }

    /// All services that there may be, as systemctl is told.
    pub fn services(&self) -> String {
        self.service_name().replace('@', "@*")
    }

    /// Of the socket, as seen inside.
    pub fn path(&self) -> PathBuf {
        Path::new(PLACE).join(self.socket_name())
    }

    /// The file of the socket unit.
    pub fn socket(&self) -> String {
        format!(
            "[Socket]\nListenStream={}\nRemoveOnStop=yes\n{}\n",
            self.path().display(),
            self.socket
        )
    }

    /// The file of the service.
    pub fn service(&self) -> String {
        format!(
            "[Unit]\nCollectMode=inactive-or-failed\n[Service]\n{}\n",
            self.service
        )
    }
}

/// The rows; `doorward` and `child` are paths inside.
pub fn rows(doorward: &Path, child: &Path) -> Vec<Peer> {
    let (doorward, child) = (doorward.display(), child.display());
    let accept_yes = Units {
        name: "bench-accept-yes",
        socket: "Accept=yes\nMaxConnections=4096\nTriggerLimitIntervalSec=0",
        service: format!(
            "ExecStart={child} 1\nStandardInput=socket\nStandardOutput=socket\nStandardError=null"
        ),
        template: true,
    };
    let accept_no = Units {
        name: "bench-doorward",
        socket: "Accept=no",
        service: format!(
            "Type=notify\nExecStart={doorward} {DOORWARD_OPTIONS} --allow all -- {child} 7\nTasksMax=8192"
        ),
        template: false,
    };
    let starts = [accept_yes, accept_no].map(Start::Units);
    NAMES
        .into_iter()
        .zip(starts)
        .map(|(name, start)| Peer {
            name: name.to_owned(),
            package: "systemd",
            needs_command: None,
            start,
        })
        .collect()
}

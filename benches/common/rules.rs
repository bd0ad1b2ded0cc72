//! Rules in the forms of the s6 accessrules: a directory, and a constant database (cdb) of the same.
#![forbid(unsafe_code)]

use super::cdb;
use anyhow::Result;
use nix::unistd::geteuid;
use std::fs;
use std::path::Path;

/// What a rule says of whom it names.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// With nothing in the environment and no other program.
    Allow,
    Deny,
}

/// Nobody has this uid or gid, nor one of the next millions.
const NOBODY: u32 = 4_000_000;

/// Ten entries; ours is found at the second place that is looked at, `uid/N`.
fn ten() -> Vec<(String, Verdict)> {
    let others = (0..6).map(|other| format!("uid/{}", NOBODY + other));
    let groups = (0..2).map(|other| format!("gid/{}", NOBODY + other));
    let allowed = others.chain(groups).chain([format!("uid/{}", geteuid())]);
    let denied = ("uid/default".to_owned(), Verdict::Deny);
    allowed
        .map(|key| (key, Verdict::Allow))
        .chain([denied])
        .collect()
}

/// The ten as a directory.
pub fn write_directory(directory: &Path) -> Result<()> {
    for (key, verdict) in ten() {
        let name = match verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        };
        fs::create_dir_all(directory.join(&key))?;
        fs::write(directory.join(&key).join(name), "")?;
    }
    Ok(())
}

/// The ten as a database.
pub fn write_database(file: &Path) -> Result<()> {
    cdb::write(file, ten())
}

/// A database of so many records, all of which allow: us, and users that nobody is.
pub fn write_large_database(file: &Path, records: u32) -> Result<()> {
    let others = (1..records).map(|other| NOBODY + other);
    let users = others.chain([geteuid().as_raw()]);
    cdb::write(
        file,
        users.map(|uid| (format!("uid/{uid}"), Verdict::Allow)),
    )
}

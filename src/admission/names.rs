//! User and group names, through the system's resolver.
#![forbid(unsafe_code)]

use nix::unistd::{Gid, Group, Uid, User as Account};
use std::io;

/// An account, as far as doorward needs it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl From<Account> for Found {
    fn from(account: Account) -> Found {
        Found {
            name: account.name,
            uid: account.uid.as_raw(),
            gid: account.gid.as_raw(),
        }
    }
}

/// Decimal, without sign; the largest number is no id (it means "leave as it is" to chown and setuid).
pub(crate) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// The account NAME; `None` if there is none.
pub(crate) fn user(name: &str) -> io::Result<Option<Found>> {
    if cfg!(target_feature = "crt-static") {
        return without_nss::passwd(name);
    }
    Ok(Account::from_name(name)?.map(Found::from))
}

/// The account with the number `uid`; `None` if there is none.
pub(crate) fn user_of(uid: u32) -> io::Result<Option<Found>> {
    if cfg!(target_feature = "crt-static") {
        return without_nss::passwd(&uid.to_string());
    }
    Ok(Account::from_uid(Uid::from_raw(uid))?.map(Found::from))
}

/// The gid of the group NAME; `None` if there is none.
pub(crate) fn group(name: &str) -> io::Result<Option<u32>> {
    if cfg!(target_feature = "crt-static") {
        return without_nss::group(name);
    }
    Ok(Group::from_name(name)?.map(|group| Gid::as_raw(group.gid)))
}

/// The supplementary groups of an account, `gid` included.
pub(crate) fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    if cfg!(target_feature = "crt-static") {
        return without_nss::groups_of(name, gid);
    }
    let name =
        std::ffi::CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(nix::unistd::getgrouplist(&name, Gid::from_raw(gid))?
        .into_iter()
        .map(Gid::as_raw)
        .collect())
}

/// A static binary cannot load the resolver's modules: the files first, then `getent`, which can.
mod without_nss {
    use super::{Found, number};
    use std::io;
    use std::process::{Command, Stdio};

    pub(super) fn passwd(key: &str) -> io::Result<Option<Found>> {
        look_up("passwd", key, |fields| {
            let [name, _, uid, gid, ..] = fields else {
                return None;
            };
            let found = Found {
                name: (*name).to_owned(),
                uid: number(uid)?,
                gid: number(gid)?,
            };
            (found.name == key || *uid == key).then_some(found)
        })
    }

    pub(super) fn group(key: &str) -> io::Result<Option<u32>> {
        look_up("group", key, |fields| {
            let [name, _, gid, ..] = fields else {
                return None;
            };
            (*name == key).then(|| number(gid)).flatten()
        })
    }

    pub(super) fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
        let mut groups = vec![gid];
        let mut add =
            |group: Option<u32>| groups.extend(group.filter(|group| !groups.contains(group)));
        for line in std::fs::read_to_string("/etc/group")?.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, group, members, ..] = fields[..]
                && members.split(',').any(|member| member == name)
            {
                add(number(group));
            }
        }
        if let Some(line) = getent("initgroups", name)? {
            line.split_ascii_whitespace()
                .skip(1)
                .for_each(|group| add(number(group)));
        }
        Ok(groups)
    }

    fn look_up<T>(
        database: &str,
        key: &str,
        parse: impl Fn(&[&str]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let find = |text: &str| {
            text.lines()
                .find_map(|line| parse(&line.split(':').collect::<Vec<_>>()))
        };
        if let Some(found) = find(&std::fs::read_to_string(format!("/etc/{database}"))?) {
            return Ok(Some(found));
        }
        Ok(getent(database, key)?.and_then(|text| find(&text)))
    }

    /// What `getent` prints; `None` without it (then the files are all there is) or where it finds nothing.
    fn getent(database: &str, key: &str) -> io::Result<Option<String>> {
        if key.starts_with('-') {
            return Ok(None);
        }
        match Command::new("getent")
            .args([database, key])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
        {
            Ok(output) => Ok(output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_files_are_read_without_the_resolver() -> std::io::Result<()> {
            assert_eq!(super::passwd("root")?.map(|found| found.uid), Some(0));
            assert_eq!(
                super::passwd("0")?.map(|found| found.name),
                Some("root".to_owned())
            );
            assert_eq!(super::group("root")?, Some(0));
            assert_eq!(super::group("no-such-group-here")?, None);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_decimal_and_not_the_largest() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("4294967294"), Some(u32::MAX - 1));
        for text in ["4294967295", "4294967296", "+1", "-1", "", "1x", " 1"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }
}

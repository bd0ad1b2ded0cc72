//! `--run-as USER[:GROUP]`: from root to a user, for good.
#![forbid(unsafe_code)]

use crate::admission::names;
use crate::exit::{self, Unable as _};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};

/// A user to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// Splits `USER[:GROUP]`.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)))
}

fn group_of(option: &str, name: &str) -> exit::Result<u32> {
    if let Some(gid) = names::number(name) {
        return Ok(gid);
    }
    names::group(name)
        .unable(format!("look up the group {name}"))?
        .ok_or_else(|| exit::wrong_use(format!("{option}: no such group: {name}")))
}

/// The ids of `--owner USER[:GROUP]`; a number needs no account.
pub(crate) fn owner(option: &str, text: &str) -> exit::Result<(u32, Option<u32>)> {
    let (user, group) = split(text);
    let uid = match names::number(user) {
        Some(uid) => uid,
        None => account(option, user)?.uid,
    };
    Ok((uid, group.map(|group| group_of(option, group)).transpose()?))
}

fn account(option: &str, name: &str) -> exit::Result<names::Found> {
    let found = names::user(name).unable(format!("look up the user {name}"))?;
    found.ok_or_else(|| exit::wrong_use(format!("{option}: no such user: {name}")))
}

/// The ids of `--run-as USER[:GROUP]`: the account's own groups, or GROUP alone in place of its primary one.
pub(crate) fn identity(option: &str, text: &str) -> exit::Result<Identity> {
    let (user, group) = split(text);
    let group = group.map(|group| group_of(option, group)).transpose()?;
    let (_, identity) = identity_of(option, user, group)?;
    identity.ok_or_else(|| {
        exit::wrong_use(format!(
            "{option}: {user} has no account, so it needs a group: {user}:GROUP"
        ))
    })
}

/// The same of a user and a group that were given apart, with the account's name if there is one.
pub(crate) fn user_and_group(
    user: (&str, &str),
    group: (&str, Option<&str>),
) -> exit::Result<(Option<String>, Identity)> {
    let gid = group.1.map(|name| group_of(group.0, name)).transpose()?;
    let (name, identity) = identity_of(user.0, user.1, gid)?;
    let identity = identity.ok_or_else(|| {
        exit::wrong_use(format!(
            "{} {}: there is no such account, so it needs {}",
            user.0, user.1, group.0
        ))
    });
    Ok((name, identity?))
}

/// The name of the account, if there is one, and its ids; `None` for a number without an account or a group.
fn identity_of(
    option: &str,
    user: &str,
    group: Option<u32>,
) -> exit::Result<(Option<String>, Option<Identity>)> {
    let number = names::number(user);
    let found = match number {
        Some(uid) => names::user_of(uid).unable(format!("look up the user {user}"))?,
        None => Some(account(option, user)?),
    };
    let Some(found) = found else {
        let identity = number.zip(group).map(|(uid, gid)| Identity {
            uid,
            gid,
            groups: vec![gid],
        });
        return Ok((None, identity));
    };
    let gid = group.unwrap_or(found.gid);
    let groups =
        names::groups_of(&found.name, gid).unable(format!("look up the groups of {user}"))?;
    let identity = Identity {
        uid: found.uid,
        gid,
        groups,
    };
    Ok((Some(found.name), Some(identity)))
}

/// Becomes `identity`: supplementary groups, gid, uid, in this order, and looks whether it is so.
pub(crate) fn become_identity(identity: &Identity) -> exit::Result<()> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let is_already = |uids: nix::Result<nix::unistd::ResUid>| {
        uids.is_ok_and(|now| now.real == uid && now.effective == uid && now.saved == uid)
    };
    let has_gid =
        || getresgid().is_ok_and(|now| now.real == gid && now.effective == gid && now.saved == gid);
    // The effective group need not be among the supplementary ones: it counts without.
    let has_groups = |kept: &[Gid]| {
        kept.iter().all(|group| groups.contains(group))
            && groups
                .iter()
                .all(|group| kept.contains(group) || *group == gid)
    };
    // Who is that already, and may not set groups, has nothing to do; who has other groups is not that yet.
    if !uid.is_root()
        && is_already(getresuid())
        && has_gid()
        && getgroups().is_ok_and(|kept| has_groups(&kept))
    {
        return Ok(());
    }
    setgroups(&groups).unable("set the supplementary groups")?;
    setresgid(gid, gid, gid).unable(format!("become group {gid}"))?;
    setresuid(uid, uid, uid).unable(format!("become user {uid}"))?;
    let kept = getgroups().unable("read the supplementary groups")?;
    let no_way_back = uid.is_root()
        || setresuid(
            Uid::from_raw(u32::MAX),
            Uid::from_raw(0),
            Uid::from_raw(u32::MAX),
        )
        .is_err();
    if !(is_already(getresuid()) && has_gid() && has_groups(&kept) && no_way_back) {
        return Err(exit::system(format!(
            "unable to become user {uid}: the ids are not what they were set to"
        )));
    }
    Ok(())
}

//! `--allow WHO` and `--deny WHO`: the first that matches decides.
#![forbid(unsafe_code)]

use super::{Peer, RuleName, Verdict, names};
use crate::report::warning;
use std::io;
use std::sync::Arc;

/// What a matching rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// Whom a rule is about, as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    User(String),
    Group(String),
    /// doorward's own effective uid.
    Myself,
    All,
}

impl Who {
    /// `user:NAME|UID`, `group:NAME|GID`, `self`, `all`.
    pub(crate) fn parse(text: &str) -> Result<Who, String> {
        match text.split_once(':') {
            Some(("user", name)) if !name.is_empty() => Ok(Who::User(name.to_owned())),
            Some(("group", name)) if !name.is_empty() => Ok(Who::Group(name.to_owned())),
            None if text == "self" => Ok(Who::Myself),
            None if text == "all" => Ok(Who::All),
            _ => Err("WHO is user:NAME|UID, group:NAME|GID, self or all".to_owned()),
        }
    }

    fn resolve(&self) -> io::Result<Option<Matcher>> {
        Ok(match self {
            Who::User(name) => match names::number(name) {
                Some(uid) => Some(Matcher::Uid(uid)),
                None => names::user(name)?.map(|found| Matcher::Uid(found.uid)),
            },
            Who::Group(name) => match names::number(name) {
                Some(gid) => Some(Matcher::Gid(gid)),
                None => names::group(name)?.map(Matcher::Gid),
            },
            Who::Myself => Some(Matcher::Uid(nix::unistd::geteuid().as_raw())),
            Who::All => Some(Matcher::All),
        })
    }
}

/// The ids of one WHO, which was given as `name` to `option`.
pub(super) fn resolve_one(option: &str, who: &Who, name: &str) -> Result<Matcher, String> {
    match who.resolve() {
        Ok(Some(matcher)) => Ok(matcher),
        Ok(None) => Err(format!("{option} {name}: no such user or group")),
        Err(error) => Err(format!("{option} {name}: unable to look it up: {error}")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Matcher {
    Uid(u32),
    /// Effective or supplementary.
    Gid(u32),
    All,
}

impl Matcher {
    pub(super) fn matches(self, peer: &Peer) -> bool {
        match self {
            Matcher::Uid(uid) => peer.uid == Some(uid),
            Matcher::Gid(gid) => peer.gid == Some(gid) || peer.groups.contains(&gid),
            Matcher::All => true,
        }
    }
}

#[derive(Debug)]
struct Rule {
    effect: Effect,
    who: Who,
    /// As given, for `rule=`.
    name: Arc<str>,
    matcher: Matcher,
}

/// The options in their order, with the ids that the names had when they were resolved last.
#[derive(Debug)]
pub(crate) struct List {
    rules: Vec<Rule>,
    /// What happens to a peer that no rule matches.
    default: Effect,
}

impl List {
    /// # Errors
    /// A sentence that names the option and the unknown name, or what the resolver said.
    pub(crate) fn resolve(options: &[(Effect, Who, String)]) -> Result<List, String> {
        let mut rules = Vec::with_capacity(options.len());
        for (effect, who, name) in options {
            let option = match effect {
                Effect::Allow => "--allow",
                Effect::Deny => "--deny",
            };
            let matcher = resolve_one(option, who, name)?;
            rules.push(Rule {
                effect: *effect,
                who: who.clone(),
                name: name.as_str().into(),
                matcher,
            });
        }
        // Whoever lists some that may come in means that the others may not.
        let default = if rules.iter().any(|rule| rule.effect == Effect::Allow) {
            Effect::Deny
        } else {
            Effect::Allow
        };
        Ok(List { rules, default })
    }

    /// The same rules with today's ids; a name that does not resolve keeps its last id, which is logged.
    pub(crate) fn resolve_again(&self) -> List {
        let rules = self.rules.iter().map(|rule| {
            let matcher = match rule.who.resolve() {
                Ok(Some(matcher)) => matcher,
                Ok(None) => {
                    warning!(
                        "unable to resolve {}: no such user or group; its last id stays",
                        rule.name
                    );
                    rule.matcher
                }
                Err(error) => {
                    warning!(
                        "unable to resolve {}: {error}; its last id stays",
                        rule.name
                    );
                    rule.matcher
                }
            };
            Rule {
                effect: rule.effect,
                who: rule.who.clone(),
                name: Arc::clone(&rule.name),
                matcher,
            }
        });
        List {
            rules: rules.collect(),
            default: self.default,
        }
    }

    pub(crate) fn judge(&self, peer: &Peer) -> Verdict {
        let (effect, name) = match self.rules.iter().find(|rule| rule.matcher.matches(peer)) {
            Some(rule) => (rule.effect, RuleName::Option(Arc::clone(&rule.name))),
            None => (self.default, RuleName::Fixed("default")),
        };
        match effect {
            Effect::Allow => Verdict::allow(name),
            Effect::Deny => Verdict::Deny(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(options: &[(Effect, &str)]) -> List {
        let options: Vec<_> = options
            .iter()
            .map(|(effect, who)| (*effect, Who::parse(who).unwrap(), (*who).to_owned()))
            .collect();
        List::resolve(&options).unwrap()
    }

    fn admits(list: &List, uid: Option<u32>, gid: Option<u32>, groups: &[u32]) -> bool {
        let peer = Peer {
            uid,
            gid,
            pid: None,
            groups: groups.to_vec(),
        };
        matches!(list.judge(&peer), Verdict::Allow { .. })
    }

    #[test]
    fn the_first_match_wins_in_the_given_order() {
        let rules = list(&[
            (Effect::Deny, "user:5"),
            (Effect::Allow, "group:7"),
            (Effect::Deny, "all"),
        ]);
        assert!(!admits(&rules, Some(5), Some(7), &[]));
        assert!(admits(&rules, Some(6), Some(7), &[]));
        assert!(!admits(&rules, Some(6), Some(8), &[]));
    }

    #[test]
    fn with_an_allow_the_default_is_deny_and_without_one_allow() {
        assert!(!admits(
            &list(&[(Effect::Allow, "user:5")]),
            Some(6),
            Some(6),
            &[]
        ));
        assert!(admits(
            &list(&[(Effect::Deny, "user:5")]),
            Some(6),
            Some(6),
            &[]
        ));
    }

    #[test]
    fn groups_are_the_effective_one_and_the_supplementary_ones() {
        let rules = list(&[(Effect::Allow, "group:7")]);
        assert!(admits(&rules, Some(1), Some(7), &[]));
        assert!(admits(&rules, Some(1), Some(1), &[3, 7]));
        assert!(!admits(&rules, Some(1), Some(1), &[3]));
    }

    #[test]
    fn an_unmapped_peer_is_all_and_nobody_else() {
        assert!(!admits(
            &list(&[
                (Effect::Allow, "user:65534"),
                (Effect::Allow, "group:65534")
            ]),
            None,
            None,
            &[]
        ));
        assert!(!admits(&list(&[(Effect::Allow, "self")]), None, None, &[]));
        assert!(admits(&list(&[(Effect::Allow, "all")]), None, None, &[]));
    }

    #[test]
    fn a_who_is_one_of_four_forms() {
        for text in [
            "", "root", "user:", "group:", "uid:5", "Self", "all:", "self:1", "user",
        ] {
            assert!(Who::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Who::parse("user:a:b"), Ok(Who::User("a:b".into())));
    }
}

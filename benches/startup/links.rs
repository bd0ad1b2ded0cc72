//! The rows: links of a chain, each of which becomes the smallest child.
#![forbid(unsafe_code)]

use super::common::options::Also;
use std::path::Path;

/// The names that ratios refer to.
pub const NONE: &str = "none, the child alone";
pub const S6_ACCESS: &str = "s6-ipcserver-access";
pub const S6_CLIENT: &str = "s6-ipcclient";

/// Where a link gets its connection from.
#[derive(Clone, Copy, PartialEq)]
pub enum Origin {
    /// It is given one on 0 and 1, as a server's child is.
    Server,
    /// It makes one, to the harness.
    Itself,
}

/// One row of the table.
pub struct Link {
    pub name: String,
    pub from: Origin,
    /// The relative that it is compared with.
    pub beside: &'static str,
    /// A command of doorward's that it takes.
    pub needs_command: Option<&'static str>,
    pub command: Vec<String>,
}

/// What the commands need to name.
pub struct Places<'a> {
    pub socket: &'a Path,
    pub rules: &'a Path,
    pub child: &'a Path,
    pub doorward: &'a Path,
    /// Other builds of doorward.
    pub also: &'a [Also],
}

/// All rows.
pub fn all(places: &Places) -> Vec<Link> {
    let [socket, rules, child] = [places.socket, places.rules, places.child].map(Path::display);
    let server = |name: &str, command: &str| link(name, Origin::Server, S6_ACCESS, command);
    let itself = |name: &str, command: &str| link(name, Origin::Itself, S6_CLIENT, command);
    let mut links = vec![
        server(NONE, &format!("{child} 1")),
        server(
            S6_ACCESS,
            &format!("s6-ipcserver-access -v0 -i {rules} {child} 1"),
        ),
        itself(S6_CLIENT, &format!("s6-ipcclient {socket} {child} 7")),
    ];
    let builds = places
        .also
        .iter()
        .map(|also| (also.name.as_str(), also.path.as_path()));
    for (name, program) in [("doorward", places.doorward)].into_iter().chain(builds) {
        let program = program.display();
        links.push(Link {
            needs_command: Some("admit"),
            ..server(
                &format!("{name} admit"),
                &format!("{program} admit -q --rules {rules} {child} 1"),
            )
        });
        links.push(Link {
            needs_command: Some("connect"),
            ..itself(
                &format!("{name} connect"),
                &format!("{program} connect {socket} {child} 7"),
            )
        });
    }
    links
}

/// No path of ours holds white space, so a command line may be written as one.
fn link(name: &str, from: Origin, beside: &'static str, command: &str) -> Link {
    Link {
        name: name.to_owned(),
        from,
        beside,
        needs_command: None,
        command: command.split_whitespace().map(str::to_owned).collect(),
    }
}

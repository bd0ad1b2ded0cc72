//! Process groups: whether somebody lives in them. Their leaders may have ended, others not.
#![forbid(unsafe_code)]

use std::collections::HashSet;

/// Whether any process but a zombie is left in one of `groups`; where that cannot be seen, one is.
pub(super) fn any_alive(groups: &HashSet<i32>) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    processes
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .any(|stat| is_alive_in(&stat, groups))
}

/// Reads a line of /proc/PID/stat: `PID (NAME) STATE PPID PGRP ...`, where NAME may hold anything.
fn is_alive_in(stat: &str, groups: &HashSet<i32>) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    let (state, group) = (
        fields.next(),
        fields.nth(1).and_then(|group| group.parse().ok()),
    );
    state != Some("Z") && group.is_some_and(|group| groups.contains(&group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_living_members_of_the_groups_count() {
        let groups = [77].into();
        assert!(is_alive_in("80 (sh) S 1 77 77 0 -1", &groups));
        assert!(!is_alive_in("77 (sh) Z 1 77 77 0 -1", &groups));
        assert!(!is_alive_in("81 (evil) S 1 77 ) S 1 78 78 0 -1", &groups));
    }
}

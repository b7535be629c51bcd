//! What changes between two closures, package by package, as far as the names of store paths tell.
//!
//! A name says what a path was made from and not what is in it: this is for people to see what
//! a release is about, and no check of it.

use std::collections::{BTreeMap, BTreeSet};

/// A package of which the closures have other versions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The package's name.
    pub name: String,
    /// The versions in the old closure only; an empty one is a package without a version.
    pub removed: Vec<String>,
    /// The versions in the new closure only.
    pub added: Vec<String>,
}

/// Compares two closures, given as store paths.
pub fn changes<'a>(
    old: impl IntoIterator<Item = &'a str>,
    new: impl IntoIterator<Item = &'a str>,
) -> Vec<Change> {
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let none = BTreeSet::new();
    let changes = names.into_iter().filter_map(|name| {
        let (old, new) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        if old == new {
            return None;
        }
        let only = |these: &BTreeSet<&str>, others: &BTreeSet<&str>| {
            these.difference(others).map(|version| (*version).to_owned()).collect()
        };
        let (removed, added) = (only(old, new), only(new, old));
        Some(Change { name: (*name).to_owned(), removed, added })
    });
    changes.collect()
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |versions: &[String]| {
            let versions: Vec<_> =
                versions.iter().map(|it| if it.is_empty() { "?" } else { it }).collect();
            versions.join(", ")
        };
        let (removed, added) = (shown(&self.removed), shown(&self.added));
        match (self.removed.is_empty(), self.added.is_empty()) {
            (true, _) if self.added == [""] => write!(f, "{}: new", self.name),
            (_, true) if self.removed == [""] => write!(f, "{}: gone", self.name),
            (true, _) => write!(f, "{}: new, {added}", self.name),
            (_, true) => write!(f, "{}: {removed}, gone", self.name),
            _ => write!(f, "{}: {removed} → {added}", self.name),
        }
    }
}

/// Gives the versions of each package.
fn versions<'a>(paths: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for path in paths {
        let base = path.rsplit('/').next().unwrap_or(path);
        let name = base.split_once('-').map_or(base, |(_, name)| name);
        let (package, version) = split(name);
        versions.entry(package).or_default().insert(version);
    }
    versions
}

/// Splits a name where its version begins: at the first dash that no letter follows, as Nix does.
fn split(name: &str) -> (&str, &str) {
    let dash = name
        .match_indices('-')
        .find(|(at, _)| name[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic()));
    dash.map_or((name, ""), |(at, _)| (&name[..at], &name[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        names
            .iter()
            .map(|name| format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}"))
            .collect()
    }

    fn shown(old: &[&str], new: &[&str]) -> Vec<String> {
        let (old, new) = (paths(old), paths(new));
        let changes = changes(old.iter().map(String::as_str), new.iter().map(String::as_str));
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn packages_that_are_new_gone_or_of_another_version_are_shown_and_others_are_not() {
        let old = ["linux-6.12.1", "bash-5.2p37", "glibc-2.40", "unit-sshd.service", "vim-9.1"];
        let new = ["linux-6.12.2", "bash-5.2p37", "glibc-2.40", "glibc-2.41", "xz-5.6", "etc"];
        assert_eq!(
            shown(&old, &new),
            [
                "etc: new",
                "glibc: new, 2.41",
                "linux: 6.12.1 → 6.12.2",
                "unit-sshd.service: gone",
                "vim: 9.1, gone",
                "xz: new, 5.6",
            ]
        );
        assert!(shown(&new, &new).is_empty());
    }

    #[test]
    fn a_version_begins_where_nix_says() {
        for (name, expected) in [
            ("gcc-13.3.0-lib", ("gcc", "13.3.0-lib")),
            ("nixos-system-a-26.05.1", ("nixos-system-a", "26.05.1")),
            ("source", ("source", "")),
            ("x-", ("x-", "")),
            ("a--1", ("a", "-1")),
        ] {
            assert_eq!(split(name), expected);
        }
    }
}

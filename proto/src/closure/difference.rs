//! Which paths of a closure are not what was signed.

use std::{collections::BTreeMap, fmt};

use super::Manifest;
use crate::store_path::StorePath;

/// How many paths are named where all are counted.
const NAMED: usize = 3;

/// The paths that differ, each with how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    paths: BTreeMap<StorePath, How>,
}

/// How a path differs from what was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It has other bytes.
    Bytes,
    /// It has the same bytes, and refers to other paths.
    References,
    /// It was signed, and is not there.
    Missing,
    /// It is there, and was not signed.
    Unsigned,
}

impl Manifest {
    /// Gives how much a path takes in the store; none where it is not in the closure.
    pub fn size_of(&self, path: &StorePath) -> Option<u64> {
        self.paths.get(path).map(|content| content.nar_size)
    }

    /// Compares what was found with this, which was signed.
    pub fn differing(&self, found: &Self) -> Differing {
        let mut paths = BTreeMap::new();
        for (path, signed) in &self.paths {
            let how = match found.paths.get(path) {
                None => How::Missing,
                Some(content) if content == signed => continue,
                Some(content)
                    if (content.nar_hash, content.nar_size)
                        == (signed.nar_hash, signed.nar_size) =>
                {
                    How::References
                }
                Some(_) => How::Bytes,
            };
            paths.insert(path.clone(), how);
        }
        for path in found.paths().filter(|path| !self.contains(path)) {
            paths.insert(path.clone(), How::Unsigned);
        }
        Differing { paths }
    }
}

impl Differing {
    /// Gives the paths in the order of their bytes, each with how it differs.
    pub fn paths(&self) -> impl Iterator<Item = (&StorePath, How)> {
        self.paths.iter().map(|(path, how)| (path, *how))
    }
}

/// Counts the paths, and names the first of them.
impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.paths.len() {
            1 => f.write_str("1 path differs: ")?,
            count => write!(f, "{count} paths differ: ")?,
        }
        for (at, (path, how)) in self.paths().take(NAMED).enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{path} {how}")?;
        }
        match self.paths.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "has other bytes",
            Self::References => "refers to others",
            Self::Missing => "is not there",
            Self::Unsigned => "was not signed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::tests::{DEP, TOP, dump};

    #[test]
    fn each_path_that_differs_is_told_with_how() {
        let read = |text: &str| Manifest::from_dump_db(text).unwrap();
        let signed = read(&dump());
        let other = "/nix/store/a38c84jn4s42577ryq6vjva6ika3dnfm-other";
        let cases = [
            (dump(), vec![]),
            (dump().replace("0a43", "0a44"), vec![(DEP, How::Bytes)]),
            (dump().replace("\n120\n", "\n121\n"), vec![(DEP, How::Bytes)]),
            (
                dump().replace(&format!("2\n{TOP}\n{DEP}\n"), &format!("1\n{DEP}\n")),
                vec![(TOP, How::References)],
            ),
            (
                dump().replace(DEP, other),
                vec![(other, How::Unsigned), (DEP, How::Missing), (TOP, How::References)],
            ),
        ];
        for (found, expected) in cases {
            let differing = signed.differing(&read(&found));
            let told: Vec<_> = differing.paths().map(|(path, how)| (path.as_str(), how)).collect();
            assert_eq!(told, expected, "{found}");
        }
        assert_eq!(signed.size_of(&DEP.parse().unwrap()), Some(120));
        assert_eq!(signed.size_of(&other.parse().unwrap()), None);
    }

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let path = |at: usize| format!("/nix/store/{at:032}-p");
        let dump = |hash: char| {
            let entry = |at| format!("{}\n{}\n9\n\n0\n", path(at), String::from(hash).repeat(64));
            (0..7).map(entry).collect::<String>()
        };
        let read = |hash| Manifest::from_dump_db(&dump(hash)).unwrap();
        let said = read('a').differing(&read('b')).to_string();
        let named = [0, 1, 2].map(|at| format!("{} has other bytes", path(at))).join(", ");
        assert_eq!(said, format!("7 paths differ: {named}, and 4 more"));
    }
}

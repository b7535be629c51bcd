//! What `nix-store --realise` prints: first what is missing, then each path that it fetches.

use std::{collections::BTreeMap, fmt};

use herald_proto::target::Closure;

use super::nix_log::{self, Said};
use crate::room::Size;

/// How many of the last lines of Nix's words are kept.
const KEPT_LINES: usize = 8;

/// How far it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// How many paths were begun.
    pub(super) done: u64,
    /// How many there are to be.
    pub(super) total: u64,
    /// The paths that are being copied, by their activities.
    copying: BTreeMap<u64, String>,
    words: Vec<String>,
}

/// What Nix says is to be fetched, by what the caches say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// How many store paths.
    pub(super) paths: u64,
    /// How much they take in the store.
    pub(super) unpacked: Size,
    /// Nix rounds: it may be so many bytes less.
    rounding: u64,
}

/// What follows from what Nix says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// So much is missing.
    Missing(Missing),
    /// A cache sends more than it has announced.
    TooMuch(TooMuch),
}

/// A cache sends more of a path than it has announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a cache sends more of {path} than the {announced} bytes that it has announced; compare the caches"
)]
pub(super) struct TooMuch {
    /// Which path.
    path: String,
    /// How many bytes its archive was said to have.
    announced: u64,
}

impl Fetched {
    /// Takes in a line; gives what is news.
    pub(super) fn read(&mut self, line: &str) -> Option<News> {
        match nix_log::read(line) {
            Said::Words(words) => {
                let missing = self.hear(&words);
                self.keep(words);
                missing.map(News::Missing)
            }
            Said::Copies { activity, path } => {
                self.done += 1;
                self.copying.insert(activity, path);
                None
            }
            Said::Did { activity, done, expected } if done > expected && expected > 0 => {
                let path = self.copying.get(&activity)?.clone();
                Some(News::TooMuch(TooMuch { path, announced: expected }))
            }
            Said::Ended { activity } => {
                self.copying.remove(&activity);
                None
            }
            Said::Did { .. } | Said::Else => None,
        }
    }

    /// Gives the last of Nix's words, by which a failure is explained.
    pub(super) fn last_words(&self) -> String {
        self.words.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn keep(&mut self, words: String) {
        let lines = words.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        self.words.extend(lines);
        let surplus = self.words.len().saturating_sub(KEPT_LINES);
        self.words.drain(..surplus);
    }

    fn hear(&mut self, line: &str) -> Option<Missing> {
        if line.starts_with("copying path ") || line.starts_with("building ") {
            self.done += 1;
            return None;
        }
        let count = if let Some(rest) = line.strip_prefix("these ") {
            rest.split_whitespace().next()?.parse::<u64>().ok()?
        } else if line.starts_with("this path will be")
            || line.starts_with("this derivation will be")
        {
            1
        } else {
            return None;
        };
        self.total += count;
        let (unpacked, rounding) = unpacked(line)?;
        Some(Missing { paths: count, unpacked: Size::of_bytes(unpacked), rounding })
    }
}

impl Missing {
    /// Tells whether that is more than the whole of what was signed.
    pub(super) fn exceeds(&self, signed: &Closure) -> bool {
        let least = self.unpacked.bytes().saturating_sub(self.rounding);
        self.paths > signed.paths || least > signed.size
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} paths and {} bytes", self.paths, self.unpacked.bytes())
    }
}

/// Reads `…, 12.34 MiB unpacked):`, and how much that was rounded.
fn unpacked(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_once(" unpacked)")?.0.rsplit(' ');
    let unit: u64 = match words.next()? {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let number = words.next()?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(part.len()).ok().filter(|places| *places <= 6)?;
    let (unit, step) = (u128::from(unit), u128::from(10u64.pow(places)));
    let (whole, part) = (whole.parse::<u64>().ok()?, part.parse::<u64>().ok()?);
    let bytes = u128::from(whole) * unit + u128::from(part) * unit / step;
    Some((u64::try_from(bytes).ok()?, u64::try_from(unit / step).ok()? + 1))
}

#[cfg(test)]
mod tests {
    use herald_proto::id::ClosureDigest;

    use super::*;

    fn missing(line: &str) -> Option<Missing> {
        match Fetched::default().read(line) {
            Some(News::Missing(missing)) => Some(missing),
            _ => None,
        }
    }

    #[test]
    fn progress_is_read_from_what_nix_prints() {
        let mut fetched = Fetched::default();
        for line in [
            "these 3 paths will be fetched (0.01 MiB download, 0.02 MiB unpacked):",
            "  /nix/store/a",
            "copying path '/nix/store/a' from 'file:///cache'...",
            "copying path '/nix/store/b' from 'file:///cache'...",
        ] {
            fetched.read(line);
        }
        assert_eq!((fetched.done, fetched.total), (2, 3));
        assert!(fetched.last_words().ends_with("'/nix/store/b' from 'file:///cache'..."));
        fetched.read(&"a line\n \n".repeat(99));
        assert_eq!(fetched.last_words(), ["a line"; KEPT_LINES].join("\n"));
    }

    #[test]
    fn more_bytes_than_were_announced_are_noticed_as_they_come() {
        let mut fetched = Fetched::default();
        let did = |activity: u64, done: u64| {
            let fields = format!("[{done},120,0,0]");
            format!(r#"@nix {{"action":"result","fields":{fields},"id":{activity},"type":105}}"#)
        };
        let begins = r#"@nix {"action":"start","fields":["/nix/store/a"],"id":7,"type":100}"#;
        assert_eq!(fetched.read(&did(7, 900)), None, "of something else than a path");
        assert_eq!(fetched.read(begins), None);
        assert_eq!(fetched.done, 1);
        assert_eq!(fetched.read(&did(7, 120)), None);
        let too_much = News::TooMuch(TooMuch { path: "/nix/store/a".to_owned(), announced: 120 });
        assert_eq!(fetched.read(&did(7, 121)), Some(too_much));
        fetched.read(r#"@nix {"action":"stop","id":7}"#);
        assert_eq!(fetched.read(&did(7, 121)), None);
    }

    #[test]
    fn what_is_missing_is_read_from_the_line_that_says_it_first() {
        let one =
            missing("this path will be fetched (0.00 MiB download, 1.50 MiB unpacked):").unwrap();
        assert_eq!((one.paths, one.unpacked.bytes()), (1, 3 << 19));
        let many = missing("these 20 paths will be fetched (1.2 GiB download, 3.0 GiB unpacked):")
            .unwrap();
        assert_eq!((many.paths, many.unpacked.bytes()), (20, 3 << 30));
        let bytes = missing("this path will be fetched (7 B download, 12 B unpacked):").unwrap();
        assert_eq!(bytes.unpacked.bytes(), 12);
        for line in [
            "these 2 derivations will be built:",
            "copying path '/nix/store/a' from 'file:///cache'...",
            "these many paths will be fetched (1 MiB download, 2 MiB unpacked):",
            "this path will be fetched (1 MiB download, 2 parsecs unpacked):",
            "this path will be fetched (1 MiB download, -2 MiB unpacked):",
            "this path will be fetched (1 MiB download, 99999999999999.0 TiB unpacked):",
        ] {
            assert_eq!(missing(line), None, "{line}");
        }
    }

    #[test]
    fn more_than_was_signed_is_noticed_and_rounding_is_not_taken_for_more() {
        let digest = ClosureDigest::from_bytes([1; 32]);
        let closure = |paths, size| Closure { digest, paths, size };
        let three =
            missing("these 3 paths will be fetched (0.01 MiB download, 0.02 MiB unpacked):");
        let three = three.unwrap();
        assert!(!three.exceeds(&closure(3, 16_000)), "0.015 MiB are rounded to 0.02");
        assert!(three.exceeds(&closure(3, 9_000)));
        assert!(three.exceeds(&closure(2, 1 << 30)));
    }
}

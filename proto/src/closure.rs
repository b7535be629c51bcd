//! What a closure holds: the manifest whose digest operators sign and hosts compare.
//!
//! A store path names what an object was built from; the manifest names the bytes. Both sides make
//! it from their own Nix database (`nix-store --dump-db PATH…`), never from what a cache says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    str::Split,
};

use sha2::{Digest as _, Sha256};

use crate::{
    id::{self, ClosureDigest},
    store_path::StorePath,
    target::Closure,
};

/// The most store paths that a closure has; a large desktop has some thousands.
pub const MAX_PATHS: usize = 1 << 17;

/// The content of a closure, path by path.
///
/// Its text, over which the digest goes, is a line for each path in the order of their bytes:
///
/// ```text
/// <path> sha256:<narHash in lower-case hexadecimal> <narSize in decimal> <reference> <reference>…
/// ```
///
/// with one blank between fields, the references (with the path itself, if it refers to itself)
/// in the order of their bytes, nothing after the last field, and a line feed after each line, the
/// last one too. The deriver is not part of it, as it differs between machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    paths: BTreeMap<StorePath, Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    nar_hash: [u8; 32],
    nar_size: u64,
    references: BTreeSet<StorePath>,
}

/// An output of `nix-store --dump-db` that describes no closure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDump {
    /// A line is not what it must be.
    #[error("line {line} of the dump is not {expected}: {found:?}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there, cut to 120 characters.
        found: String,
    },
    /// It ends in the middle of a path's lines.
    #[error("the dump is cut off after line {lines}")]
    CutOff {
        /// How many lines there are.
        lines: usize,
    },
    /// There is no path.
    #[error("the dump has no store path in it")]
    Empty,
    /// There are more paths than a closure may have.
    #[error("the closure has more than {MAX_PATHS} store paths")]
    TooMany,
    /// A path is there twice.
    #[error("{path} is in the dump twice")]
    Twice {
        /// The path.
        path: StorePath,
    },
    /// A path refers to one that is not there.
    #[error("{path} refers to {reference}, which is not in the dump: it is not a whole closure")]
    Open {
        /// The path.
        path: StorePath,
        /// What it refers to.
        reference: StorePath,
    },
}

impl Manifest {
    /// Reads what `nix-store --dump-db PATH…` prints for all paths of a closure, in any order:
    /// path, NAR hash (SHA-256, hexadecimal), NAR size, deriver or nothing, number of references,
    /// and each reference, a line each (Nix's `registerValidity` with a hash given).
    ///
    /// # Errors
    /// When a line is not as it must be, a path is there twice, a size is unknown (0), a reference
    /// is not in the dump, or there are no paths or more than [`MAX_PATHS`].
    pub fn from_dump_db(text: &str) -> Result<Self, BadDump> {
        let mut lines = Lines::new(text);
        let mut paths = BTreeMap::new();
        while let Some(path) = lines.next_path()? {
            if paths.len() == MAX_PATHS {
                return Err(BadDump::TooMany);
            }
            let content = lines.content()?;
            if paths.contains_key(&path) {
                return Err(BadDump::Twice { path });
            }
            paths.insert(path, content);
        }
        let manifest = Self { paths };
        manifest.check_closed()?;
        Ok(manifest)
    }

    /// Gives the digest and extent that a target names.
    pub fn closure(&self) -> Closure {
        Closure {
            digest: self.digest(),
            size: self.paths.values().fold(0, |sum, content| sum.saturating_add(content.nar_size)),
            paths: self.paths.len() as u64,
        }
    }

    fn digest(&self) -> ClosureDigest {
        let mut text = Hashed(Sha256::new());
        // The text of a large closure is as large as its dump; nobody needs it as a whole.
        let _ = write!(text, "{self}");
        ClosureDigest::from_bytes(text.0.finalize().into())
    }

    /// Tells whether a path is in the closure.
    pub fn contains(&self, path: &StorePath) -> bool {
        self.paths.contains_key(path)
    }

    /// Gives the paths in the order of their bytes.
    pub fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.paths.keys()
    }

    fn check_closed(&self) -> Result<(), BadDump> {
        if self.paths.is_empty() {
            return Err(BadDump::Empty);
        }
        for (path, content) in &self.paths {
            if let Some(reference) = content.references.iter().find(|path| !self.contains(path)) {
                return Err(BadDump::Open { path: path.clone(), reference: reference.clone() });
            }
        }
        Ok(())
    }
}

/// Writes the text that the digest is of.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, content) in &self.paths {
            let hash = id::hex(&content.nar_hash);
            write!(f, "{path} sha256:{hash} {}", content.nar_size)?;
            for reference in &content.references {
                write!(f, " {reference}")?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

/// Takes in a text without keeping it.
struct Hashed(Sha256);

impl fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

/// The lines of a dump, counted.
struct Lines<'a> {
    rest: Split<'a, char>,
    read: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let rest = text.split('\n');
        Self { rest, read: 0 }
    }

    /// Gives the path that opens the next entry; none after the last line feed.
    fn next_path(&mut self) -> Result<Option<StorePath>, BadDump> {
        let is_end = |rest: &Split<'_, char>| {
            let mut ahead = rest.clone();
            ahead.next().is_none_or(str::is_empty) && ahead.next().is_none()
        };
        if is_end(&self.rest) {
            return Ok(None);
        }
        self.path().map(Some)
    }

    fn content(&mut self) -> Result<Content, BadDump> {
        let nar_hash = self.parse("a SHA-256 in hexadecimal", id::unhex)?;
        let nar_size =
            self.parse("a size in bytes", |line| line.parse().ok().filter(|size| *size > 0))?;
        self.line()?; // the deriver
        let count = self.parse("a number of references", |line| {
            line.parse().ok().filter(|count| *count <= MAX_PATHS)
        })?;
        let mut references = BTreeSet::new();
        for _ in 0..count {
            let reference = self.path()?;
            if references.contains(&reference) {
                return Err(self.unexpected("another reference", reference.as_str()));
            }
            references.insert(reference);
        }
        Ok(Content { nar_hash, nar_size, references })
    }

    fn path(&mut self) -> Result<StorePath, BadDump> {
        self.parse("a store path", |line| line.parse().ok())
    }

    fn parse<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, BadDump> {
        let line = self.line()?;
        read(line).ok_or_else(|| self.unexpected(expected, line))
    }

    fn line(&mut self) -> Result<&'a str, BadDump> {
        let line = self.rest.next();
        let line = line.ok_or(BadDump::CutOff { lines: self.read })?;
        self.read += 1;
        Ok(line)
    }

    fn unexpected(&self, expected: &'static str, found: &str) -> BadDump {
        BadDump::Line { line: self.read, expected, found: found.chars().take(120).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = "/nix/store/p5i0374akxsgndcv0nggcl90lq3cj4g3-top";
    const DEP: &str = "/nix/store/i34iv240fwy3jw8qp0mlmayyq3s4lm40-dep";

    /// As nix-store 2.8 prints it.
    fn dump() -> String {
        format!(
            "{TOP}\n\
             e749ba0d38eff42595e794c8cef73141f0a5cf64c018988756cbc872df6c8b94\n208\n\
             /nix/store/a38c84jn4s42577ryq6vjva6ika3dnfm-top.drv\n2\n{TOP}\n{DEP}\n\
             {DEP}\n\
             0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969\n120\n\n0\n"
        )
    }

    #[test]
    fn the_text_is_sorted_and_its_digest_is_frozen() {
        let manifest = Manifest::from_dump_db(&dump()).unwrap();
        let text = format!(
            "{DEP} sha256:0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969 120\n\
             {TOP} sha256:e749ba0d38eff42595e794c8cef73141f0a5cf64c018988756cbc872df6c8b94 208 \
             {DEP} {TOP}\n"
        );
        assert_eq!(manifest.to_string(), text);
        let closure = manifest.closure();
        assert_eq!((closure.size, closure.paths), (328, 2));
        assert_eq!(
            closure.digest.to_string(),
            "f78969ac48e5856973edeb2b0e6d0e9b1ebf716c6ffce581984de02d9604e058"
        );
    }

    #[test]
    fn the_order_of_paths_and_the_deriver_do_not_count() {
        let (dump, whole) = (dump(), |text: &str| Manifest::from_dump_db(text).unwrap());
        let at = dump.rfind(DEP).unwrap();
        let turned = format!("{}{}", &dump[at..], &dump[..at]);
        let underived = dump.replace("/nix/store/a38c84jn4s42577ryq6vjva6ika3dnfm-top.drv", "");
        assert_eq!(whole(&turned), whole(&dump));
        assert_eq!(whole(&underived).closure(), whole(&dump).closure());
    }

    #[test]
    fn every_byte_of_content_counts() {
        let digest = |text: &str| Manifest::from_dump_db(text).unwrap().closure().digest;
        let original = digest(&dump());
        let fewer = format!("2\n{TOP}\n{DEP}\n");
        for (from, to) in [
            ("e749", "e748"),
            ("208", "209"),
            ("-top\n", "-tops\n"),
            (fewer.as_str(), &format!("1\n{DEP}\n")),
        ] {
            assert_ne!(digest(&dump().replace(from, to)), original, "{from}");
        }
    }

    #[test]
    fn what_is_not_a_whole_closure_is_refused() {
        let dump = dump();
        let refused = |text: &str| Manifest::from_dump_db(text).expect_err(text).to_string();
        let cases = [
            (String::new(), "no store path"),
            (dump[..dump.rfind(DEP).unwrap()].to_owned(), "not a whole closure"),
            (dump.repeat(2), "twice"),
            (dump.replace("\n0\n", "\n"), "line 12"),
            (dump.replace("\n2\n", "\n99\n"), "line 8"),
            (dump.replace("\n2\n", "\n-2\n"), "line 5"),
            (dump.replace("\n2\n", "\n99999999999999999999999\n"), "line 5"),
            (dump.replace("208", "0"), "line 3"),
            (dump.replace("e749", "E749"), "line 2"),
            (dump.replace("e749", "749"), "line 2"),
            (dump.replace(DEP, TOP), "line 7"),
            (dump.replace(TOP, "/etc/passwd"), "line 1"),
            (format!("\n{dump}"), "line 1"),
            (format!("{dump}\n"), "line 13"),
            (dump[..dump.len() - 5].to_owned(), "cut off"),
        ];
        for (text, expected) in cases {
            let error = refused(&text);
            assert!(error.contains(expected), "{error}, not {expected}, of {text}");
        }
    }
}

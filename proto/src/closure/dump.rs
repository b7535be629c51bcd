//! A closure as Nix's own database tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::Split,
};

use super::{Content, MAX_PATHS, Manifest};
use crate::{id, store_path::StorePath};

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

//! What a closure holds: the manifest whose digest operators sign and hosts compare.
//!
//! A store path names what an object was built from; the manifest names the bytes. Both sides make
//! it from their own Nix database (`nix-store --dump-db PATH…`), never from what a cache says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use sha2::{Digest as _, Sha256};

use crate::{
    id::{self, ClosureDigest},
    store_path::StorePath,
    target::Closure,
};

mod difference;
mod dump;
mod stored;

pub use self::{
    difference::{Differing, How},
    dump::BadDump,
    stored::{BadManifest, MANIFEST_NAME, MAX_MANIFEST, manifest_path},
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

impl Manifest {
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TOP: &str = "/nix/store/p5i0374akxsgndcv0nggcl90lq3cj4g3-top";
    pub(super) const DEP: &str = "/nix/store/i34iv240fwy3jw8qp0mlmayyq3s4lm40-dep";

    /// As nix-store 2.8 prints it.
    pub(super) fn dump() -> String {
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

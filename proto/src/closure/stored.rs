//! The manifest as a store path of its own, so that a cache that has a closure can tell what is in
//! it.
//!
//! Nothing depends on it: what binds a closure is the digest. The path follows from the digest, so no
//! message names it, and what a cache gives for it is believed only where its SHA-256 is the digest.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{Content, MAX_PATHS, Manifest};
use crate::{
    id::{self, ClosureDigest},
    store_path::{StorePath, nix_base32},
};

/// The name of each manifest's store path, behind the hash.
pub const MANIFEST_NAME: &str = "herald-manifest";

/// The most bytes of a manifest that is read.
pub const MAX_MANIFEST: u64 = 1 << 26;

/// Gives where a manifest with this digest is in a store: the path that `nix-store --add-fixed sha256`
/// gives a file with its text and the name [`MANIFEST_NAME`] (Nix's `makeFixedOutputPath`). None in a
/// store whose folder has so long a name that there is no such path.
pub fn manifest_path(store_dir: &str, digest: &ClosureDigest) -> Option<StorePath> {
    let fixed = Sha256::digest(format!("fixed:out:sha256:{digest}:"));
    let hash = id::hex(&fixed);
    let path = format!("output:out:sha256:{hash}:{store_dir}:{MANIFEST_NAME}");
    let mut hash = [0; 20];
    for (at, byte) in Sha256::digest(path).into_iter().enumerate() {
        hash[at % 20] ^= byte;
    }
    format!("{store_dir}/{}-{MANIFEST_NAME}", nix_base32(&hash)).parse().ok()
}

/// Bytes that are not the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// They are others than were signed.
    #[error("it has the digest {found}, which is not what was signed")]
    OtherDigest {
        /// Their digest.
        found: ClosureDigest,
    },
    /// They are what was signed, and no manifest.
    #[error("line {line} of it is not of a manifest")]
    Line {
        /// Which line, from 1.
        line: usize,
    },
}

impl Manifest {
    /// Reads the text of a manifest, of which nothing is believed before its digest is the one that
    /// was signed.
    ///
    /// # Errors
    /// When the digest is another, or the text is not what [`Manifest`] writes.
    pub fn read(bytes: &[u8], signed: &ClosureDigest) -> Result<Self, BadManifest> {
        let found = ClosureDigest::of(bytes);
        if found != *signed {
            return Err(BadManifest::OtherDigest { found });
        }
        let mut paths = BTreeMap::new();
        let mut lines = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines += 1;
            let read = str::from_utf8(line).ok().and_then(line_of);
            let (path, content) = read.ok_or(BadManifest::Line { line: lines })?;
            if lines > MAX_PATHS || paths.insert(path, content).is_some() {
                return Err(BadManifest::Line { line: lines });
            }
        }
        let manifest = Self { paths };
        // One form only: what is written anew from it is what was read.
        if lines == 0 || manifest.digest() != *signed {
            return Err(BadManifest::Line { line: lines });
        }
        Ok(manifest)
    }
}

fn line_of(line: &str) -> Option<(StorePath, Content)> {
    let mut fields = line.strip_suffix('\n')?.split(' ');
    let path = fields.next()?.parse().ok()?;
    let nar_hash = id::unhex(fields.next()?.strip_prefix("sha256:")?)?;
    let nar_size = fields.next()?.parse().ok().filter(|size| *size > 0)?;
    let references = fields.map(|path| path.parse().ok());
    let references = references.collect::<Option<BTreeSet<StorePath>>>()?;
    Some((path, Content { nar_hash, nar_size, references }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::tests::{DEP, TOP, dump};

    #[test]
    fn the_path_is_the_one_that_nix_gives_a_file_with_this_text() {
        // nix-store 2.8 --print-fixed-path sha256 DIGEST herald-manifest
        let digest = ClosureDigest::of(b"hello\n");
        let path = manifest_path("/nix/store", &digest).unwrap();
        assert_eq!(path.base_name(), "rzlglxkapfgazn3ycdc22fl1nr8z4ass-herald-manifest");
        assert_eq!(manifest_path(&format!("/{}", "a".repeat(500)), &digest), None);
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_only_with_the_signed_digest() {
        let manifest = Manifest::from_dump_db(&dump()).unwrap();
        let (text, digest) = (manifest.to_string(), manifest.closure().digest);
        assert_eq!(Manifest::read(text.as_bytes(), &digest), Ok(manifest));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let found = ClosureDigest::of(&bytes);
            let refused = Manifest::read(&bytes, &digest);
            assert_eq!(refused, Err(BadManifest::OtherDigest { found }));
        }
    }

    #[test]
    fn a_text_that_no_manifest_writes_is_refused_even_where_it_was_signed() {
        let text = Manifest::from_dump_db(&dump()).unwrap().to_string();
        let (first, second) = text.split_at(text.find('\n').unwrap() + 1);
        let cases = [
            (String::new(), 0),
            ("\n".to_owned(), 1),
            (text.trim_end().to_owned(), 2),
            (format!("{second}{first}"), 2),
            (format!("{first}{first}"), 2),
            (text.replace(" 120", " 0120"), 2),
            (text.replace(" 120", " 0"), 1),
            (text.replace(" 120", "  120"), 1),
            (text.replace(" 120", ""), 1),
            (text.replace("sha256:e", "sha256:E"), 2),
            (text.replace("sha256:e", "sha512:e"), 2),
            (text.replace(&format!("{DEP} {TOP}"), &format!("{TOP} {DEP}")), 2),
            (text.replace(TOP, "/etc/passwd"), 2),
            (text.replace("top", "to\u{e9}"), 2),
        ];
        for (text, line) in cases {
            let read = Manifest::read(text.as_bytes(), &ClosureDigest::of(text.as_bytes()));
            assert_eq!(read, Err(BadManifest::Line { line }), "{text}");
        }
    }
}

//! Nix store paths, parsed once.

use crate::text::Unparsable;

/// A Nix store path: an absolute store folder, 32 characters of Nix's base-32, `-` and a name.
///
/// It names one object in the store, nothing below it: a further `/` is refused, and so is every
/// component that a file system would read as something else (`.`, `..`, an empty one).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Box<str>);

const HASH_LENGTH: usize = 32;

impl StorePath {
    /// Gives the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the path.
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(self.as_str())
    }

    /// Gives the folder of the store, such as `/nix/store`.
    pub fn store_dir(&self) -> &str {
        self.split().0
    }

    /// Gives the hash and name, such as `…-nixos-system-alpha-26.05`.
    pub fn base_name(&self) -> &str {
        self.split().1
    }

    /// Gives the name without the hash.
    pub fn name(&self) -> &str {
        &self.base_name()[HASH_LENGTH + 1..]
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').expect("a store path has a folder: checked when it was parsed")
    }
}

impl std::fmt::Display for StorePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for StorePath {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        if is_store_path(text) {
            Ok(Self(text.into()))
        } else {
            let expected =
                "a store path such as /nix/store/<32 characters>-nixos-system-alpha-26.05";
            Err(Unparsable::new("store path", text, expected))
        }
    }
}

serde_as_text!(StorePath);
wire_as_text!(StorePath);

fn is_store_path(text: &str) -> bool {
    let Some((dir, base)) = text.rsplit_once('/') else {
        return false;
    };
    let Some((hash, name)) = base.split_at_checked(HASH_LENGTH) else {
        return false;
    };
    let Some(name) = name.strip_prefix('-') else {
        return false;
    };
    text.len() <= 512 && is_store_dir(dir) && hash.bytes().all(is_nix_base32) && is_store_name(name)
}

/// Tells whether a text is an absolute folder in its one normal form.
pub fn is_store_dir(text: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|c| c.is_ascii_graphic() && c != b'\\')
    };
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// The alphabet of Nix's base-32: no e, o, t, u.
const NIX_BASE32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

fn is_nix_base32(c: u8) -> bool {
    NIX_BASE32.contains(&c)
}

/// Writes the hash of a store path as Nix does: five bits for each character, the last ones first.
pub(crate) fn nix_base32(hash: &[u8; 20]) -> String {
    let bit = |at: usize| (hash[at / 8] >> (at % 8)) & 1;
    let digit = |at: usize| (0..5).fold(0, |digit, nth| digit | bit(5 * at + nth) << nth);
    (0..HASH_LENGTH).rev().map(|at| char::from(NIX_BASE32[usize::from(digit(at))])).collect()
}

/// What Nix admits in names (checkName): at most 211 bytes, no dot at the start.
fn is_store_name(name: &str) -> bool {
    (1..=211).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    #[test]
    fn a_store_path_is_taken_apart() {
        let path: StorePath = format!("/nix/store/{HASH}-nixos-system-a-26.05").parse().unwrap();
        assert_eq!(path.store_dir(), "/nix/store");
        assert_eq!(path.name(), "nixos-system-a-26.05");
    }

    #[test]
    fn what_names_anything_else_than_a_store_object_is_refused() {
        for bad in [
            String::new(),
            "/etc/passwd".into(),
            format!("nix/store/{HASH}-a"),
            format!("/nix/store/{HASH}-a/bin/sh"),
            format!("/nix/store/../{HASH}-a"),
            format!("/nix//store/{HASH}-a"),
            format!("/nix/./store/{HASH}-a"),
            format!("/nix/store/{HASH}"),
            format!("/nix/store/{HASH}-"),
            format!("/nix/store/{HASH}-.a"),
            format!("/nix/store/{HASH}-a b"),
            format!("/nix/store/{HASH}-a\n"),
            format!("/nix/store/{HASH}-é"),
            format!("/nix/store/{}-a", HASH.replace('a', "e")),
            format!("/nix/store/{}-a", &HASH[1..]),
            format!("/nix/store/{HASH}-{}", "a".repeat(212)),
            format!("--option/{HASH}-a"),
        ] {
            assert!(bad.parse::<StorePath>().is_err(), "{bad:?}");
        }
    }
}

//! Binary caches that a release names, and that a host allows, in one form.

use crate::text::Unparsable;

/// The most substituters that a target names.
pub const MAX_SUBSTITUTERS: usize = 8;
/// The most bytes of an address.
const MAX_URL: usize = 256;

/// The address of a binary cache: `https`, `http` or `s3`, a name in lower case with a port if that is
/// not the usual one, and folders; or `file:` and folders.
///
/// There is no query, as Nix takes settings from there: `?trusted=1` would have it take what nobody
/// has signed. Nor are there credentials, encoded characters, `.` and `..`, blanks or a slash at the
/// end, so that an address is below another one exactly where its text says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Substituter(Box<str>);

impl Substituter {
    /// Gives the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether the address is another one, or is in a folder below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(&*other.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for Substituter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for Substituter {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let is_one = text.len() <= MAX_URL
            && match text.split_once("://") {
                Some(("file", folders)) => !folders.is_empty() && are_folders(folders),
                Some(("https" | "http" | "s3", rest)) => {
                    let (authority, folders) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                    is_authority(authority) && are_folders(folders)
                }
                _ => false,
            };
        let expected = "an address such as https://cache.example.org/fleet, of at most 256 bytes, \
                        without settings (?…), credentials or a slash at the end";
        is_one
            .then(|| Self(text.into()))
            .ok_or_else(|| Unparsable::new("binary cache", text, expected))
    }
}

serde_as_text!(Substituter);
wire_as_text!(Substituter);

fn is_authority(text: &str) -> bool {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let is_letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_well = |end: Option<&u8>| end.is_some_and(|c| is_letter(*c));
    ends_well(name.as_bytes().first())
        && ends_well(name.as_bytes().last())
        && name.bytes().all(|c| is_letter(c) || b".-".contains(&c))
        && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    let digits = !text.starts_with('0') && text.bytes().all(|c| c.is_ascii_digit());
    digits && text.parse::<u16>().is_ok()
}

/// Tells whether a text is nothing, or folders with a slash before each.
fn are_folders(text: &str) -> bool {
    let is_folder = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"._~+=-".contains(&c))
    };
    match text.strip_prefix('/') {
        Some(folders) => folders.split('/').all(is_folder),
        None => text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_caches_have_one_form_which_can_hold_no_setting_of_nix() {
        for good in [
            "https://cache.nixos.org",
            "https://cache.example.org/fleet/a~b",
            "http://127.0.0.1:8080",
            "s3://bucket/folder",
            "file:///srv/cache",
        ] {
            assert_eq!(good.parse::<Substituter>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "https://",
            "cache.nixos.org",
            "https://cache.nixos.org/",
            "https://cache.nixos.org?trusted=1",
            "https://cache.nixos.org/a?trusted=1",
            "https://cache.nixos.org#x",
            "file:///srv/cache?trusted=1",
            "file:///srv/cache%3Ftrusted=1",
            "file://",
            "file:///",
            "file://srv/cache",
            "file:///srv//cache",
            "https://a/../b",
            "https://a/./b",
            "https://user:secret@a",
            "https://A",
            "https://-a",
            "https://a:0",
            "https://a:00080",
            "https://a:65536",
            "https://a:",
            "https://a b",
            "https://a\nb",
            "https://a,b",
            "ssh://a",
            "ssh-ng://-oProxyCommand=x",
            "daemon",
            "auto",
            "/srv/cache",
            &format!("https://a/{}", "b".repeat(250)),
        ] {
            assert!(bad.parse::<Substituter>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_within_another_one_at_the_borders_of_folders_only() {
        let is_within = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<Substituter>().unwrap());
            one.is_within(&other)
        };
        assert!(is_within("https://a.org", "https://a.org"));
        assert!(is_within("https://a.org/b/c", "https://a.org"));
        assert!(is_within("https://a.org/b/c", "https://a.org/b"));
        assert!(!is_within("https://a.org.evil.com", "https://a.org"));
        assert!(!is_within("https://a.org:8443", "https://a.org"));
        assert!(!is_within("https://a.org/bad", "https://a.org/b"));
        assert!(!is_within("http://a.org", "https://a.org"));
        assert!(!is_within("https://a.org", "https://a.org/b"));
    }
}

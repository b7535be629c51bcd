//! Names: of fleets, hosts, profiles, systems and units.

use crate::text::Unparsable;

/// Declares a name: a text that a predicate admits, parsed once.
macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Gives the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Unparsable;

            fn from_str(text: &str) -> Result<Self, Unparsable> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Unparsable::new($what, text, $expected))
                }
            }
        }

        serde_as_text!($name);
        wire_as_text!($name);
    };
}

name!(
    /// A fleet: the scope of keys, signatures and topics.
    FleetId, "fleet name", "1 to 63 of a-z, 0-9, _ and -", |text| made_of(text, 63, label_or_underscore)
);
name!(
    /// A host: a host-name label, as some brokers forbid dots in topics.
    HostId, "host name", "1 to 63 of a-z, 0-9 and -, with no - at either end", |text| {
        made_of(text, 63, |c| label_or_underscore(c) && c != b'_')
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
);
name!(
    /// A profile of a host. The host's own configuration says where it is and whose.
    ProfileName, "profile name", "1 to 32 of a-z, 0-9, _ and -", |text| made_of(text, 32, label_or_underscore)
);
name!(
    /// A Nix system type, such as `x86_64-linux`.
    System, "system type", "a Nix system such as x86_64-linux", |text| {
        made_of(text, 64, label_or_underscore) && text.contains('-')
    }
);
name!(
    /// A systemd unit (systemd.unit(5)): a name and a known kind of unit.
    UnitName, "unit name", "a systemd unit such as sshd.service", |text| {
        made_of(text, 255, |c| c.is_ascii_alphanumeric() || b":-_.\\@".contains(&c))
            && text.rsplit_once('.').is_some_and(|(stem, kind)| {
                // An option of a command is no unit; the root's mount and slice are.
                let named = !stem.is_empty() && (!stem.starts_with('-') || stem == "-");
                named && UNIT_KINDS.contains(&kind)
            })
    }
);

impl System {
    /// Gives Nix's name of a system, from Rust's names of its architecture and operating system.
    ///
    /// # Errors
    /// When the names have characters that Nix's have not.
    pub fn of(arch: &str, os: &str) -> Result<Self, Unparsable> {
        let arch = match arch {
            "x86" => "i686",
            "arm" => "armv7l",
            other => other,
        };
        format!("{arch}-{os}").parse()
    }
}

impl ProfileName {
    /// The profile of the NixOS system itself.
    pub fn system() -> Self {
        Self("system".into())
    }
}

const UNIT_KINDS: &[&str] = &[
    "service",
    "socket",
    "target",
    "mount",
    "automount",
    "timer",
    "path",
    "swap",
    "slice",
    "scope",
    "device",
];

fn label_or_underscore(c: u8) -> bool {
    matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

fn made_of(text: &str, longest: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_called_as_nix_calls_them() {
        for (arch, name) in
            [("x86_64", "x86_64-linux"), ("x86", "i686-linux"), ("arm", "armv7l-linux")]
        {
            assert_eq!(System::of(arch, "linux").unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_escape_a_topic_or_an_argument_are_refused() {
        let long = "a".repeat(64);
        for bad in
            ["", "a/b", "a+b", "a#", "é", "A", "a.b", "a_b", "-", "-a", "-.a", "a-", "a b", &long]
        {
            assert!(bad.parse::<HostId>().is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "a+", "#", "a.b", "a\0"] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad:?}");
            assert!(bad.parse::<FleetId>().is_err(), "{bad:?}");
        }
        for bad in ["sshd", "-H.service", "a/b.service", ".service", "a.exe", "a b.service"] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        for good in ["getty@tty1.service", "-.mount", "dev-disk-by\\x2did-1.swap"] {
            assert!(good.parse::<UnitName>().is_ok(), "{good:?}");
        }
        assert!("edge-01".parse::<HostId>().is_ok());
    }
}

//! What a toplevel says of the subscriber that is part of it, in its file `herald.json`.
//!
//! A system whose subscriber can't go on with this host's state, or does not follow orders for this
//! profile, would leave a host that nobody can reach. So it is refused before anything is armed.

use std::{io, path::PathBuf};

use herald_core::{Cause, Failure};
use herald_proto::{host::ProfileName, rejection::Code, store_path::StorePath};

use super::state_store;
use crate::os::Os;

/// The name of the file.
const FILE: &str = "herald.json";
/// How large it may be.
const MOST_BYTES: u64 = 16 * 1024;

/// What the file says. Other keys are for other readers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct ToplevelMark {
    /// The formats of state that its subscriber reads.
    state_formats: Vec<u16>,
    /// The profiles that it follows orders for; where it does not say, it is taken to be all.
    profiles: Option<Vec<ProfileName>>,
}

/// A toplevel whose subscriber is none to hand this host over to.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no such file, or it can't be read.
    #[error("cannot read {}: {source}; is it a NixOS system with the Herald module?", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too large to be one.
    #[error("{} has {size} bytes; at most {MOST_BYTES} are expected", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// It is not well-formed.
    #[error("{} is malformed: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// Its subscriber can't read the state that this one writes.
    #[error(
        "its subscriber reads the state formats {known:?}, and this host's state has format {own}: \
         deploy a version in between first"
    )]
    StateFormat {
        /// The formats that it reads.
        known: Vec<u16>,
        /// The format of this host's state.
        own: u16,
    },
    /// Its subscriber does not know the profile.
    #[error("its subscriber does not follow orders for the profile {profile}")]
    Profile {
        /// The profile.
        profile: ProfileName,
    },
}

/// Checks that a toplevel has a subscriber that can go on with a profile of this host.
///
/// # Errors
/// When it has none, or one that can't.
pub fn check(os: &dyn Os, toplevel: &StorePath, profile: &ProfileName) -> Result<(), Unfit> {
    let mark = read(os, toplevel)?;
    if !mark.state_formats.contains(&state_store::FORMAT) {
        return Err(Unfit::StateFormat { known: mark.state_formats, own: state_store::FORMAT });
    }
    if mark.profiles.is_some_and(|profiles| !profiles.contains(profile)) {
        return Err(Unfit::Profile { profile: profile.clone() });
    }
    Ok(())
}

fn read(os: &dyn Os, toplevel: &StorePath) -> Result<ToplevelMark, Unfit> {
    let path = toplevel.as_path().join(FILE);
    let unreadable = |source| Unfit::Unreadable { path: path.clone(), source };
    let size = os.size(&path).map_err(unreadable)?;
    if size > MOST_BYTES {
        return Err(Unfit::TooLarge { path, size });
    }
    let bytes = os.read(&path).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|source| Unfit::Malformed { path, source })
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        Self { cause: Cause::new(Code::NotActivatable, &unfit.to_string()), retry: false }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::Linux;

    #[test]
    fn only_a_toplevel_whose_subscriber_can_go_on_here_is_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}-nixos-system-a", "0".repeat(32)));
        fs::create_dir(&path).unwrap();
        let toplevel: StorePath = path.to_str().unwrap().parse().unwrap();
        let check = || check(&Linux, &toplevel, &ProfileName::system());
        let missing = check().unwrap_err().to_string();
        assert!(missing.contains("herald.json") && missing.contains("module"), "{missing}");
        let large = format!("{{\"state_formats\":[0],\"x\":\"{}\"}}", "x".repeat(16 * 1024));
        let cases = [
            (r#"{"state_formats":[0]}"#, None),
            (r#"{"state_formats":[1,0],"state_version":"25.05","loader":"grub"}"#, None),
            (r#"{"state_formats":[0],"profiles":["home","system"]}"#, None),
            (r#"{"state_formats":[0],"profiles":["home"]}"#, Some("the profile system")),
            (r#"{"state_formats":[1,2]}"#, Some("reads the state formats [1, 2]")),
            (r#"{"state_formats":[]}"#, Some("reads the state formats []")),
            (r#"{"state_formats":[0],"profiles":["a b"]}"#, Some("is malformed")),
            (r#"{"state_formats":"0"}"#, Some("is malformed")),
            (r#"{}"#, Some("missing field `state_formats`")),
            ("", Some("is malformed")),
            (&large, Some("bytes; at most")),
        ];
        for (text, problem) in cases {
            fs::write(path.join(FILE), text).unwrap();
            match (check(), problem) {
                (Ok(()), None) => {}
                (Err(unfit), Some(problem)) => {
                    assert!(unfit.to_string().contains(problem), "{unfit}, not {problem}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}

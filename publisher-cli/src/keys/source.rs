//! Where a key is, as the operator writes it.

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

/// A key's text is some hundred bytes; this is far above it.
const MAX_BYTES: u64 = 16 * 1024;

/// Where a key is. It never holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// `file:PATH`, or a path alone.
    File(PathBuf),
    /// `agent:NAME`: an ssh-agent keeps it; by its comment, its fingerprint or its name in the
    /// trust file. Without a name: the only Ed25519 key that the agent has.
    Agent(String),
    /// `env:VARIABLE`.
    Variable(String),
    /// `credential:NAME`: given by systemd.
    Credential(String),
    /// Not where it is, but the key itself, which is not kept.
    Itself,
}

/// A secret key in a file that others can read or write.
#[derive(Debug)]
pub(crate) struct Exposed {
    path: PathBuf,
    mode: u32,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        write!(
            f,
            "the key file {path} is open to others (mode {mode:03o}): chmod 600 {path}, and if \
             somebody may have read it, make a new key"
        )
    }
}

impl FromStr for KeySource {
    // Never an error, as one would repeat the text, and that may be a secret.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some(("file", path)) => Self::File(path.into()),
            Some(("agent", name)) => Self::Agent(name.to_owned()),
            Some(("env", name)) => Self::Variable(name.to_owned()),
            Some(("credential", name)) => Self::Credential(name.to_owned()),
            _ if is_key_itself(text) => Self::Itself,
            _ => Self::File(text.into()),
        })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key file {}", path.display()),
            Self::Agent(name) if name.is_empty() => f.write_str("ssh-agent"),
            Self::Agent(name) => write!(f, "the key {name} of ssh-agent"),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::Credential(name) => write!(f, "the credential {name}"),
            Self::Itself => f.write_str("what is given"),
        }
    }
}

impl KeySource {
    /// Reads the text of the key, and tells whether others can do so too.
    pub(super) fn text(&self) -> anyhow::Result<(Zeroizing<String>, Option<Exposed>)> {
        match self {
            Self::File(path) => {
                let file = File::open(path).with_context(|| match path.exists() {
                    true => format!("cannot read {self}"),
                    false => format!(
                        "there is no {}: name a key that there is with --key (for logins: --login-key), or make \
                         this one with `herald key generate NAME --out {}`",
                        path.display(),
                        path.display()
                    ),
                })?;
                let about = file.metadata().with_context(|| format!("cannot read {self}"))?;
                let mode = about.permissions().mode() & 0o777;
                // A pipe has no permissions worth checking: its writer chose its reader.
                let exposed = (about.is_file() && mode & 0o077 != 0)
                    .then(|| Exposed { path: path.clone(), mode });
                Ok((self.read(file)?, exposed))
            }
            Self::Variable(name) => {
                let text = env::var_os(name).map(OsString::into_encoded_bytes);
                let text = text.with_context(|| format!("{self} is not set"))?;
                let text = String::from_utf8(text).map_err(|_| self.not_text())?;
                Ok((Zeroizing::new(text), None))
            }
            Self::Credential(name) => {
                if name.is_empty() || name.contains('/') || name.starts_with('.') {
                    bail!("{name} is no name of a credential");
                }
                let folder = env::var_os("CREDENTIALS_DIRECTORY").with_context(|| {
                    format!(
                        "{self} is not there: CREDENTIALS_DIRECTORY is set by systemd, in units \
                         with LoadCredential={name} and the like"
                    )
                })?;
                let path = Path::new(&folder).join(name);
                let file = File::open(&path);
                let file = file.with_context(|| format!("cannot read {}", path.display()))?;
                // systemd keeps others from the folder, and may let its user in by an access list,
                // which looks like a mode that is open to a group.
                Ok((self.read(file)?, None))
            }
            Self::Agent(_) => {
                bail!("{self} gives no secret away: only `herald key public` and signing use it")
            }
            Self::Itself => bail!(
                "that is a secret key itself, where the place of one is expected: whoever sees the \
                 command line or the environment has it now; make a new key, and name its file, or \
                 the variable that holds it as env:VARIABLE"
            ),
        }
    }

    fn read(&self, file: File) -> anyhow::Result<Zeroizing<String>> {
        // Of its full size from the start: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
        file.take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {self}"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.not_text())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Says what is wrong without showing any of it, as errors about UTF-8 do.
    fn not_text(&self) -> anyhow::Error {
        anyhow::anyhow!("{self} holds no key: it is not text")
    }
}

/// Tells whether somebody gave a key where its place is asked for.
fn is_key_itself(text: &str) -> bool {
    const SECRET: usize = 80; // of the 88 letters of a whole one
    let encoded = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let long = |rest: &str| rest.len() >= SECRET && rest.chars().all(encoded);
    text.contains("-----BEGIN") || text.split_once(':').is_some_and(|(_, rest)| long(rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_by_its_kind_and_a_bare_path_is_a_file() {
        let read = |text: &str| text.parse::<KeySource>().unwrap();
        assert_eq!(read("a/b.key"), KeySource::File("a/b.key".into()));
        assert_eq!(read("file:a:b"), KeySource::File("a:b".into()));
        assert_eq!(read("agent:alice@laptop"), KeySource::Agent("alice@laptop".into()));
        assert_eq!(read("agent:"), KeySource::Agent(String::new()));
        assert_eq!(read("env:CI_KEY"), KeySource::Variable("CI_KEY".into()));
        assert_eq!(read("credential:herald"), KeySource::Credential("herald".into()));
        assert_eq!(read("odd:name"), KeySource::File("odd:name".into()));
    }

    #[test]
    fn a_key_that_is_given_itself_is_refused_and_not_kept() {
        let secret = format!("alice:{}==", "A".repeat(86));
        for text in [secret.as_str(), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"] {
            let source = text.parse::<KeySource>().unwrap();
            assert_eq!(source, KeySource::Itself);
            let said = format!("{source:?} {source} {:?}", source.text().unwrap_err());
            assert!(said.contains("make a new key") && !said.contains("AAAA"), "{said}");
        }
    }
}

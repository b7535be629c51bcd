//! How a host gets to its broker: as whom it logs in, and whom TLS trusts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use herald_client::{Login, Password, PasswordInTheOpen, Secret, Signed, Tls};
use herald_proto::{
    key::SecretKey,
    login::{BrokerName, LoginName},
    time::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    clock,
    config::{BadConfig, Config},
};

/// The section `[login]`: how the host says to the broker who it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LoginConfig {
    /// It does not, or only by its TLS certificate.
    None {},
    /// By tokens that it signs with its own key.
    Signed {
        /// The broker's name for itself, if it is not its host.
        broker_name: Option<BrokerName>,
    },
    /// By a password.
    Password {
        /// The file with the password, such as a credential of systemd.
        file: PathBuf,
        /// The user's name, if it is not `<fleet>/<host>`.
        user: Option<String>,
        /// Whether the password may be sent where others on the way can read it.
        #[serde(default)]
        unprotected: bool,
    },
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self::None {}
    }
}

impl LoginConfig {
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let file = match self {
            Self::Password { file, .. } => Some(("login.file", file.as_path())),
            Self::None {} | Self::Signed { .. } => None,
        };
        file.into_iter()
    }
}

/// The section `[tls]`, all of it in PEM format.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The authorities that may name brokers, in place of the system's.
    ca: Option<PathBuf>,
    /// The host's certificate, with its chain.
    certificate: Option<PathBuf>,
    /// The certificate's key.
    key: Option<PathBuf>,
}

impl TlsConfig {
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let Self { ca, certificate, key } = self;
        [("tls.ca", ca), ("tls.certificate", certificate), ("tls.key", key)]
            .into_iter()
            .filter_map(|(setting, file)| Some((setting, file.as_deref()?)))
    }
}

impl Config {
    /// Checks what can be checked without reading any other file.
    pub(crate) fn check_access(&self, path: &Path) -> Result<(), BadConfig> {
        self.tls(path)?;
        match &self.login {
            LoginConfig::None {} => Ok(()),
            LoginConfig::Signed { .. } => self.broker_name(path).map(|_| ()),
            LoginConfig::Password { unprotected, .. } => {
                if *unprotected || self.broker.is_private() {
                    return Ok(());
                }
                let (user, broker) = (self.user(), self.broker.clone());
                let source = Box::new(PasswordInTheOpen { user, broker });
                Err(BadConfig::PasswordInTheOpen { path: path.to_owned(), source })
            }
        }
    }

    /// Gives what a connection needs. A token is signed with the host's key, once the clock is not
    /// behind what is `known` of the time, or that was waited for in vain.
    ///
    /// # Errors
    /// When the password can't be read.
    pub fn access(
        &self,
        key: &Arc<SecretKey>,
        known: Timestamp,
    ) -> Result<(Tls, Login), BadConfig> {
        let path = Path::new("the configuration");
        let login = match &self.login {
            LoginConfig::None {} => Login::None,
            LoginConfig::Signed { .. } => Login::Signed(Signed {
                principal: self.login_name(),
                broker: self.broker_name(path)?,
                key: Arc::clone(key),
                clock: clock::wall,
                earliest: known,
            }),
            LoginConfig::Password { file, unprotected, .. } => {
                let text = Zeroizing::new(fs::read_to_string(file).map_err(|source| {
                    BadConfig::PasswordUnreadable { path: file.clone(), source }
                })?);
                let text = text.trim_end_matches(['\n', '\r']);
                if text.is_empty() {
                    return Err(BadConfig::NoPassword { path: file.clone() });
                }
                let (password, unprotected) = (Secret::new(text), *unprotected);
                Login::Password(Password { user: self.user(), password, unprotected })
            }
        };
        Ok((self.tls(path)?, login))
    }

    fn login_name(&self) -> LoginName {
        LoginName { fleet: self.fleet.clone(), name: self.host.clone() }
    }

    fn user(&self) -> String {
        match &self.login {
            LoginConfig::Password { user: Some(user), .. } => user.clone(),
            _ => self.login_name().to_string(),
        }
    }

    fn broker_name(&self, path: &Path) -> Result<BrokerName, BadConfig> {
        match &self.login {
            LoginConfig::Signed { broker_name: Some(name) } => Ok(name.clone()),
            _ => self.broker.broker_name().map_err(|source| {
                let path = path.to_owned();
                BadConfig::NoBrokerName { path, source }
            }),
        }
    }

    fn tls(&self, path: &Path) -> Result<Tls, BadConfig> {
        let TlsConfig { ca, certificate, key } = self.tls.clone();
        Tls::new(ca, certificate, key).map_err(|source| {
            let source = Box::new(source);
            BadConfig::Tls { path: path.to_owned(), source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(broker: &str, login: &str) -> Config {
        let text = format!(
            "fleet = \"home\"\nhost = \"alpha\"\nbroker = \"{broker}\"\n\
             trust = \"/trust.toml\"\n[login]\n{login}\n"
        );
        toml::from_str(&text).unwrap()
    }

    fn access(config: &Config) -> Result<Login, BadConfig> {
        let key = SecretKey::from_seed("alpha".parse().unwrap(), &[7; 32]).unwrap();
        Ok(config.access(&Arc::new(key), Timestamp::default())?.1)
    }

    #[test]
    fn a_host_signs_in_its_own_name_for_the_broker_that_it_was_told() {
        for (more, name) in [("", "broker"), ("broker_name = \"hub.home\"", "hub.home")] {
            let config = config("mqtts://Broker", &format!("kind = \"signed\"\n{more}"));
            let Login::Signed(login) = access(&config).unwrap() else { panic!("{config:?}") };
            assert_eq!(login.principal.to_string(), "home/alpha");
            assert_eq!(login.broker.as_str(), name);
        }
    }

    #[test]
    fn a_password_comes_from_a_file_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let login = |more: &str| {
            let text = format!("kind = \"password\"\nfile = {file:?}\n{more}");
            access(&config("mqtts://broker", &text))
        };
        let said = || login("").unwrap_err().to_string();
        assert!(said().contains("file in [login]") && said().contains("check"), "{}", said());
        fs::write(&file, "\n").unwrap();
        assert!(said().contains("file in [login]") && said().contains("empty"), "{}", said());
        fs::write(&file, "hush \r\n").unwrap();
        for (more, user) in [("", "home/alpha"), ("user = \"a\"", "a")] {
            let Login::Password(password) = login(more).unwrap() else { panic!("{more}") };
            assert_eq!(password.user, user);
            assert!(!format!("{password:?}").contains("hush"));
        }
    }
}

//! How an operator gets to the broker: as whom they log in, and whom TLS trusts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use herald_client::{BrokerUrl, Login, Password, Secret, Signed, Tls};
use herald_fleet::fleet::{self, Fleet};
use herald_proto::{
    host::HostId,
    login::{BrokerName, LoginName},
    time::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    clock, folders,
    keys::{self, KeySource},
};

/// What of `[login]` and `[tls]` in the fleet file the command line replaces: a fleet file is
/// shared, a login key is not.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Broker")]
pub(crate) struct AccessOptions {
    /// Log in at the broker with this secret key [default, where the fleet file says kind =
    /// "signed": login.key beside the folder of the user's keys]: a file, env:VARIABLE or
    /// credential:NAME
    #[arg(long, global = true, env = "HERALD_LOGIN_KEY", hide_env_values = true)]
    #[arg(value_name = "SOURCE")]
    login_key: Option<KeySource>,
    /// The login's name in the fleet [default: the key's name]
    #[arg(long, global = true, env = "HERALD_LOGIN_NAME", value_name = "NAME")]
    login_name: Option<HostId>,
    /// The authorities that may name brokers, in PEM format [default: the system's]
    #[arg(long, global = true, env = "HERALD_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// All that a connection needs.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) broker: BrokerUrl,
    pub(crate) tls: Tls,
    pub(crate) login: Login,
}

impl AccessOptions {
    /// Puts together what the fleet file, which is in the folder, and the command line say, and
    /// reads the key or the password.
    pub(crate) fn access(
        &self,
        fleet: &Fleet,
        broker: &BrokerUrl,
        folder: &Path,
    ) -> anyhow::Result<Access> {
        let beside = |path: &PathBuf| folder.join(path);
        let fleet::Tls { ca, certificate, key } = fleet.tls();
        let ca = self.ca.clone().or_else(|| ca.as_ref().map(beside));
        let (certificate, key) = (certificate.as_ref().map(beside), key.as_ref().map(beside));
        let tls = Tls::new(ca, certificate, key)?;
        let login = match fleet.login() {
            fleet::Login::Signed { key, name, broker_name } => {
                let key = key.as_ref().map(beside);
                self.signed(fleet, broker, key, name.as_ref(), broker_name.clone())?
            }
            _ if self.login_key.is_some() => self.signed(fleet, broker, None, None, None)?,
            fleet::Login::None {} => Login::None,
            fleet::Login::Password { user, file, unprotected } => {
                let password = read_password(&beside(file))?;
                let (user, unprotected) = (user.clone(), *unprotected);
                Login::Password(Password { user, password, unprotected })
            }
        };
        login.check(broker)?;
        Ok(Access { broker: broker.clone(), tls, login })
    }

    fn signed(
        &self,
        fleet: &Fleet,
        broker: &BrokerUrl,
        key: Option<PathBuf>,
        name: Option<&HostId>,
        broker_name: Option<BrokerName>,
    ) -> anyhow::Result<Login> {
        let source = match (&self.login_key, key) {
            (Some(source), _) => source.clone(),
            (None, Some(path)) => KeySource::File(path),
            (None, None) => KeySource::File(folders::login_key()?),
        };
        let key = keys::secret(&source).with_context(|| {
            format!("cannot log in at the broker with {source}, which --login-key names otherwise")
        })?;
        let name = match self.login_name.as_ref().or(name) {
            Some(name) => name.clone(),
            None => {
                let name = key.public().name();
                let parsed = name.to_string().parse();
                parsed.with_context(|| {
                    format!("the key's name {name} is no login: give the login with --login-name")
                })?
            }
        };
        let broker = match broker_name {
            Some(name) => name,
            None => broker.broker_name().context("set broker_name in [login]")?,
        };
        let principal = LoginName { fleet: fleet.id().clone(), name };
        let (key, earliest) = (Arc::from(key), Timestamp::default());
        Ok(Login::Signed(Signed { principal, broker, key, clock: clock::now, earliest }))
    }
}

fn read_password(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the file {shown} with the broker's password"))?;
    let text = Zeroizing::new(text);
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("the file {shown} has no password");
    }
    Ok(Secret::new(password))
}

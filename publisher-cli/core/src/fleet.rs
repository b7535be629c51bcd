//! The fleet file: which hosts there are, the key by which each is known, and the tokens with which
//! others may ask to be.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use herald_proto::{
    host::{FleetId, HostId, ProfileName},
    key::{KeyId, KeyName, PublicKey},
    login::BrokerName,
    time::Timestamp,
    topic::{Filter, Subject, Topic},
    trust::Trust,
};

/// A fleet as its operator wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    id: FleetId,
    broker: String,
    login: Login,
    tls: Tls,
    trust: Option<PathBuf>,
    older_trusts: Vec<PathBuf>,
    hosts: BTreeMap<HostId, Host>,
    tokens: BTreeMap<HostId, Invitation>,
}

/// How operators say to the broker who they are. Paths are as they were written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Login {
    /// They do not, or only by a TLS certificate.
    None {},
    /// By tokens that are signed with a login key, which signs nothing else.
    Signed {
        /// The file with the key.
        key: Option<PathBuf>,
        /// The login's name in the fleet, if it is not the key's.
        name: Option<HostId>,
        /// The broker's name for itself, if it is not its host.
        broker_name: Option<BrokerName>,
    },
    /// By a password.
    Password {
        /// The user's name.
        user: String,
        /// The file with the password.
        file: PathBuf,
        /// Whether the password may be sent where others on the way can read it.
        #[serde(default)]
        unprotected: bool,
    },
}

impl Default for Login {
    fn default() -> Self {
        Self::None {}
    }
}

/// What TLS uses, all of it in PEM format. Paths are as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authorities that may name brokers, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The operator's certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
}

/// A host of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    key: PublicKey,
}

/// A one-time token with which a host may ask to be known by a key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    key: PublicKey,
    #[serde(deserialize_with = "time")]
    expires_at: Timestamp,
}

/// Whose key one is in a fleet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The key with which a host signs.
    Host(HostId),
    /// The key that is a host's token.
    Token(HostId),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "the host {host}"),
            Self::Token(host) => write!(f, "the token of {host}"),
        }
    }
}

/// A fleet file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFleet {
    /// Not TOML, or with keys that are not known, or with a value that can't be used.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// One key for two: either could speak for the other.
    #[error("{first} and {second} have the same key: each has its own")]
    SharedKey {
        /// The one.
        first: Owner,
        /// The other.
        second: Owner,
    },
    /// A host's key in a role of the trust: whoever has the host could sign for all others.
    #[error(
        "{owner} has the key {name} of the trust file: a host's key signs its reports and nothing \
         else, make operators their own"
    )]
    OperatorsKey {
        /// Who has it.
        owner: Owner,
        /// The key's name in the trust file.
        name: KeyName,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    fleet: FleetId,
    broker: String,
    #[serde(default)]
    login: Login,
    #[serde(default)]
    tls: Tls,
    trust: Option<PathBuf>,
    #[serde(default)]
    older_trusts: Vec<PathBuf>,
    #[serde(default)]
    hosts: BTreeMap<HostId, Host>,
    #[serde(default)]
    tokens: BTreeMap<HostId, Invitation>,
}

/// Reads a time of RFC 3339.
fn time<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Timestamp, D::Error> {
    let text: String = serde::Deserialize::deserialize(text)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl Fleet {
    /// Reads a fleet file (TOML).
    ///
    /// # Errors
    /// When it is not well-formed, has keys that are not known, or a host's key that is weak or
    /// that stands under two hosts.
    pub fn from_toml(text: &str) -> Result<Self, BadFleet> {
        let file: FleetFile = toml::from_str(text)?;
        let FleetFile { fleet: id, broker, login, tls, trust, older_trusts, hosts, tokens } = file;
        let fleet = Self { id, broker, login, tls, trust, older_trusts, hosts, tokens };
        let mut owners = BTreeMap::<KeyId, Owner>::new();
        for (second, key) in fleet.keys() {
            if let Some(first) = owners.insert(key.id(), second.clone()) {
                return Err(BadFleet::SharedKey { first, second });
            }
        }
        Ok(fleet)
    }

    /// Gives all keys, and whose they are.
    fn keys(&self) -> impl Iterator<Item = (Owner, &PublicKey)> {
        let hosts = self.hosts.iter().map(|(name, host)| (Owner::Host(name.clone()), &host.key));
        let tokens =
            self.tokens.iter().map(|(name, token)| (Owner::Token(name.clone()), &token.key));
        hosts.chain(tokens)
    }

    /// Checks that no host has a key with a role in the trust.
    ///
    /// # Errors
    /// The first host that has one.
    pub fn check_apart(&self, trust: &Trust) -> Result<(), BadFleet> {
        let roles = [Some(trust.release()), trust.rollout()];
        for (owner, key) in self.keys() {
            let shared = roles.iter().flatten().find_map(|role| role.key(key.id()));
            if let Some(shared) = shared {
                return Err(BadFleet::OperatorsKey { owner, name: shared.name().clone() });
            }
        }
        Ok(())
    }

    /// Gives the fleet's name.
    pub fn id(&self) -> &FleetId {
        &self.id
    }

    /// Gives the broker's URL, as it was written.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Gives how operators log in.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Gives what TLS uses.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Gives the path of the trust file, as it was written.
    pub fn trust(&self) -> Option<&Path> {
        self.trust.as_deref()
    }

    /// Gives the paths of the trust files that hosts may still have, as they were written.
    pub fn older_trusts(&self) -> impl Iterator<Item = &Path> {
        self.older_trusts.iter().map(PathBuf::as_path)
    }

    /// Gives the hosts in the order of their names.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &HostId> {
        self.hosts.keys()
    }

    /// Gives a host.
    pub fn host(&self, name: &HostId) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// Gives the tokens with which hosts may ask, in the order of the hosts' names.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (&HostId, &Invitation)> {
        self.tokens.iter()
    }

    /// Gives the token with which a host may ask.
    pub fn token(&self, host: &HostId) -> Option<&Invitation> {
        self.tokens.get(host)
    }

    /// Gives the host whose token has this id.
    pub fn invited(&self, token: KeyId) -> Option<&HostId> {
        self.tokens().find_map(|(host, it)| (it.key().id() == token).then_some(host))
    }

    /// Names one of the fleet's topics.
    pub fn topic(&self, subject: Subject) -> Topic {
        Topic::new(self.id.clone(), subject)
    }

    /// Gives the filters for all that a host says about a profile and its own presence.
    pub fn reports_of(&self, host: &HostId, profile: &ProfileName) -> [Filter; 3] {
        [
            Subject::Status(host.clone(), profile.clone()),
            Subject::Rollback(host.clone(), profile.clone()),
            Subject::Presence(host.clone()),
        ]
        .map(|subject| Filter::Exactly(self.topic(subject)))
    }
}

impl Invitation {
    /// Gives the public half of the token.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Gives the time from which on it counts for nothing.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Host {
    /// Gives the key with which the host signs.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::host_key;

    fn file(rest: &str) -> String {
        format!("fleet = \"home\"\nbroker = \"mqtt://127.0.0.1\"\n{rest}")
    }

    fn host(name: &str, key: u8) -> String {
        format!("[hosts.{name}]\nkey = \"{}\"\n", host_key(key).public())
    }

    fn refusal(text: &str) -> String {
        Fleet::from_toml(text).expect_err(text).to_string()
    }

    #[test]
    fn a_fleet_file_is_read() {
        let rest = format!("trust = \"trust.toml\"\n{}{}", host("b", 2), host("a", 1));
        let fleet = Fleet::from_toml(&file(&rest)).unwrap();
        assert_eq!(fleet.id().as_str(), "home");
        assert_eq!(fleet.trust(), Some(Path::new("trust.toml")));
        let names: Vec<_> = fleet.hosts().map(HostId::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        let a = fleet.host(&"a".parse().unwrap()).unwrap();
        assert_eq!(a.key(), host_key(1).public());
    }

    #[test]
    fn logins_and_tls_are_read_and_a_fleet_without_them_has_none() {
        let read = |rest: &str| Fleet::from_toml(&file(rest)).unwrap();
        assert_eq!((read("").login(), read("").tls()), (&Login::None {}, &Tls::default()));
        let signed = read("[login]\nkind = \"signed\"\nname = \"alice\"");
        let expected =
            Login::Signed { key: None, name: Some("alice".parse().unwrap()), broker_name: None };
        assert_eq!(signed.login(), &expected);
        let tls = read("[tls]\nca = \"ca.pem\"");
        assert_eq!(tls.tls().ca.as_deref(), Some(Path::new("ca.pem")));
    }

    #[test]
    fn unknown_settings_and_bad_names_and_keys_are_refused_by_name_and_line() {
        for (text, expected) in [
            (file("brokr = \"x\""), "brokr"),
            (file("tls.cert = \"x\""), "cert"),
            (file("login.kind = \"key\""), "key"),
            (file("[hosts.a]\nkeys = \"x\""), "keys"),
            (file("[hosts.a]\nkey = \"x\""), "name:base64"),
            (file("[hosts.a]"), "key"),
            (file("[hosts.\"a/b\"]\nkey = \"x\""), "a/b"),
            (file(&host("Alpha", 1)), "Alpha"),
            (file(&host("a", 1).repeat(2)), "duplicate"),
            ("fleet = \"home\"".to_owned(), "broker"),
        ] {
            let refusal = refusal(&text);
            assert!(refusal.contains(expected), "{refusal}");
            assert!(refusal.contains("line "), "{refusal}");
        }
    }

    #[test]
    fn a_host_with_an_operator_s_key_of_either_role_is_refused() {
        let trust = |release: u8, rollout: u8| {
            let [release, rollout] = [release, rollout].map(|n| host_key(n).public().to_string());
            let text = format!(
                "fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{release:?}]\n\
                 [rollout]\nthreshold = 1\nkeys = [{rollout:?}]"
            );
            Trust::from_toml(&text).unwrap()
        };
        let fleet = Fleet::from_toml(&file(&host("a", 1))).unwrap();
        assert!(fleet.check_apart(&trust(101, 102)).is_ok());
        for shared in [trust(1, 102), trust(101, 1)] {
            let refused = fleet.check_apart(&shared).unwrap_err().to_string();
            assert!(refused.starts_with("the host a has the key host-1"), "{refused}");
        }
    }

    #[test]
    fn one_key_for_two_hosts_is_refused_whatever_its_name() {
        let renamed = host("b", 1).replace("host-1", "host-2");
        let refusal = refusal(&file(&format!("{}{renamed}", host("a", 1))));
        assert!(refusal.contains("the host a and the host b"), "{refusal}");
    }
}

//! Logins of a fleet, and an authority for certificates.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use herald_proto::{key::SecretKey, login, time::Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{
    client::{Connect, Wire, dial},
    process::{Site, text},
};

/// The name of the broker.
pub(crate) const BROKER: &str = "mqtt.example.org";

/// Gives the key of a login: another for each name.
pub(crate) fn key(name: &str) -> SecretKey {
    let mut seed = [7; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_seed(name.parse().unwrap(), &seed).unwrap()
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis() as u64)
}

/// What a signed password says.
pub(crate) struct Claims<'a> {
    pub(crate) name: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) broker: &'a str,
    pub(crate) time: Timestamp,
}

impl<'a> Claims<'a> {
    /// What is right for a client whose id is its name.
    pub(crate) fn of(name: &'a str) -> Self {
        Self { name, client_id: name, broker: BROKER, time: now() }
    }

    pub(crate) fn signed(&self, key: &SecretKey) -> String {
        let principal = format!("home/{}", self.name).parse().unwrap();
        let login = login::Login { principal: &principal, client_id: self.client_id };
        login::sign(&login, &self.broker.parse().unwrap(), key, self.time).as_str().to_owned()
    }
}

/// Gives the CONNECT of a login that signs, whose client id is its name.
pub(crate) fn signed(name: &str) -> Connect {
    signed_as(name, name)
}

/// Gives the CONNECT of a login that signs.
pub(crate) fn signed_as(name: &str, client_id: &str) -> Connect {
    let password = Claims { client_id, ..Claims::of(name) }.signed(&key(name));
    Connect::new(client_id).login(&format!("home/{name}"), &password)
}

/// The logins of the fleet `home`: in each section names, with keys of their own.
pub(crate) fn logins(sections: &[(&str, &[&str])]) -> String {
    let mut file = "fleet = \"home\"\n".to_owned();
    for (section, names) in sections {
        file.push_str(&format!("[{section}]\n"));
        for name in *names {
            file.push_str(&format!("{name} = [\"{}\"]\n", key(name).public()));
        }
    }
    file
}

/// Everybody that the tests know.
pub(crate) fn everybody() -> String {
    logins(&[
        ("hosts", &["web-1", "web-2"]),
        ("operators", &["alice"]),
        ("rollouts", &["conductor"]),
        ("monitors", &["grafana"]),
    ])
}

/// Makes a site with these logins and listeners.
pub(crate) fn site(logins: &str, listeners: &str) -> Site {
    let site = Site::with("");
    let settings = format!(
        "names = [\"{BROKER}\", \"localhost\"]\nlogins = [{:?}]\npasswords = {:?}\n{listeners}",
        text(&site.write("home.toml", logins)),
        text(&site.path("passwords")),
    );
    site.configure(&settings);
    passwords(&site, "");
    site
}

/// Writes the password file, which only its owner may read.
pub(crate) fn passwords(site: &Site, lines: &str) {
    let path = site.write("passwords", lines);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A listener on loopback that takes logins.
pub(crate) const TCP: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";

/// A CA, whose files are in a site's folder.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Writes the CA and a new server certificate.
    pub(crate) fn issue_server(&self, site: &Site) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        site.write("ca.pem", &self.issuer.pem());
        site.write("chain.pem", &certificate.pem());
        site.write("key.pem", &key.serialize_pem());
    }

    /// A listener with TLS that takes client certificates of this CA.
    pub(crate) fn listener(site: &Site) -> String {
        let path = |name| text(&site.path(name)).to_owned();
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"tls\"\ncertificate = {:?}\n\
             key = {:?}\nclient_ca = {:?}\nclient_certificate = \"optional\"\n",
            path("chain.pem"),
            path("key.pem"),
            path("ca.pem")
        )
    }

    /// Where the CA's certificate is.
    pub(crate) fn path(site: &Site) -> PathBuf {
        site.path("ca.pem")
    }

    /// Opens a connection with TLS, with a certificate of this common name, if there is one. Gives
    /// the server's certificate too.
    pub(crate) fn dial(
        &self,
        address: SocketAddr,
        client: Option<&str>,
    ) -> (Box<dyn Wire>, Vec<u8>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let mut params = CertificateParams::new(Vec::new()).unwrap();
                params.distinguished_name.push(DnType::CommonName, name);
                let key = KeyPair::generate().unwrap();
                let certificate = params.signed_by(&key, &self.issuer).unwrap();
                let key: PrivateKeyDer<'static> =
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, dial(address));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let server = stream.conn.peer_certificates().unwrap()[0].to_vec();
        (Box::new(stream), server)
    }
}

/// More than the clocks of both sides may differ by.
pub(crate) const LATE: Duration = Duration::from_secs(7 * 60);

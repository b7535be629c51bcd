//! TLS: whom a client trusts to name brokers, and with which certificate it names itself.
//!
//! The files are read for each attempt to connect, so that one that was renewed is used without a
//! restart.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

/// Where systems keep the authorities that they trust, in one file: Debian, NixOS and Arch; Fedora;
/// macOS, Alpine and the BSDs.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What TLS connections use. By default the system's authorities, and no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    authorities: Option<PathBuf>,
    certificate: Option<Certificate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

/// What TLS was to use, and can't.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    /// One file of two.
    #[error("a TLS certificate needs its key, and a key its certificate: name both or neither")]
    HalfAPair,
    /// A file that can't be read.
    #[error("cannot read {}: check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system's authorities are nowhere.
    #[error("this system has no certificate authorities in {}: name a file of them with the setting tls.ca, or in SSL_CERT_FILE", SYSTEM_AUTHORITIES.join(", "))]
    NoAuthorities,
    /// A file without what it is for.
    #[error("{} has no {wanted} in PEM format", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A file that is not well-formed.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate and a key that can't be used, or not together.
    #[error("cannot use the certificate {} with its key", chain.display())]
    Pair {
        /// The file with the certificate.
        chain: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl Tls {
    /// Names the files (PEM): of the authorities that may name brokers, in place of the system's;
    /// and of the client's own certificate, with its chain, and its key.
    ///
    /// # Errors
    /// When there is a certificate without its key, or a key without its certificate.
    pub fn new(
        authorities: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Self, BadTls> {
        let certificate = match (certificate, key) {
            (Some(chain), Some(key)) => Some(Certificate { chain, key }),
            (None, None) => None,
            _ => return Err(BadTls::HalfAPair),
        };
        Ok(Self { authorities, certificate })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one can't be used; the message names it.
    pub(crate) fn load(&self) -> Result<Arc<ClientConfig>, BadTls> {
        let authorities = match &self.authorities {
            Some(path) => path.clone(),
            None => system_authorities()?,
        };
        let mut roots = RootCertStore::empty();
        // A system's file may have a few that are not understood. They name nobody.
        let (usable, _) = roots.add_parsable_certificates(certificates(&authorities)?);
        if usable == 0 {
            return Err(BadTls::Missing { path: authorities, wanted: "usable authority" });
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(Certificate { chain, key }) => builder
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(|source| BadTls::Pair { chain: chain.clone(), source })?,
        };
        Ok(Arc::new(config))
    }
}

fn system_authorities() -> Result<PathBuf, BadTls> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let known = SYSTEM_AUTHORITIES.iter().map(PathBuf::from);
    known.into_iter().find(|path| path.exists()).ok_or(BadTls::NoAuthorities)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let read =
        CertificateDer::pem_file_iter(path).map_err(|error| bad(path, "certificate", error))?;
    let certificates: Result<Vec<_>, _> = read.collect();
    match certificates {
        Ok(none) if none.is_empty() => {
            Err(BadTls::Missing { path: path.to_owned(), wanted: "certificate" })
        }
        read => read.map_err(|error| bad(path, "certificate", error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, BadTls> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| bad(path, "private key", error))
}

fn bad(path: &Path, wanted: &'static str, error: pem::Error) -> BadTls {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => BadTls::Unreadable { path, source },
        pem::Error::NoItemsFound => BadTls::Missing { path, wanted },
        // Some of these errors hold what they found, which may be a secret.
        pem::Error::Base64Decode(_) => {
            BadTls::Damaged { path, reason: "what is in it is not base64".to_owned() }
        }
        pem::Error::MissingSectionEnd { .. } => {
            BadTls::Damaged { path, reason: "a section has no end".to_owned() }
        }
        _ => BadTls::Damaged { path, reason: "it is not in PEM format".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["broker".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (chain, secret) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        fs::write(&chain, certificate.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        (folder, chain, secret)
    }

    #[test]
    fn authorities_and_a_certificate_with_its_key_are_read() {
        let (_folder, chain, key) = files();
        assert!(Tls::new(Some(chain.clone()), None, None).unwrap().load().is_ok());
        assert!(Tls::new(Some(chain.clone()), Some(chain), Some(key)).unwrap().load().is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_reason() {
        let (folder, chain, key) = files();
        let other = folder.path().join("other.pem");
        fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let cut = folder.path().join("cut.pem");
        fs::write(&cut, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        let absent = folder.path().join("absent.pem");
        let refused = |ca: &Path, pair: Option<(&Path, &Path)>| {
            let (chain, key) = pair.map(|(c, k)| (c.to_owned(), k.to_owned())).unzip();
            Tls::new(Some(ca.to_owned()), chain, key).unwrap().load().unwrap_err()
        };
        assert!(
            matches!(refused(&absent, None), BadTls::Unreadable { path, .. } if path == absent)
        );
        assert!(matches!(refused(&key, None), BadTls::Missing { path, .. } if path == key));
        assert!(matches!(refused(&cut, None), BadTls::Damaged { path, .. } if path == cut));
        let without_key = refused(&chain, Some((&chain, &chain)));
        assert!(matches!(without_key, BadTls::Missing { wanted: "private key", .. }));
        let mismatched = refused(&chain, Some((&chain, &other)));
        assert!(matches!(mismatched, BadTls::Pair { .. }), "{mismatched:?}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        for (chain, key) in [(Some("c".into()), None), (None, Some("k".into()))] {
            assert!(matches!(Tls::new(None, chain, key), Err(BadTls::HalfAPair)));
        }
    }
}

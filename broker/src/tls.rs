//! TLS for the listeners: certificates from PEM files, which are read again when they change.
//!
//! A connection keeps what it began with. New ones get what was read last, and a file that is
//! broken changes nothing: a renewal that went wrong must not close the door. Sessions are not
//! resumed, so that a client certificate is verified each time and nothing is kept for clients who
//! have left.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientCertificate, Kind, TlsFiles};
use crate::metrics::Metrics;

/// One listener's certificates, as they were read last.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    kind: Kind,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

/// What the last reading came upon.
#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    failure: Option<String>,
}

/// What changes when a file does, for each file.
type Stamps = Vec<Option<[i64; 5]>>;

impl Tls {
    /// Reads the files.
    pub fn load(files: TlsFiles, kind: Kind) -> Result<Self, Error> {
        let seen = Seen { stamps: stamps(&files), failure: None };
        let current = read(&files, kind)?;
        Ok(Self { files, kind, current: RwLock::new(current), seen: Mutex::new(seen) })
    }

    /// Gives what a new connection is to be served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again, whether or not they seem to have changed; counts and logs it.
    ///
    /// It waits for the disk. On an error, what was read before stays.
    pub fn reload(&self, metrics: &Metrics) -> Result<(), Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_again(&mut seen, metrics)
    }

    /// Reads the files again if they have changed, or were of no use the last time.
    ///
    /// The same failure with the same files is counted and logged once.
    pub fn refresh(&self, metrics: &Metrics) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.failure.is_some() || seen.stamps != stamps(&self.files) {
            let _ = self.read_again(&mut seen, metrics);
        }
    }

    fn read_again(&self, seen: &mut Seen, metrics: &Metrics) -> Result<(), Error> {
        // Taken first: what changes while the files are read is noticed the next time.
        let stamps = stamps(&self.files);
        let result = read(&self.files, self.kind);
        let failure = result.as_ref().err().map(ToString::to_string);
        let certificate = self.files.certificate.display();
        if let Some(failure) = &failure {
            if seen.failure.as_ref() != Some(failure) || seen.stamps != stamps {
                metrics.certificate_reload_failed();
                tracing::error!("kept the old certificate: {failure}");
            }
        } else {
            metrics.certificate_reloaded();
            tracing::info!("new connections get the certificate in {certificate} as it is now");
        }
        *seen = Seen { stamps, failure };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = result?;
        Ok(())
    }
}

/// Refreshes the certificates for ever, each in this interval.
pub async fn watch(listeners: Vec<Arc<Tls>>, interval: Duration, metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(interval).await;
        let (listeners, metrics) = (listeners.clone(), Arc::clone(&metrics));
        let work = move || listeners.iter().for_each(|tls| tls.refresh(&metrics));
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "could not look at the certificates");
        }
    }
}

/// Gives the common name in the subject of a client's certificate, if there is exactly one.
pub fn common_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or is no PEM file.
    #[error("cannot read {what} in {}: {source}", path.display())]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("{} holds no certificate: it is to have a PEM section CERTIFICATE", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the key do not belong together, or are of an unknown kind.
    #[error(
        "the certificate in {} cannot be used with the key in {}: {source}; check that they were \
         issued together",
        certificate.display(),
        key.display()
    )]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate of the client CA is none that can sign.
    #[error("cannot use a certificate in {} as a client CA: {source}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The client CA cannot be used.
    #[error("cannot verify client certificates with {}: {source}", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
    /// The library has no TLS 1.2 and 1.3 for us.
    #[error("cannot set up TLS: {0}")]
    Setup(#[source] rustls::Error),
}

fn read(files: &TlsFiles, kind: Kind) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| unreadable("a private key", &files.key, source))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?;
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| Error::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })?;
    // A client that names protocols must name ours: a browser that was lured here with a client
    // certificate speaks HTTP.
    let protocol: &[u8] = if kind.has_websocket() { b"http/1.1" } else { b"mqtt" };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client_verifier(files: &TlsFiles) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    let Some(path) = &files.client_ca else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| Error::ClientCa { path: path.clone(), source })?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match files.client_certificate {
        ClientCertificate::None => return Ok(None),
        ClientCertificate::Optional => builder.allow_unauthenticated(),
        ClientCertificate::Required => builder,
    };
    let verifier =
        builder.build().map_err(|source| Error::Verifier { path: path.clone(), source })?;
    Ok(Some(verifier))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable("certificates", path, source))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: path.into() });
    }
    Ok(chain)
}

fn unreadable(what: &'static str, path: &Path, source: pem::Error) -> Error {
    Error::Unreadable { what, path: path.into(), source }
}

fn stamps(files: &TlsFiles) -> Stamps {
    [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| {
            let file = fs::metadata(path).ok()?;
            let (device, inode) = (file.dev().cast_signed(), file.ino().cast_signed());
            Some([device, inode, file.size().cast_signed(), file.mtime(), file.mtime_nsec()])
        })
        .collect()
}

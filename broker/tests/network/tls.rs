//! TLS: who is who, certificates that change, and handshakes that don't come to an end.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use herald_broker::config::{ClientCertificate, Kind, TlsFiles};
use herald_broker::limits::Gate;
use herald_broker::listener::Transport;
use herald_broker::refusal::Refusal;
use herald_broker::tls::{Error, Tls, watch};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Echo, LIMIT, assert_closed, assert_echoes, until, within};
use crate::websocket::{OFFER, request, rules};

/// A CA and what it has issued, in a folder of its own.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority.issue_server();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another server certificate in the place of the one before, as ACME clients do.
    fn issue_server(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.replace("chain.pem", &certificate.pem());
        self.replace("key.pem", &key.serialize_pem());
    }

    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn files(&self, client_certificate: ClientCertificate) -> TlsFiles {
        let asks = client_certificate != ClientCertificate::None;
        TlsFiles {
            certificate: self.path("chain.pem"),
            key: self.path("key.pem"),
            client_ca: asks.then(|| self.path("ca.pem")),
            client_certificate,
        }
    }

    fn tls(&self, client_certificate: ClientCertificate) -> Arc<Tls> {
        Arc::new(Tls::load(self.files(client_certificate), Kind::Tls).unwrap())
    }

    /// Issues a client certificate with these common names.
    fn client(&self, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (n, name) in names.iter().enumerate() {
            // rcgen keeps one value of each type: the second common name is written as its OID.
            let kind =
                if n == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
            params.distinguished_name.push(kind, *name);
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        (certificate.der().clone(), key)
    }

    fn connector(
        &self,
        version: &'static SupportedProtocolVersion,
        client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        protocols: &[&str],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }

    async fn connect(&self, echo: &Echo) -> TlsStream<TcpStream> {
        dial(echo, &self.connector(&TLS13, None, &[])).await.unwrap()
    }
}

async fn dial(echo: &Echo, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(echo.address).await.unwrap();
    within(connector.connect("localhost".try_into().unwrap(), socket)).await
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Connects, and expects to be refused: with TLS 1.3 the client learns that after its handshake.
async fn assert_refused(echo: &Echo, connector: &TlsConnector) {
    let before = echo.metrics.refusals(Refusal::Tls);
    if let Ok(mut stream) = dial(echo, connector).await {
        let mut byte = [0];
        within(stream.read(&mut byte)).await.unwrap_err();
    }
    until("it is counted", || echo.metrics.refusals(Refusal::Tls) == before + 1).await;
}

#[tokio::test]
async fn both_versions_of_tls_carry_bytes() {
    let authority = Authority::new();
    let mut echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::None)));
    for version in [&TLS12, &TLS13] {
        for protocols in [&[][..], &["mqtt"]] {
            let connector = authority.connector(version, None, protocols);
            let mut client = dial(&echo, &connector).await.unwrap();
            assert_echoes(&mut client).await;
            let peer = echo.serves().await;
            assert_eq!((peer.transport, peer.certificate), (Kind::Tls, None));
        }
    }
}

#[tokio::test]
async fn client_certificate_gives_its_verified_common_name() {
    let authority = Authority::new();
    for demand in [ClientCertificate::Optional, ClientCertificate::Required] {
        let mut echo = Echo::start(Transport::Tls(authority.tls(demand)));
        for version in [&TLS12, &TLS13] {
            let client = Some(authority.client(&["web-1"]));
            let connector = authority.connector(version, client, &[]);
            assert_echoes(&mut dial(&echo, &connector).await.unwrap()).await;
            assert_eq!(echo.serves().await.certificate.as_deref(), Some("web-1"));
        }
    }
}

#[tokio::test]
async fn client_certificate_without_exactly_one_common_name_gives_none() {
    let authority = Authority::new();
    let mut echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::Required)));
    for names in [&[][..], &["web-1", "web-2"]] {
        let connector = authority.connector(&TLS13, Some(authority.client(names)), &[]);
        assert_echoes(&mut dial(&echo, &connector).await.unwrap()).await;
        assert_eq!(echo.serves().await.certificate, None);
    }
}

#[tokio::test]
async fn client_without_a_certificate_is_served_only_where_it_is_optional() {
    let authority = Authority::new();
    let without = authority.connector(&TLS13, None, &[]);
    let mut echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::Optional)));
    assert_echoes(&mut dial(&echo, &without).await.unwrap()).await;
    assert_eq!(echo.serves().await.certificate, None);
    let echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::Required)));
    assert_refused(&echo, &without).await;
}

#[tokio::test]
async fn client_certificate_of_another_ca_is_refused_even_where_it_is_optional() {
    let (authority, other) = (Authority::new(), Authority::new());
    let echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::Optional)));
    for version in [&TLS12, &TLS13] {
        let client = Some(other.client(&["web-1"]));
        assert_refused(&echo, &authority.connector(version, client, &[])).await;
    }
}

#[tokio::test]
async fn client_of_another_protocol_is_refused() {
    let authority = Authority::new();
    let echo = Echo::start(Transport::Tls(authority.tls(ClientCertificate::None)));
    assert_refused(&echo, &authority.connector(&TLS13, None, &["h2", "http/1.1"])).await;
}

#[tokio::test]
async fn new_connections_get_a_new_certificate_and_old_ones_go_on() {
    let authority = Authority::new();
    let tls = authority.tls(ClientCertificate::None);
    let echo = Echo::start(Transport::Tls(Arc::clone(&tls)));
    let watching = watch(vec![tls], Duration::from_millis(10), Arc::clone(&echo.metrics));
    tokio::spawn(watching);
    let mut old = authority.connect(&echo).await;
    let before = certificate(&old);
    authority.issue_server();
    until("the new files are read", || echo.metrics.certificate_reloads().0 >= 1).await;
    let mut new = authority.connect(&echo).await;
    assert_ne!(certificate(&new), before);
    assert_echoes(&mut new).await;
    assert_echoes(&mut old).await;
}

#[tokio::test]
async fn broken_files_change_nothing_and_are_counted_once() {
    let authority = Authority::new();
    let tls = authority.tls(ClientCertificate::None);
    let echo = Echo::start(Transport::Tls(Arc::clone(&tls)));
    let before = certificate(&authority.connect(&echo).await);
    let good = fs::read_to_string(authority.path("chain.pem")).unwrap();
    let other = Authority::new();
    let foreign = fs::read_to_string(other.path("chain.pem")).unwrap();
    let cut = &good[..good.len() / 2];
    for (failed, broken) in [cut, "", "no PEM", &foreign].into_iter().enumerate() {
        authority.replace("chain.pem", broken);
        tls.refresh(&echo.metrics);
        tls.refresh(&echo.metrics);
        assert_eq!(echo.metrics.certificate_reloads(), (0, failed as u64 + 1), "{broken}");
        assert_eq!(certificate(&authority.connect(&echo).await), before);
    }
    fs::remove_file(authority.path("chain.pem")).unwrap();
    let error = tls.reload(&echo.metrics).unwrap_err();
    assert!(error.to_string().contains("chain.pem"), "{error}");
    assert_eq!(certificate(&authority.connect(&echo).await), before);

    authority.issue_server();
    tls.refresh(&echo.metrics);
    assert_eq!(echo.metrics.certificate_reloads(), (1, 5));
    assert_ne!(certificate(&authority.connect(&echo).await), before);
    tls.refresh(&echo.metrics);
    assert_eq!(echo.metrics.certificate_reloads().0, 1, "nothing has changed");
    tls.reload(&echo.metrics).unwrap();
    assert_eq!(echo.metrics.certificate_reloads().0, 2, "but it was asked for");
}

#[tokio::test]
async fn new_client_ca_counts_for_new_connections() {
    let (authority, next) = (Authority::new(), Authority::new());
    let tls = authority.tls(ClientCertificate::Required);
    let mut echo = Echo::start(Transport::Tls(Arc::clone(&tls)));
    let by_old = authority.connector(&TLS13, Some(authority.client(&["old"])), &[]);
    let by_next = authority.connector(&TLS13, Some(next.client(&["next"])), &[]);
    assert_echoes(&mut dial(&echo, &by_old).await.unwrap()).await;
    assert_refused(&echo, &by_next).await;
    authority.replace("ca.pem", &next.issuer.pem());
    tls.refresh(&echo.metrics);
    // Were sessions resumed, this one would be: the connector has been here before.
    assert_refused(&echo, &by_old).await;
    assert_echoes(&mut dial(&echo, &by_next).await.unwrap()).await;
    assert_eq!(echo.serves().await.certificate.as_deref(), Some("old"));
    assert_eq!(echo.serves().await.certificate.as_deref(), Some("next"));
}

#[test]
fn files_of_no_use_are_refused_at_the_start_and_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let refusal = |files: TlsFiles| Tls::load(files, Kind::Tls).unwrap_err();
    let files = || authority.files(ClientCertificate::Required);
    let absent = authority.path("absent.pem");
    let error = refusal(TlsFiles { certificate: absent.clone(), ..files() });
    assert!(matches!(&error, Error::Unreadable { path, .. } if *path == absent), "{error}");
    let error = refusal(TlsFiles { key: absent.clone(), ..files() });
    assert!(matches!(&error, Error::Unreadable { path, .. } if *path == absent), "{error}");
    let error = refusal(TlsFiles { client_ca: Some(absent.clone()), ..files() });
    assert!(matches!(&error, Error::Unreadable { path, .. } if *path == absent), "{error}");
    let error = refusal(TlsFiles { certificate: authority.path("key.pem"), ..files() });
    assert!(matches!(error, Error::NoCertificate { .. }), "{error}");
    let error = refusal(TlsFiles { key: authority.path("chain.pem"), ..files() });
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    let error = refusal(TlsFiles { key: other.path("key.pem"), ..files() });
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("issued together"), "{error}");
}

#[tokio::test]
async fn silent_and_garbled_handshakes_hold_up_nobody_and_end_in_time() {
    let authority = Authority::new();
    let tls = authority.tls(ClientCertificate::None);
    let gate = Gate::new(100, 100, 0);
    let echo = Echo::with(Transport::Tls(tls), gate, Duration::from_secs(2));
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(echo.address).await.unwrap());
    }
    assert_echoes(&mut authority.connect(&echo).await).await;
    assert_eq!(echo.metrics.refusals(Refusal::HandshakeTimeout), 0, "nobody was waited for");
    for client in &mut silent {
        assert_closed(client).await;
    }
    until("all are counted", || echo.metrics.refusals(Refusal::HandshakeTimeout) == 20).await;
    until("all places are free", || echo.gate.taken() == 0).await;

    let mut garbled = TcpStream::connect(echo.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut garbled, b"\x10\x18\0\x04MQTT\x04").await.unwrap();
    let mut rest = Vec::new();
    let _ = within(garbled.read_to_end(&mut rest)).await;
    until("it is counted", || echo.metrics.refusals(Refusal::Tls) == 1).await;
}

#[tokio::test]
async fn websocket_in_tls_has_the_time_of_one_handshake_for_both() {
    let authority = Authority::new();
    let files = authority.files(ClientCertificate::Required);
    let tls = Arc::new(Tls::load(files, Kind::SecureWebSocket).unwrap());
    let transport = Transport::SecureWebSocket(tls, rules());
    let mut echo = Echo::with(transport, Gate::new(9, 9, 0), Duration::from_secs(2));
    let client = Some(authority.client(&["web-1"]));
    let connector = authority.connector(&TLS13, client, &["http/1.1"]);
    let socket = dial(&echo, &connector).await.unwrap();
    let (mut client, _) = client_async(request("/mqtt", &[OFFER]), socket).await.unwrap();
    client.send(Message::binary(&b"\xc0\0"[..])).await.unwrap();
    let answer = tokio::time::timeout(LIMIT, client.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Message::binary(&b"\xc0\0"[..]));
    let peer = echo.serves().await;
    assert_eq!(peer.transport, Kind::SecureWebSocket);
    assert_eq!(peer.certificate.as_deref(), Some("web-1"));

    // This one has done with TLS, and then says nothing.
    let mut silent = dial(&echo, &connector).await.unwrap();
    assert_closed(&mut silent).await;
    until("it is counted", || echo.metrics.refusals(Refusal::HandshakeTimeout) == 1).await;
}

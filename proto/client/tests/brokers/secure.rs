//! TLS, WebSocket and logins.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use herald_client::{
    ConnectionLost, Login, MAX_PAYLOAD, Message, Password, PasswordInTheOpen, Secret, Settings,
    Signed, Tls,
};
use herald_proto::{key::SecretKey, login, time::Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{
    fake::Fake,
    mosquitto::Mosquitto,
    support::{Peer, event, presence, says, settings},
};

/// An authority, and what it signed: a broker's certificate and a client's.
struct Pki {
    folder: TempDir,
}

impl Pki {
    fn new(broker: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed whose issuer is called like its subject.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", &ca.pem());
        for (name, subject) in [("broker", broker), ("client", "alpha")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
            write(&format!("{name}.pem"), &params.signed_by(&key, &ca).unwrap().pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the lines that make a mosquitto speak TLS.
    fn mosquitto(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}",
            path("ca.pem"),
            path("broker.pem"),
            path("broker.key")
        )
    }

    fn tls(&self) -> Tls {
        Tls::new(Some(self.path("ca.pem")), None, None).unwrap()
    }
}

fn at(address: String, client_id: &str, tls: Tls) -> Settings {
    Settings { broker: address.parse().unwrap(), tls, ..settings(1, client_id) }
}

#[tokio::test]
async fn a_client_speaks_tls_with_a_broker_whose_certificate_names_it() {
    let pki = Pki::new("localhost");
    let broker = Mosquitto::start_with(&pki.mosquitto());
    let address = format!("mqtts://localhost:{}", broker.port());
    let mut host = Peer::start(at(address, "a", pki.tls()), &[event("a")], ());
    host.connected().await;
    host.publish(Message::new(event("a"), vec![b'x'; MAX_PAYLOAD])).await;
    assert_eq!(host.text().await.len(), MAX_PAYLOAD);
}

#[tokio::test]
async fn a_broker_named_by_an_address_is_known_by_it() {
    let pki = Pki::new("127.0.0.1");
    let broker = Mosquitto::start_with(&pki.mosquitto());
    let address = format!("mqtts://127.0.0.1:{}", broker.port());
    Peer::start(at(address, "a", pki.tls()), &[], ()).connected().await;
}

#[tokio::test]
async fn a_broker_that_cannot_show_who_it_is_is_not_spoken_to() {
    let pki = Pki::new("broker.example.org");
    let broker = Mosquitto::start_with(&pki.mosquitto());
    let address = format!("mqtts://localhost:{}", broker.port());
    for (tls, expected) in
        [(pki.tls(), "NotValidForName"), (Pki::new("localhost").tls(), "BadSignature")]
    {
        let mut host = Peer::start(at(address.clone(), "a", tls), &[], ());
        let (_, reason) = host.disconnected().await;
        assert!(format!("{reason:?}").contains(expected), "{reason:?}");
        assert!(matches!(reason, ConnectionLost::Tls { .. }));
    }
    let mut host = Peer::start(
        at(address, "a", Tls::new(Some("/absent".into()), None, None).unwrap()),
        &[],
        (),
    );
    assert!(matches!(host.disconnected().await, (1, ConnectionLost::BadTls(_))));
}

#[tokio::test]
async fn a_client_shows_its_certificate_to_a_broker_that_wants_one() {
    let pki = Pki::new("localhost");
    let broker = Mosquitto::start_with(&format!("{}\nrequire_certificate true", pki.mosquitto()));
    let address = format!("mqtts://localhost:{}", broker.port());
    let (ca, pair) = (pki.path("ca.pem"), (pki.path("client.pem"), pki.path("client.key")));
    let with = Tls::new(Some(ca), Some(pair.0), Some(pair.1)).unwrap();
    Peer::start(at(address.clone(), "a", with), &[], ()).connected().await;
    let mut without = Peer::start(at(address, "b", pki.tls()), &[], ());
    let (_, reason) = without.disconnected().await;
    assert!(matches!(reason, ConnectionLost::Network(_) | ConnectionLost::Closed), "{reason:?}");
}

/// Puts WebSocket, in small messages, before a mosquitto that has none, and gives the port.
async fn websocket_before(mosquitto: u16, subprotocol: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(bridge(stream, mosquitto, subprotocol));
        }
    });
    port
}

async fn bridge(stream: TcpStream, mosquitto: u16, subprotocol: &'static str) {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    };
    #[allow(clippy::result_large_err, reason = "tungstenite wants it so")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.headers()["sec-websocket-protocol"], "mqtt");
        if request.uri().path() != "/mqtt" {
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = http_not_found();
            return Err(refused);
        }
        let value = subprotocol.parse().unwrap();
        response.headers_mut().insert("sec-websocket-protocol", value);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, answer).await else { return };
    let mut broker = TcpStream::connect(("127.0.0.1", mosquitto)).await.unwrap();
    let mut buffer = [0; 1000];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => broker.write_all(&bytes).await.unwrap(),
                Some(Ok(_)) => {}
                _ => return,
            },
            read = broker.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => {
                    // An empty message and a ping mean nothing.
                    socket.send(Message::Binary(Vec::new().into())).await.unwrap();
                    socket.send(Message::Ping(Vec::new().into())).await.unwrap();
                    socket.send(Message::Binary(buffer[..size].to_vec().into())).await.unwrap();
                }
            },
        }
    }
}

fn http_not_found() -> tokio_tungstenite::tungstenite::http::StatusCode {
    tokio_tungstenite::tungstenite::http::StatusCode::NOT_FOUND
}

#[tokio::test]
async fn a_client_speaks_websocket_with_messages_of_any_size() {
    let broker = Mosquitto::start();
    let port = websocket_before(broker.port(), "mqtt").await;
    let address = format!("ws://127.0.0.1:{port}");
    let mut host = Peer::start(at(address, "a", Tls::default()), &[event("a")], ());
    host.connected().await;
    for _ in 0..20 {
        host.publish(Message::new(event("a"), vec![b'x'; MAX_PAYLOAD])).await;
        assert_eq!(host.text().await.len(), MAX_PAYLOAD);
    }
}

#[tokio::test]
async fn a_websocket_that_is_not_for_mqtt_is_named() {
    let broker = Mosquitto::start();
    let other = websocket_before(broker.port(), "chat").await;
    let right = websocket_before(broker.port(), "mqtt").await;
    let cases = [
        (format!("ws://127.0.0.1:{other}"), "SubProtocol"),
        (format!("ws://127.0.0.1:{right}/elsewhere"), "404"),
    ];
    for (address, expected) in cases {
        let mut host = Peer::start(at(address, "a", Tls::default()), &[], ());
        let (_, reason) = host.disconnected().await;
        let ConnectionLost::WebSocket { source, .. } = reason else { panic!("{reason:?}") };
        assert!(source.to_string().contains(expected), "{source}");
    }
}

#[tokio::test]
async fn a_client_speaks_websocket_over_tls() {
    use tokio_rustls::rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    };
    let pki = Pki::new("localhost");
    let broker = Mosquitto::start();
    let inner = websocket_before(broker.port(), "mqtt").await;
    let chain = vec![CertificateDer::from_pem_file(pki.path("broker.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.path("broker.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut inner = TcpStream::connect(("127.0.0.1", inner)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut inner).await;
            });
        }
    });
    let address = format!("wss://localhost:{port}/mqtt");
    let mut host = Peer::start(at(address, "a", pki.tls()), &[event("a")], ());
    host.connected().await;
    host.publish(Message::new(event("a"), vec![b'x'; MAX_PAYLOAD])).await;
    assert_eq!(host.text().await.len(), MAX_PAYLOAD);
}

fn password(text: &str) -> Login {
    let password = Secret::new(text);
    Login::Password(Password { user: "home/alpha".to_owned(), password, unprotected: false })
}

#[tokio::test]
async fn a_password_logs_in_and_a_wrong_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    // `mosquitto_passwd` makes it, with the password `hush`.
    fs::write(&file, "home/alpha:hush\n").unwrap();
    let made = std::process::Command::new("mosquitto_passwd").arg("-U").arg(&file).status();
    assert!(made.is_ok_and(|made| made.success()), "mosquitto_passwd is installed");
    let broker =
        Mosquitto::start_with(&format!("allow_anonymous false\npassword_file {}", file.display()));
    let login = |login| Settings { login, ..settings(broker.port(), "a") };
    Peer::start(login(password("hush")), &[], ()).connected().await;
    let (_, reason) = Peer::start(login(password("wrong")), &[], ()).disconnected().await;
    assert!(matches!(reason, ConnectionLost::PasswordRefused { code: 5, .. }), "{reason:?}");
    let (_, reason) = Peer::start(login(Login::None), &[], ()).disconnected().await;
    assert!(matches!(reason, ConnectionLost::Refused { code: 5 }), "{reason:?}");
}

#[tokio::test]
async fn each_connection_has_a_token_of_its_own_that_a_broker_can_verify() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SECONDS: AtomicU64 = AtomicU64::new(1_800_000_000);
    fn clock() -> Timestamp {
        Timestamp::from_millis(SECONDS.fetch_add(1000, Ordering::Relaxed) * 1000)
    }
    let fake = Fake::start().await;
    let key = Arc::new(SecretKey::from_seed("alpha".parse().unwrap(), &[7; 32]).unwrap());
    let signed = Signed {
        principal: "home/alpha".parse().unwrap(),
        broker: "broker".parse().unwrap(),
        key: Arc::clone(&key),
        clock,
        earliest: Timestamp::default(),
    };
    let settings = Settings { login: Login::Signed(signed), ..settings(fake.port(), "a") };
    let mut host = Peer::start(settings, &[], ());
    for connection in 0..3 {
        let (mut session, user, token) = fake.accept_login().await;
        assert_eq!(user, "home/alpha");
        let principal = user.parse().unwrap();
        let expected = login::Login { principal: &principal, client_id: "a" };
        let now = Timestamp::from_millis((1_800_000_000 + connection * 1000) * 1000);
        let (keys, brokers) = ([key.public().clone()], ["broker".parse().unwrap()]);
        login::verify(&token, &keys, &expected, &brokers, now).unwrap();
        session.say(&[0x20, 2, 0, 0]).await;
        host.connected().await;
    }
}

#[tokio::test]
async fn a_password_is_not_sent_in_the_open() {
    let open = Settings {
        broker: "mqtt://192.0.2.1".parse().unwrap(),
        login: password("hush"),
        ..settings(1, "a")
    };
    let (_, reason) = Peer::start(open, &[presence("a")], ()).disconnected().await;
    let ConnectionLost::PasswordInTheOpen(PasswordInTheOpen { user, .. }) = &reason else {
        panic!("{reason:?}");
    };
    assert_eq!(user, "home/alpha");
    assert!(!reason.to_string().contains("hush"));
}

#[tokio::test]
async fn a_tls_broker_that_dies_is_noticed_and_what_waits_arrives_after_it() {
    let pki = Pki::new("localhost");
    let mut broker = Mosquitto::start_with(&pki.mosquitto());
    let address = format!("mqtts://localhost:{}", broker.port());
    let mut host = Peer::start(at(address, "a", pki.tls()), &[], ());
    host.connected().await;
    broker.kill();
    let (_, reason) = host.disconnected().await;
    assert!(matches!(reason, ConnectionLost::Closed | ConnectionLost::Network(_)), "{reason:?}");
    let waits = host.client.publish(says(event("a"), "event"));
    broker.restart();
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap(), Ok(()));
}

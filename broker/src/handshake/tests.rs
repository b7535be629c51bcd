use std::net::IpAddr;

use herald_proto::{key::SecretKey, login::sign};

use super::*;
use crate::{
    auth::Authenticator,
    broker::Settings,
    config::Kind,
    limits::{Entry, Gate},
    logins::Logins,
    metrics::Metrics,
    passwords::Passwords,
    quota::Limits,
    server::Server,
};

const NAME: &str = "home/web-1";
const BROKER: &str = "mqtt.example.org";

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed("web-1".parse().unwrap(), &[n; 32]).unwrap()
}

/// Takes `web-1` with this key, and nobody else.
fn authenticator(folder: &std::path::Path, key: &SecretKey) -> Authenticator {
    let path = folder.join("home.toml");
    let text = format!("fleet = \"home\"\n[hosts]\nweb-1 = [\"{}\"]\n", key.public());
    std::fs::write(&path, text).unwrap();
    let logins = Logins::load(&[path]).unwrap();
    Authenticator::new(logins, Passwords::none(), vec![BROKER.parse().unwrap()])
}

fn asked(client: &str, key: &SecretKey) -> Asked {
    let (principal, broker) = (NAME.parse().unwrap(), BROKER.parse().unwrap());
    let login = herald_proto::login::Login { principal: &principal, client_id: client };
    let password = sign(&login, &broker, key, crate::broker::now()).as_str().to_owned();
    let connect = Connect {
        client_id: client.to_owned(),
        clean_session: true,
        keep_alive: 0,
        will: None,
        username: Some(NAME.to_owned()),
        password: Some(password),
    };
    Asked::of(connect).unwrap()
}

fn peer() -> Peer {
    let address = (IpAddr::from([192, 0, 2, 1]), 1883).into();
    Peer { address, transport: Kind::Tcp, certificate: None, anonymous: false }
}

fn permit() -> Permit {
    match Gate::new(1, 1, 0).enter(peer().address.ip()) {
        Entry::Seat(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_login_that_changes_while_its_client_is_on_its_way_in_does_not_let_it_in() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let settings = Settings {
        max_packet: 1024,
        slow_after: Duration::from_secs(1),
        limits: Limits::default(),
        has_anonymous: false,
    };
    let first = authenticator(folder.path(), &key(1));
    let server = Server::start(&state, first, settings, Arc::new(Metrics::new())).unwrap();
    let broker = server.broker();

    // Read again, and the same.
    let client = asked("client", &key(1));
    let found = authenticate(broker, &peer(), &client).await.unwrap();
    broker.replace_authenticator(authenticator(folder.path(), &key(1))).unwrap();
    let (session, _) = client.accept(broker, found, permit()).await.unwrap();
    drop(session);

    // The password was checked, and the key is taken away before there is a session to be closed.
    let client = asked("client", &key(1));
    let found = authenticate(broker, &peer(), &client).await.unwrap();
    broker.replace_authenticator(authenticator(folder.path(), &key(2))).unwrap();
    let refused = client.accept(broker, found, permit()).await.err().unwrap();
    assert_eq!(refused.reason, Some(Refusal::LoginChanged));
    assert!(broker.registry.is_empty());
    // It tries again, and is told.
    let refused = authenticate(broker, &peer(), &asked("client", &key(1))).await.err().unwrap();
    assert_eq!(refused.code, Some(ConnectReturn::BadLogin));
    server.stop().await;
}

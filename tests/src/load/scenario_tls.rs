//! TLS: what a connection costs a broker that has been greeted over it and hears nothing more.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    sync::Arc,
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};

use super::{
    broker::{Broker, Carrier, program},
    failure::Failure,
    names,
    settings::{Settings, Side},
    table::Ledger,
};

/// How long a broker may take for an answer.
const LIMIT: Duration = Duration::from_secs(10);

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Measures the memory of a broker with connections over TLS that each have a session.
pub(crate) fn run(settings: &Settings, side: Side, ledger: &mut Ledger) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("herald-load-").tempdir();
    let folder = folder.map_err(Failure::system("make a temporary folder"))?;
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(tls)?;
    for (name, text) in [("broker.pem", cert.pem()), ("broker.key", signing_key.serialize_pem())] {
        std::fs::write(folder.path().join(name), text)
            .map_err(Failure::system("write a certificate"))?;
    }
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).map_err(tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);

    let broker = Broker::start_in(folder, Carrier::Tls, program(settings, side)?)?;
    // The first ones make the broker allocate what it has once.
    let mut connections = Vec::new();
    let count = settings.tls_connections as usize;
    let first = count.div_ceil(20);
    for number in 0..first {
        connections.push(connect(&client, broker.address(), number)?);
    }
    let before = broker.resident_kib()?;
    for number in first..first + count {
        connections.push(connect(&client, broker.address(), number)?);
    }
    let each = (broker.resident_kib()? - before) / count as f64;
    drop(connections);
    ledger.add(side, "rss_per_tls_connection_kib", each);
    if !settings.json_only {
        let side = format!("{side:?}").to_lowercase();
        settings.say(format_args!("{side:>10}  {count} connections over TLS: {each:.2} KiB each"));
    }
    Ok(())
}

/// Connects, is greeted, and subscribes to two topics, as hosts do.
fn connect(
    client: &Arc<ClientConfig>,
    address: SocketAddrV4,
    number: usize,
) -> Result<Connection, Failure> {
    let at = |what: &'static str| Failure::system(what);
    let stream = TcpStream::connect(address).map_err(at("connect"))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(at("connect"))?;
    let name = ServerName::try_from("localhost").map_err(tls)?;
    let session = ClientConnection::new(Arc::clone(client), name).map_err(tls)?;
    let mut connection = StreamOwned::new(session, stream);
    let string = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let greeting = [&b"\0\x04MQTT\x04\x02\x04\xb0"[..], &string(&names::host(number))].concat();
    send(&mut connection, 0x10, &greeting)?;
    receive::<4>(&mut connection)?;
    let filters = [names::desired(number), names::BEACON.to_owned()];
    let filters = filters.iter().flat_map(|filter| [string(filter), vec![1]].concat());
    send(&mut connection, 0x82, &[vec![0, 1], filters.collect()].concat())?;
    receive::<6>(&mut connection)?;
    Ok(connection)
}

fn send(connection: &mut Connection, kind: u8, body: &[u8]) -> Result<(), Failure> {
    // Host names and topics are short, and so are these packets: one or two bytes of length.
    let length = match body.len() {
        short @ ..128 => vec![short as u8],
        long => vec![(long % 128) as u8 | 0x80, (long / 128) as u8],
    };
    let packet = [&[kind][..], &length, body].concat();
    connection.write_all(&packet).map_err(Failure::system("send over TLS"))
}

fn receive<const LENGTH: usize>(connection: &mut Connection) -> Result<(), Failure> {
    let mut answer = [0; LENGTH];
    connection.read_exact(&mut answer).map_err(Failure::system("be answered over TLS"))
}

fn tls(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::system("use TLS")(std::io::Error::other(error))
}

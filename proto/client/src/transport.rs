//! The way to a broker: TCP, TLS on it where the address says so, and WebSocket on that.

use std::{io, pin::Pin};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{BrokerUrl, ConnectionLost, Tls, websocket::WebSocket};

/// Bytes both ways.
pub(crate) type Stream = Pin<Box<dyn Bytes>>;

pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

/// Connects to a broker. It takes as long as the network does: bound it.
pub(crate) async fn connect(broker: &BrokerUrl, tls: &Tls) -> Result<Stream, ConnectionLost> {
    let unreachable = |source| ConnectionLost::Unreachable { broker: broker.clone(), source };
    // Files that can't be used are told before anything is sent.
    let tls = if broker.scheme().is_tls() { Some(tls.load()?) } else { None };
    let nameless = |source| ConnectionLost::UnknownName { broker: broker.clone(), source };
    let found = lookup_host((broker.bare_host(), broker.port())).await.map_err(nameless)?;
    let tcp = TcpStream::connect(&*found.collect::<Vec<_>>()).await.map_err(unreachable)?;
    // Acknowledgements are small, and the next message waits for them.
    tcp.set_nodelay(true).map_err(unreachable)?;
    let Some(tls) = tls else {
        return carry(broker, tcp).await;
    };
    let insecure = |source| ConnectionLost::Tls { broker: broker.clone(), source };
    let name = ServerName::try_from(broker.bare_host().to_owned());
    let name = name.map_err(|error| insecure(io::Error::other(error)))?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(insecure)?;
    carry(broker, stream).await
}

/// Lays WebSocket on a connection, where the address says so.
async fn carry(
    broker: &BrokerUrl,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Stream, ConnectionLost> {
    if !broker.scheme().is_websocket() {
        return Ok(Box::pin(stream));
    }
    let stream = WebSocket::open(broker, stream).await;
    let refused = |source| ConnectionLost::WebSocket { broker: broker.clone(), source };
    Ok(Box::pin(stream.map_err(refused)?))
}

//! Asks a listener for a CONNACK: the proof that it serves MQTT, and does not merely accept.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// MQTT 3.1.1, clean session, keepalive of 10 s, client id `herald-probe`.
const CONNECT: &[u8] = b"\x10\x18\0\x04MQTT\x04\x02\0\x0a\0\x0cherald-probe";

/// No session present, accepted.
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

const RETRY: Duration = Duration::from_millis(2);

/// Returns once the listener has accepted an MQTT connection; the caller sets the time limit.
///
/// The connection is dropped without a DISCONNECT, which the relay would log as an error.
pub(crate) async fn answers(address: SocketAddr) {
    while !matches!(ask(address).await, Ok(CONNACK)) {
        tokio::time::sleep(RETRY).await;
    }
}

async fn ask(address: SocketAddr) -> io::Result<[u8; 4]> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(CONNECT).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

//! The one question that tells whether a broker serves MQTT: a CONNECT, and its CONNACK.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// How long one answer may take; a server that begins may be silent, and is asked again.
const ANSWER: Duration = Duration::from_secs(2);

/// An anonymous CONNECT of MQTT 3.1.1 with a clean session and the client id `ready`.
const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready";
/// A CONNACK that takes the connection, and knows of no session.
const CONNACK: [u8; 4] = *b"\x20\x02\x00\x00";
const DISCONNECT: &[u8] = b"\xe0\x00";

/// Tells whether a broker on loopback takes an anonymous connection.
pub(crate) fn is_accepted(port: u16) -> bool {
    connect(port).unwrap_or(false)
}

fn connect(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(CONNECT)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    stream.write_all(DISCONNECT)?;
    Ok(answer == CONNACK)
}

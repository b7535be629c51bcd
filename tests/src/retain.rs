//! Retained messages from one client, many of them.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::load::packet::{self, Incoming};

/// How many messages wait for their acknowledgement at most.
const WINDOW: usize = 200;

/// How long the broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes messages, retained, at a broker on loopback; returns when it has acknowledged all.
///
/// # Errors
/// When the broker does not answer, or otherwise than it must.
pub fn retain(port: u16, messages: impl IntoIterator<Item = (String, Vec<u8>)>) -> io::Result<()> {
    let mut client = Client { stream: TcpStream::connect(("127.0.0.1", port))?, read: Vec::new() };
    client.stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = Vec::new();
    packet::connect(&mut out, "retainer", true, 60);
    client.stream.write_all(&out)?;
    client.next()?;
    let (mut waiting, mut ids) = (0, (1..=u16::MAX).cycle());
    for (topic, payload) in messages {
        if waiting == WINDOW {
            client.next()?;
            waiting -= 1;
        }
        out.clear();
        packet::publish(&mut out, &topic, &payload, true, ids.next().unwrap_or(1));
        client.stream.write_all(&out)?;
        waiting += 1;
    }
    for _ in 0..waiting {
        client.next()?;
    }
    out.clear();
    packet::disconnect(&mut out);
    client.stream.write_all(&out)
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Waits for the broker's next answer.
    fn next(&mut self) -> io::Result<()> {
        loop {
            let packet = packet::read(&self.read).map_err(io::Error::other)?;
            if let Some((packet, length)) = packet {
                let fine =
                    matches!(packet, Incoming::PubAck { .. } | Incoming::ConnAck { code: 0, .. });
                if !fine {
                    return Err(io::Error::other(format!("the broker answers {packet:?}")));
                }
                self.read.drain(..length);
                return Ok(());
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.read.extend(&more[..count]),
            }
        }
    }
}

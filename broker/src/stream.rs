//! A connection as a stream of bytes, whatever carries it.
//!
//! It is as small as the socket: what TLS and WebSocket need is behind a pointer, and a plain
//! connection holds no buffer at all.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::refusal::Refusal;
use crate::websocket::WebSocket;

/// Most bytes that one [`Stream::receive`] takes.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Where all connections of a thread read to, so that none needs a buffer while it waits.
    static SCRATCH_SPACE: RefCell<Box<[u8; SCRATCH]>> = RefCell::new(Box::new([0; SCRATCH]));
}

/// A client's connection, ready for MQTT.
#[derive(Debug)]
pub enum Stream {
    /// MQTT in TCP.
    Tcp(TcpStream),
    /// MQTT in TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// MQTT in WebSocket.
    WebSocket(Box<WebSocket<TcpStream>>),
    /// MQTT in WebSocket in TLS.
    SecureWebSocket(Box<WebSocket<TlsStream<TcpStream>>>),
}

impl Stream {
    /// Waits for bytes and appends what there is, at most `limit` (or 1); 0 says that there are no more.
    ///
    /// Nothing is allocated until there are bytes. It can be cancelled without losing any.
    pub async fn receive(&mut self, bytes: &mut BytesMut, limit: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive(cx, bytes, limit)).await
    }

    /// See [`Stream::receive`].
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        SCRATCH_SPACE.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..limit.clamp(1, SCRATCH)]);
            Pin::new(self).poll_read(cx, &mut buffer).map_ok(|()| {
                bytes.extend_from_slice(buffer.filled());
                buffer.filled().len()
            })
        })
    }
}

/// Tells which rules a client has broken, if that is why its connection failed.
pub fn broken(error: &io::Error) -> Option<Refusal> {
    match error.get_ref() {
        _ if error.kind() != io::ErrorKind::InvalidData => None,
        Some(inner) if inner.is::<rustls::Error>() => Some(Refusal::Tls),
        _ => Some(Refusal::WebSocket),
    }
}

/// Calls the same method of whatever carries the connection.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
            Stream::WebSocket(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
            Stream::SecureWebSocket(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::WebSocket(stream) => stream.is_write_vectored(),
            Self::SecureWebSocket(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_as_small_as_a_socket() {
        assert!(size_of::<Stream>() <= size_of::<TcpStream>() + size_of::<usize>());
    }
}

//! WebSocket as a stream of bytes (MQTT 3.1.1, section 6).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use crate::BrokerUrl;

/// The subprotocol that both sides name.
const MQTT: HeaderValue = HeaderValue::from_static("mqtt");
/// The most bytes in one message, out and in.
const LARGEST_MESSAGE: usize = 1024 * 1024;
/// The most bytes that wait to be written.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// Bytes in binary messages. Where a message ends means nothing.
pub(crate) struct WebSocket<S> {
    messages: WebSocketStream<S>,
    /// What of the last message was not read yet.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Opens a WebSocket on a connection.
    pub(crate) async fn open(broker: &BrokerUrl, connection: S) -> io::Result<Self> {
        let mut request = broker.to_string().into_client_request().map_err(in_io)?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, MQTT);
        let limits = WebSocketConfig::default()
            .read_buffer_size(8 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * WRITTEN_AT_ONCE)
            .max_message_size(Some(LARGEST_MESSAGE))
            .max_frame_size(Some(LARGEST_MESSAGE));
        let opened = client_async_with_config(request, connection, Some(limits)).await;
        // It is an error if the server does not name the subprotocol too.
        let (messages, _) = opened.map_err(in_io)?;
        Ok(Self { messages, rest: Bytes::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(in_io(error))),
            }
        }
        let size = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..size]);
        self.rest.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.messages).poll_ready(context)).map_err(in_io)?;
        let taken = &bytes[..bytes.len().min(WRITTEN_AT_ONCE)];
        let message = Message::Binary(Bytes::copy_from_slice(taken));
        Pin::new(&mut self.messages).start_send(message).map_err(in_io)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_flush(context).map_err(in_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_close(context).map_err(in_io)
    }
}

fn in_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        // The text of this one is only a number.
        Error::Http(answer) => {
            let status = answer.status();
            io::Error::other(format!(
                "the server answered {status}: check the address and its path"
            ))
        }
        error => io::Error::other(error),
    }
}

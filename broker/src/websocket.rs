//! MQTT over WebSocket (MQTT 3.1.1 section 6): a stream of bytes out of binary frames.
//!
//! Packets may be split over frames or share them. What a connection can make the broker hold is
//! bounded: one message that comes, and one small frame that goes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{self, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// The WebSocket subprotocol that clients must offer.
const SUBPROTOCOL: &str = "mqtt";

/// Most bytes that one read takes; a connection keeps as many.
const READ: usize = 1024;

/// Most bytes of a frame that goes out; a connection keeps as many at most.
const FRAME: usize = 4096;

/// What a listener asks of those who open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The only path that there is.
    pub path: String,
    /// Most bytes of one message.
    pub max_message: usize,
    /// Whether pages in a browser may connect. Where there is no login they may not: any page that
    /// somebody on this machine looks at could open a WebSocket to a loopback address.
    pub pages: bool,
}

/// A WebSocket, as a stream of bytes.
///
/// What was written is on its way only after a flush. An error of the kind
/// [`io::ErrorKind::InvalidData`] says that the client broke the rules.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What is left of the message that is being read.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Answers the opening handshake. The caller sets the time limit.
    pub async fn accept(stream: S, rules: &Rules) -> io::Result<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * FRAME)
            .max_message_size(Some(rules.max_message))
            .max_frame_size(Some(rules.max_message));
        let inner = accept_hdr_async_with_config(stream, Greeter(rules), Some(config))
            .await
            .map_err(broken)?;
        Ok(Self { inner, rest: Bytes::new() })
    }
}

/// Looks at the request to open a WebSocket.
struct Greeter<'a>(&'a Rules);

impl Callback for Greeter<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let refuse = |status, text: &str| {
            let mut response = http::Response::new(Some(format!("{text}\n")));
            *response.status_mut() = status;
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
            response
        };
        if request.uri().path() != self.0.path {
            return Err(refuse(StatusCode::NOT_FOUND, "nothing is here"));
        }
        if !self.0.pages && request.headers().contains_key(ORIGIN) {
            return Err(refuse(StatusCode::FORBIDDEN, "no web page may connect without a login"));
        }
        let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = offered.filter_map(|value| value.to_str().ok());
        if !offered.flat_map(|value| value.split(',')).any(|name| name.trim() == SUBPROTOCOL) {
            return Err(refuse(StatusCode::BAD_REQUEST, "offer the WebSocket subprotocol mqtt"));
        }
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        Ok(response)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Pings and the closing of the other side are answered in the next poll.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let error = "a text frame, where MQTT sends binary ones";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Err(tungstenite::Error::Protocol(
                    ProtocolError::ResetWithoutClosingHandshake,
                )))
                | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        if self.rest.is_empty() {
            // Else the buffer that it is part of could not be used again.
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The frame before this one, and any pong, must be gone: there is room for one frame.
        ready!(self.as_mut().poll_flush(cx))?;
        let frame = &bytes[..bytes.len().min(FRAME)];
        let message = Message::Binary(Bytes::copy_from_slice(frame));
        Pin::new(&mut self.inner).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
            Err(tungstenite::Error::Io(error)) => Poll::Ready(Err(error)),
            // Closed before.
            Err(_) | Ok(()) => Pin::new(self.inner.get_mut()).poll_shutdown(cx),
        }
    }
}

/// Tells a broken network from a client that broke the rules.
fn broken(error: tungstenite::Error) -> io::Error {
    use tungstenite::Error;
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        Error::Protocol(
            ProtocolError::SendAfterClosing | ProtocolError::ResetWithoutClosingHandshake,
        ) => io::ErrorKind::BrokenPipe.into(),
        Error::Http(response) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the request to open a WebSocket was answered {}", response.status()),
        ),
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

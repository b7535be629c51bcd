//! Answers `GET /metrics` on a loopback port: as little of HTTP/1.1 as a scraper needs.
//!
//! A request is bounded in size and time, and so is the number of them at once. It shows counts,
//! and changes nothing.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::listener::next;
use crate::log::RateLimited;
use crate::metrics::Metrics;

/// Most requests at a time; more are closed unanswered.
const AT_ONCE: usize = 8;
/// Most bytes of a request's head.
const MAX_HEAD: usize = 4096;
/// From the connection to the end of the answer.
const LIMIT: Duration = Duration::from_secs(5);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers for ever.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let log = RateLimited::new(1);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let (socket, _) = next(&listener, |error| {
            if let Some(suppressed) = log.admit("accept", Instant::now()) {
                tracing::error!(%error, suppressed, "cannot take a scrape, and will try again");
            }
        })
        .await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            // A scraper that breaks off asks again; nothing depends on it.
            let _ = timeout(LIMIT, answer(socket, &metrics)).await;
            drop(place);
        });
    }
}

async fn answer(mut socket: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let (status, kind, body) = match request(&mut socket).await? {
        Request::Metrics => match metrics.encode() {
            Ok(text) => ("200 OK", OPEN_METRICS, text),
            Err(_) => ("500 Internal Server Error", TEXT, "cannot be written\n".to_owned()),
        },
        Request::Other => ("404 Not Found", TEXT, "only GET /metrics is here\n".to_owned()),
        Request::TooLarge => {
            ("431 Request Header Fields Too Large", TEXT, "too large\n".to_owned())
        }
        Request::Broken => return Ok(()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

enum Request {
    Metrics,
    Other,
    TooLarge,
    /// The connection ended before the request did.
    Broken,
}

async fn request(socket: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Ok(Request::TooLarge);
        }
        let room = (MAX_HEAD - head.len()) as u64;
        if (&mut *socket).take(room).read_buf(&mut head).await? == 0 {
            return Ok(Request::Broken);
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(match line.strip_prefix(b"GET /metrics") {
        Some([b' ' | b'?', ..]) => Request::Metrics,
        _ => Request::Other,
    })
}

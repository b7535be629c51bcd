//! Asks a web server for a page, and looks at nothing but the status of its answer.
//!
//! One request over HTTP/1.1, no redirect followed, nothing read behind the answer's head, and no
//! more of that than a bound.

use std::io;

use herald_proto::http::HttpCheck;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The most bytes of an answer's head, with those of interim answers before it.
const MAX_HEAD: usize = 16 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Gives the status with which the server answers.
///
/// # Errors
/// When there is no connection, or no answer over HTTP.
pub(crate) async fn status(check: &HttpCheck) -> io::Result<u16> {
    let (host, port) = check.url.server();
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    let (path, host) = (check.url.path(), check.host_header());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: herald-subscriber\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut head, mut total, mut piece) = (Vec::new(), 0, [0; 1024]);
    loop {
        let count = stream.read(&mut piece).await?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Err(other("it closed the connection before its answer's head had ended"));
        }
        head.extend_from_slice(read);
        total += count;
        // Interim answers, such as 103, come before the one that counts.
        while let Some(end) = head.windows(END_OF_HEAD.len()).position(|part| part == END_OF_HEAD) {
            let status = status_in(&head).ok_or_else(|| other("its answer is not HTTP"))?;
            if !(100..200).contains(&status) || status == 101 {
                return Ok(status);
            }
            head.drain(..end + END_OF_HEAD.len());
        }
        if total > MAX_HEAD {
            return Err(other("the head of its answer does not end"));
        }
    }
}

/// Reads the status line: `HTTP/1.1 200 OK`.
fn status_in(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let (digits, reason) = rest.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok().filter(|_| matches!(reason, [] | [b' ', ..]))?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn other(problem: &str) -> io::Error {
    io::Error::other(problem)
}

//! Free ports of loopback.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the ports that systems hand out to outgoing connections, which could take one between
/// its choice and its use.
const FIRST: u16 = 10_000;
const SPAN: u16 = 20_000;

/// Gives a port that nobody listens on, and that this process gives only once. Processes begin
/// at different places, so that those that run at the same time seldom meet.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(64) % u32::from(SPAN);
    let begin = u16::try_from(begin).expect("below the span");
    for _ in 0..SPAN {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % SPAN) % SPAN;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of loopback is free between {FIRST} and {}", FIRST + SPAN);
}

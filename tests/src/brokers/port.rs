//! Free ports of loopback.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the ports that systems hand out to outgoing connections, which could take one between
/// its choice and its use.
const FIRST: u16 = 10_000;
const SPAN: u16 = 20_000;

/// Gives a port that nobody listens on, and that no process gives again before this one has ended:
/// brokers take seconds until they listen.
///
/// The claim that other processes of the tests see is the UDP port of the same number.
pub(crate) fn free() -> u16 {
    let begin = u16::try_from(std::process::id() % u32::from(SPAN)).expect("below the span");
    for offset in 0..SPAN {
        let port = FIRST + (begin + offset) % SPAN;
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            // Until the process ends.
            std::mem::forget(claim);
            return port;
        }
    }
    panic!("no port of loopback is free between {FIRST} and {}", FIRST + SPAN);
}

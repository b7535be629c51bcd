//! Connects real clients to real listeners, over TCP, TLS and WebSocket.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "network/harness.rs"]
mod harness;
#[path = "network/scrape.rs"]
mod scrape;
#[path = "network/tcp.rs"]
mod tcp;
#[path = "network/tls.rs"]
mod tls;
#[path = "network/websocket.rs"]
mod websocket;

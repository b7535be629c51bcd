//! The relay: stock rumqttd, set up and watched. The only file that names rumqttd.
//!
//! It promises that a relay that has died is noticed. It doesn't make rumqttd safe: a client can
//! still kill it, and retained messages and sessions are in memory only.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;

use rumqttd::{Broker, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::sync::oneshot;

use herald_broker::config::Config;

/// The exit code that says that the router or its listener died.
pub(crate) const DIED: u8 = 4;

/// Each filter keeps a log of up to `SEGMENT_COUNT` such segments. A subscriber that falls further
/// behind loses messages, and is not told.
const SEGMENT_SIZE: usize = 100 * 1024;
const SEGMENT_COUNT: usize = 10;

/// Most QoS 0 messages, and so retained messages, sent to a subscriber at a time.
const OUTGOING_PACKETS: u64 = 200;

/// A connection that has not sent its CONNECT in this time is closed.
const CONNECT_LIMIT_MS: u16 = 10_000;

/// Most packets taken from one client at a time. (The window *to* a client is fixed at 100.)
const MAX_INFLIGHT: usize = 100;

/// Starts rumqttd on threads of its own; the receiver resolves when its listener has ended.
///
/// From here on a panic in any thread ends the process: rumqttd would go on without its router.
pub(crate) fn start(address: SocketAddr, config: &Config) -> io::Result<oneshot::Receiver<()>> {
    exit_on_panic();
    let settings = settings(address, config);
    let (ended, receiver) = oneshot::channel();
    thread::Builder::new().name("relay".to_owned()).spawn(move || {
        if let Err(error) = Broker::new(settings).start() {
            tracing::error!(%error, "rumqttd did not start");
        }
        let _ = ended.send(());
    })?;
    Ok(receiver)
}

/// One MQTT 3.1.1 listener; no v5, WebSocket, TLS, console, bridge or metrics.
fn settings(listen: SocketAddr, config: &Config) -> rumqttd::Config {
    let server = ServerSettings {
        name: "mqtt".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_LIMIT_MS,
            max_payload_size: config.max_payload,
            max_inflight_count: MAX_INFLIGHT,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    rumqttd::Config {
        router: RouterConfig {
            max_connections: config.max_connections,
            max_outgoing_packet_count: OUTGOING_PACKETS,
            max_segment_size: SEGMENT_SIZE,
            max_segment_count: SEGMENT_COUNT,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("mqtt".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}

fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(
            io::stderr(),
            "herald-broker: the relay died: {panic}\nstart the broker again; if it recurs, look \
             for a client with / + # or $ in its id, for a topic or filter that starts with a \
             non-ASCII letter, and for more clients than max_connections"
        );
        std::process::exit(DIED.into());
    }));
}

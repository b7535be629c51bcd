//! A cluster of three NATS servers, in which every message is kept three times.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{
    certificate::Certificate,
    example::Example,
    handshake, http,
    node::{self, Node},
    port, program,
};
use crate::wait::wait_for;

/// How many servers the cluster has, and copies a message.
const NODES: usize = 3;

/// The stream in which NATS keeps retained messages.
const RETAINED: &str = "$MQTT_rmsgs";

/// Where clients connect, in the example.
const LISTENER: &str = "listen: \"0.0.0.0:8883\"\n";
const TLS: &str =
    "  tls { cert_file: \"/etc/nats/broker.crt\", key_file: \"/etc/nats/broker.key\" }\n";
const LOGINS: &str = "include \"logins.conf\"\n";

/// A cluster: where each server is, and what to ask it.
pub(crate) struct Nats {
    pub(super) servers: Vec<Server>,
    pub(super) is_ready: fn(u16) -> bool,
}

/// One server: its ports for MQTT and for monitoring, and its configuration, in a folder of its own.
pub(crate) struct Server {
    pub(super) mqtt: u16,
    pub(super) monitor: u16,
    pub(super) config: PathBuf,
}

impl Nats {
    /// Prepares a cluster without logins.
    pub(crate) fn open(at: &Path) -> Self {
        let servers = servers(at, |example| example.with(TLS, "").with(LOGINS, ""));
        Self { servers, is_ready: handshake::is_accepted }
    }

    /// Prepares a cluster with TLS and the logins of the example.
    pub(crate) fn secured(at: &Path, certificate: &Certificate) -> Self {
        Example::read("nats/logins.conf").write(at);
        let secured = |example: Example| {
            example
                .with("/etc/nats/broker.crt", certificate.chain())
                .with("/etc/nats/broker.key", certificate.key())
                .with(LOGINS, "include \"../logins.conf\"\n")
        };
        Self { servers: servers(at, secured), is_ready: node::listens }
    }

    /// Gives the processes.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let node = |server: &Server| {
            let (config, own) = (&server.config, server.config.clone());
            let folder = config.parent().expect("a file is in a folder");
            Node::new(server.mqtt, folder, self.is_ready, move || command(&own))
        };
        self.servers.iter().map(node).collect()
    }

    /// Waits until the stream of retained messages has a leader, and followers on all other servers
    /// that are up to date. It is made when the first client connects.
    pub(crate) fn wait_until_replicated(&self) {
        wait_for("all copies of the stream of retained messages", || {
            let (_, stream) = self.stream_of_retained()?;
            let copies = stream["config"]["num_replicas"].as_u64()?;
            assert_eq!(copies, NODES as u64, "copies of {RETAINED}");
            let followers = stream["cluster"]["replicas"].as_array()?;
            let current = followers.iter().filter(|one| one["current"] == true);
            (current.count() == NODES - 1).then_some(())
        });
    }

    /// Gives the index of the server that leads the stream of retained messages.
    pub(crate) fn leader_of_retained(&self) -> usize {
        wait_for("a leader of the retained messages", || Some(self.stream_of_retained()?.0))
    }

    /// Gives the stream of retained messages as its leader sees it, with the leader's index.
    fn stream_of_retained(&self) -> Option<(usize, Value)> {
        self.servers.iter().enumerate().find_map(|(index, server)| {
            let seen = http::json(server.monitor, "/jsz?streams=true&config=true")?;
            let accounts = seen["account_details"].as_array()?.iter();
            let mut streams =
                accounts.filter_map(|account| account["stream_detail"].as_array()).flatten();
            let stream = streams.find(|stream| stream["name"] == RETAINED)?;
            let leads = stream["cluster"]["leader"] == name(index);
            leads.then(|| (index, stream.clone()))
        })
    }
}

/// Writes the example for each server, in a folder of its own, on ports of loopback.
fn servers(at: &Path, change: impl Fn(Example) -> Example) -> Vec<Server> {
    let routes: Vec<u16> = (0..NODES).map(|_| port::free()).collect();
    let urls = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\""));
    let urls = urls.collect::<Vec<_>>().join(", ");
    let server = |(index, route): (usize, &u16)| {
        let folder = at.join(name(index));
        fs::create_dir(&folder).expect("a folder can be made");
        let (mqtt, monitor, own) = (port::free(), port::free(), port::free());
        let example = Example::read("nats/nats.conf")
            .with("server_name: nats-1", &format!("server_name: {}", name(index)))
            .with("/var/lib/nats", &folder.join("store").display().to_string())
            .with("127.0.0.1:4222", &format!("127.0.0.1:{own}"))
            .with("127.0.0.1:8222", &format!("127.0.0.1:{monitor}"))
            .with("0.0.0.0:6222", &format!("127.0.0.1:{route}"))
            .with("\"nats://nats-1:6222\", \"nats://nats-2:6222\", \"nats://nats-3:6222\"", &urls)
            .with(LISTENER, &format!("listen: \"127.0.0.1:{mqtt}\"\n"));
        Server { mqtt, monitor, config: change(example).write(&folder) }
    };
    routes.iter().enumerate().map(server).collect()
}

fn name(index: usize) -> String {
    format!("nats-{}", index + 1)
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(program("nats-server"));
    command.arg("-c").arg(config);
    command
}

//! Real brokers on loopback for Herald's clients to be tested with: what each is started with, when
//! it is ready, and how it ends. Everything is in a temporary folder and in processes of the test,
//! and gone when the value is dropped.

mod certificate;
mod example;
mod handshake;
mod http;
mod mosquitto;
mod nats;
mod nats_example;
mod node;
mod port;
mod rabbitmq;
mod secured;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use self::{nats::Nats, node::Node, rabbitmq::PortMapper};
pub use self::{nats_example::NatsExample, secured::Secured};
use crate::fleet::binary;

/// A kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerKind {
    /// Herald's own.
    Embedded,
    /// One mosquitto, with its persistence.
    Mosquitto,
    /// Three NATS servers with JetStream and MQTT, as one cluster that keeps messages three times.
    Nats,
    /// One RabbitMQ with its MQTT plugin.
    RabbitMq,
}

/// A broker that runs: one process, or a cluster of them.
pub struct Brokers {
    kind: BrokerKind,
    nodes: Vec<Node>,
    /// What RabbitMQ needs beside it; dropped after it.
    _mapper: Option<PortMapper>,
    nats: Option<Nats>,
    /// Dropped last: the processes have files in it.
    _folder: TempDir,
}

impl Brokers {
    /// Starts a broker that anybody may use, and waits until it takes connections.
    ///
    /// # Panics
    /// When it can't be started, or is not ready within the limit; with what it logged.
    pub fn start(kind: BrokerKind) -> Self {
        let folder = folder();
        let at = folder.path();
        let (mut nats, mut mapper) = (None, None);
        let nodes = match kind {
            BrokerKind::Embedded => vec![embedded(at)],
            BrokerKind::Mosquitto => vec![mosquitto::open(at)],
            BrokerKind::Nats => {
                let cluster = Nats::open(at);
                let nodes = cluster.nodes();
                nats = Some(cluster);
                nodes
            }
            BrokerKind::RabbitMq => {
                let mapper = mapper.insert(PortMapper::start(at));
                vec![rabbitmq::open(at, mapper)]
            }
        };
        let mut brokers = Self { kind, nodes, _mapper: mapper, nats, _folder: folder };
        brokers.start_again();
        brokers
    }

    /// Gives the kind.
    pub fn kind(&self) -> BrokerKind {
        self.kind
    }

    /// Gives how many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Gives the MQTT port of a node.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port()
    }

    /// Kills one node as a crash would.
    pub fn kill_node(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Kills all nodes at once, as a power cut would.
    pub fn kill(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Ends all nodes as their administrator would, and waits until they have.
    pub fn stop(&mut self) {
        self.nodes.iter_mut().for_each(Node::stop);
    }

    /// Starts the nodes that do not run on their old ports, with what they have stored, and waits
    /// until all take connections.
    pub fn start_again(&mut self) {
        self.nodes.iter_mut().for_each(Node::spawn);
        self.nodes.iter_mut().for_each(Node::wait_until_ready);
        if let Some(nats) = &self.nats {
            nats.wait_until_replicated();
        }
    }

    /// Gives the node of the NATS cluster that leads the stream of retained messages.
    ///
    /// # Panics
    /// When this is no NATS.
    pub fn leader_of_retained(&self) -> usize {
        self.nats.as_ref().expect("a NATS cluster").leader_of_retained()
    }
}

/// Prepares Herald's own broker with its stored state in a folder.
fn embedded(at: &Path) -> Node {
    let (port, state) = (port::free(), at.join("state"));
    Node::new(port, at, handshake::is_accepted, move || embedded_command(port, &state))
}

/// Gives the command that runs Herald's own broker, open to everybody, on a port of loopback.
pub(crate) fn embedded_command(port: u16, state: &Path) -> Command {
    let mut command = Command::new(binary("herald-broker"));
    command.arg("--anonymous").arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.arg("--state").arg(state);
    command
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("herald-broker-").tempdir().expect("a folder")
}

/// Finds a program of the system; Debian keeps servers where only root's PATH looks.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/usr/lib/rabbitmq/bin"].map(PathBuf::from);
    // RabbitMQ's wrapper in /usr/sbin insists on a user of its own.
    let folders = system.into_iter().rev().chain(std::env::split_paths(&path));
    let mut programs = folders.map(|folder| folder.join(name));
    programs.find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("{name} is not installed: tests/run installs it on Debian, or says what to install")
    })
}

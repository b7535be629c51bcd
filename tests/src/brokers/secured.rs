//! A broker with TLS, logins and access lists as the examples have them, for mosquitto's clients.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::{
    BrokerKind,
    certificate::Certificate,
    folder, mosquitto,
    nats::Nats,
    node::Node,
    rabbitmq::{self, PortMapper},
};
use crate::wait::wait_for;

/// The logins of the examples: an operator, and two hosts by their names.
pub(crate) const LOGINS: [&str; 3] = ["op_alice", "alpha", "beta"];

/// How many seconds a client waits for a message that it should not get.
const PATIENCE: &str = "2";

/// Gives the password of a login, as the examples have it.
pub(crate) fn password(login: &str) -> String {
    format!("the password of {login}")
}

/// A running broker that knows who its clients are.
pub struct Secured {
    nodes: Vec<Node>,
    _mapper: Option<PortMapper>,
    certificate: Certificate,
    /// Dropped last: the processes have files in it.
    _folder: TempDir,
}

impl Secured {
    /// Starts a broker, and waits until the operator of the examples can publish there.
    ///
    /// # Panics
    /// When it can't be started, or has no example.
    pub fn start(kind: BrokerKind) -> Self {
        let folder = folder();
        let at: &Path = folder.path();
        let certificate = Certificate::make(at);
        let mut mapper = None;
        let mut nodes = match kind {
            BrokerKind::Mosquitto => vec![mosquitto::secured(at, &certificate)],
            BrokerKind::Nats => Nats::secured(at, &certificate).nodes(),
            BrokerKind::RabbitMq => {
                let mapper = mapper.insert(PortMapper::start(at));
                vec![rabbitmq::secured(at, mapper, &certificate)]
            }
            BrokerKind::Embedded => panic!("no example of {kind:?}"),
        };
        nodes.iter_mut().for_each(Node::spawn);
        nodes.iter_mut().for_each(Node::wait_until_ready);
        let secured = Self { nodes, _mapper: mapper, certificate, _folder: folder };
        wait_for("the operator's login", || {
            secured.publish("op_alice", "herald/v1/home/desired/ready/system", "x").then_some(())
        });
        secured
    }

    /// Publishes a retained message, and tells whether the client was content: not every broker
    /// says that it has refused a message.
    pub fn publish(&self, login: &str, topic: &str, message: &str) -> bool {
        let mut command = self.client("mosquitto_pub", topic);
        command.args(["-u", login, "-P", &password(login), "-r", "-m", message]);
        command.output().expect("mosquitto-clients is installed").status.success()
    }

    /// Subscribes, and gives the messages that are there; with `count` not more, and then at once.
    pub fn read(&self, login: &str, filter: &str, count: Option<u8>) -> Vec<String> {
        self.read_with(&["-u", login, "-P", &password(login)], filter, count)
    }

    /// Does so with other options for the login.
    pub fn read_with(&self, login: &[&str], filter: &str, count: Option<u8>) -> Vec<String> {
        let mut command = self.client("mosquitto_sub", filter);
        command.args(login).args(["-W", PATIENCE]);
        if let Some(count) = count {
            command.args(["-C", &count.to_string()]);
        }
        let output = command.output().expect("mosquitto-clients is installed");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn client(&self, program: &str, topic: &str) -> Command {
        let mut command = Command::new(program);
        let port = self.nodes[0].port().to_string();
        command.args(["-h", "localhost", "-p", &port, "-q", "1", "-t", topic]);
        command.args(["--cafile", self.certificate.chain()]);
        command
    }
}

//! One RabbitMQ, with its MQTT plugin and nothing else.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    certificate::Certificate,
    example::Example,
    handshake,
    node::{self, Node},
    port, program,
};
use crate::process::Process;

/// Where the broker's log goes: to its output.
const FOR_TESTS: &str = "log.console = true\nlog.file = false\n";

/// Erlang's port mapper. RabbitMQ would start one that outlives it.
pub(crate) struct PortMapper {
    port: u16,
    _process: Process,
}

impl PortMapper {
    /// Starts one for one broker.
    pub(crate) fn start(at: &Path) -> Self {
        let port = port::free();
        let mut command = Command::new(program("epmd"));
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        Self { port, _process: Process::start(&mut command, &at.join("epmd.log")) }
    }
}

/// Prepares a RabbitMQ where everybody may do everything.
pub(crate) fn open(at: &Path, mapper: &PortMapper) -> Node {
    let port = port::free();
    let settings = format!(
        "mqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
         mqtt.default_user = guest\nmqtt.default_pass = guest\n{FOR_TESTS}"
    );
    let config = Example::read("rabbitmq/rabbitmq.conf").open_instead(&settings).write(at);
    node(at, port, mapper, config, handshake::is_accepted)
}

/// Prepares a RabbitMQ with TLS and the logins and permissions of the example.
pub(crate) fn secured(at: &Path, mapper: &PortMapper, certificate: &Certificate) -> Node {
    let port = port::free();
    let definitions = Example::read("rabbitmq/definitions.json").write(at);
    let config = Example::read("rabbitmq/rabbitmq.conf")
        .with("0.0.0.0:8883", &format!("127.0.0.1:{port}"))
        .with("/etc/rabbitmq/broker.crt", certificate.chain())
        .with("/etc/rabbitmq/broker.key", certificate.key())
        .with("/etc/rabbitmq/definitions.json", &definitions.display().to_string())
        .plus(FOR_TESTS)
        .write(at);
    node(at, port, mapper, config, node::listens)
}

fn node(
    at: &Path,
    port: u16,
    mapper: &PortMapper,
    config: PathBuf,
    is_ready: fn(u16) -> bool,
) -> Node {
    let plugins = Example::read("rabbitmq/enabled_plugins").write(at);
    let (mapper, distribution) = (mapper.port.to_string(), port::free().to_string());
    let name = format!("herald-{port}@localhost");
    let folder = at.to_owned();
    Node::new(port, at, is_ready, move || {
        let mut command = Command::new(program("rabbitmq-server"));
        // Nothing of the machine's own RabbitMQ or Erlang: no settings, no cookie, no names.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", &folder).env("LANG", "C.UTF-8");
        command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_CONFIG_FILE", &config);
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins);
        command.env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"));
        command.env("RABBITMQ_LOG_BASE", folder.join("log"));
        command.env("RABBITMQ_NODENAME", &name).env("RABBITMQ_DIST_PORT", &distribution);
        command.env("ERL_EPMD_PORT", &mapper).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        // With input allowed the script turns into the Erlang machine: one process, to be ended.
        command.env("RABBITMQ_ALLOW_INPUT", "1");
        let only_loopback = "-noinput -kernel inet_dist_use_interface {127,0,0,1}";
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", only_loopback);
        command
    })
}

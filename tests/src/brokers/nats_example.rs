//! The cluster of `examples/nats-cluster`: its own files, on loopback.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    folder,
    nats::{Nats, Server},
    node::{self, Node},
    port, program,
};

/// Three NATS servers with TLS and logins, for the fleet `home` with alice, alpha and beta.
pub struct NatsExample {
    cluster: Nats,
    nodes: Vec<Node>,
    /// Dropped last: the processes have files in it.
    folder: TempDir,
}

impl NatsExample {
    /// Makes certificates and logins as the README says, and starts the servers.
    ///
    /// # Panics
    /// When a script of the example fails, or its files no longer say what is changed for loopback.
    pub fn start() -> Self {
        let folder = folder();
        let at = folder.path();
        run(at, "certificates", &["127.0.0.1"]);
        run(at, "logins", &["home", "--operators", "alice", "--hosts", "alpha", "beta"]);
        let routes = [(); 3].map(|()| port::free());
        let servers = (1..).zip(routes).map(|(number, route)| server(at, number, route, &routes));
        let cluster = Nats { servers: servers.collect(), is_ready: node::listens };
        let mut nodes = cluster.nodes();
        nodes.iter_mut().for_each(Node::spawn);
        nodes.iter_mut().for_each(Node::wait_until_ready);
        Self { cluster, nodes, folder }
    }

    /// Waits until all servers have the retained messages. They begin when the first client connects.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_until_replicated(&self) {
        self.cluster.wait_until_replicated();
    }

    /// Gives the address of a server, from 1 to 3, for Herald's clients.
    pub fn address(&self, number: usize) -> String {
        format!("mqtts://127.0.0.1:{}", self.nodes[number - 1].port())
    }

    /// Gives a file that the scripts have made.
    ///
    /// # Panics
    /// When they have not.
    pub fn file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        assert!(path.exists(), "{} is not there", path.display());
        path.display().to_string()
    }
}

/// Writes the files of one server into a folder of its own, with other paths and ports.
fn server(at: &Path, number: usize, route: u16, routes: &[u16]) -> Server {
    let own = at.join(format!("nats-{number}"));
    fs::create_dir(&own).expect("a folder can be made");
    let text = |path: PathBuf| path.display().to_string();
    let (mqtt, monitor) = (port::free(), port::free());
    let loopback = |port: u16| format!("127.0.0.1:{port}");
    let mut changes = vec![
        ("127.0.0.1:4222".to_owned(), loopback(port::free())),
        ("127.0.0.1:8222".to_owned(), loopback(monitor)),
        ("0.0.0.0:6222".to_owned(), loopback(route)),
        ("0.0.0.0:8883".to_owned(), loopback(mqtt)),
        ("/var/lib/nats".to_owned(), text(own.join("store"))),
        ("/etc/nats/server.crt".to_owned(), text(at.join("127.0.0.1.crt"))),
        ("/etc/nats/server.key".to_owned(), text(at.join("127.0.0.1.key"))),
        ("/etc/nats/ca.crt".to_owned(), text(at.join("ca.crt"))),
    ];
    for (server, port) in (1..).zip(routes) {
        changes.push((format!("nats-{server}.example.org:6222"), loopback(*port)));
    }
    if is_before_2_10() {
        let line = "  stream_replicas: 3\n".to_owned();
        changes.push((line.clone(), line + "  consumer_replicas: 1\n"));
    }
    let own_config = format!("nats-{number}.conf");
    let mut unsaid = changes.clone();
    for (file, to) in [
        (own_config.as_str(), "nats.conf"),
        ("cluster.conf", "cluster.conf"),
        ("routes.conf", "routes.conf"),
    ] {
        let mut text = fs::read_to_string(example(file)).expect("a file of the example");
        unsaid.retain(|(old, _)| !text.contains(old));
        for (old, new) in &changes {
            text = text.replace(old, new);
        }
        fs::write(own.join(to), text).expect("a file can be written");
    }
    assert!(unsaid.is_empty(), "the example does not say {unsaid:?}");
    fs::copy(at.join("logins.conf"), own.join("logins.conf")).expect("a file can be copied");
    Server { mqtt, monitor, config: own.join("nats.conf") }
}

/// Whether this NATS knows the setting that the README gives to those before 2.10.
fn is_before_2_10() -> bool {
    let output = Command::new(program("nats-server")).arg("--version").output();
    let version = output.expect("a server says its version").stdout;
    String::from_utf8_lossy(&version).contains("v2.9.")
}

/// Runs a script of the example in a folder.
fn run(at: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new(example(script)).args(arguments).current_dir(at).output();
    let output = output.expect("a script can be run");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nats-cluster").join(name)
}

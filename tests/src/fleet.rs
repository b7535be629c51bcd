//! A fleet: operator, broker, hosts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{brokers, documented, host::Host, process::Process, wait::wait_for};

/// The name of every fleet that has a broker of its own.
pub(crate) const NAME: &str = "test";

/// A fleet in a temporary folder.
pub struct Fleet {
    folder: TempDir,
    name: String,
    /// The environment of the operator's commands.
    operator: Vec<(String, String)>,
    ports: Ports,
    /// Its own broker, if it has one.
    broker: Option<Broker>,
    hosts: BTreeMap<String, Host>,
}

/// Where on loopback a fleet finds its broker: the nodes of a cluster have a port each.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Where hosts connect.
    pub hosts: u16,
    /// Where the operator's commands connect.
    pub operator: u16,
}

/// A running broker.
pub struct Broker {
    /// The process.
    pub process: Process,
    /// The port on loopback.
    pub port: u16,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Fleet {
    /// Makes a fleet with a broker, an operator key, and hosts that run their first system and a
    /// connected subscriber.
    ///
    /// # Panics
    /// When anything of it fails, with what the failing program said.
    pub fn start(hosts: &[&str]) -> Self {
        Self::without_hosts().with_hosts(hosts)
    }

    /// Makes a fleet as [`Fleet::start`] does, at a broker that runs already. Its name is to be one
    /// that this broker has not seen before.
    pub fn start_at(name: &str, ports: Ports, hosts: &[&str]) -> Self {
        Self::without_hosts_at(name, ports).with_hosts(hosts)
    }

    /// Makes a fleet with an operator key only, at a broker that runs already.
    pub fn without_hosts_at(name: &str, ports: Ports) -> Self {
        let mut fleet = Self::empty(name);
        fleet.ports = ports;
        fleet.make_operator();
        fleet
    }

    /// Makes a fleet with a broker and an operator key only.
    pub fn without_hosts() -> Self {
        let mut fleet = Self::empty(NAME);
        let broker = fleet.start_broker(0);
        fleet.ports = Ports { hosts: broker.port, operator: broker.port };
        fleet.broker = Some(broker);
        fleet.make_operator();
        fleet
    }

    fn empty(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("herald-test-").tempdir().expect("a folder");
        let mut fleet = Self {
            folder,
            name: name.to_owned(),
            operator: Vec::new(),
            ports: Ports { hosts: 0, operator: 0 },
            broker: None,
            hosts: BTreeMap::new(),
        };
        fleet.shell(r#"fleet_make "$1""#, &[&fleet.path("")]);
        let environment = fleet.shell(r#"nix_environment "$FLEET/operator"; env -0"#, &[]);
        let variables = environment.split('\0').filter_map(|one| one.split_once('='));
        fleet.operator = variables.map(|(name, value)| (name.into(), value.into())).collect();
        fleet
    }

    fn make_operator(&self) {
        let key = self.path("operator.key");
        let made = self.herald(&["key", "generate", "operator", "--out", &key]);
        assert_eq!(made.code, Some(0), "{made:?}");
        self.write_trust(1, &[made.stdout.trim()]);
    }

    fn with_hosts(mut self, hosts: &[&str]) -> Self {
        for host in hosts {
            self.add_host(host);
        }
        for host in hosts {
            self.start_subscriber(host);
        }
        self
    }

    /// Writes the trust file that all hosts read when they start.
    pub fn write_trust(&self, threshold: usize, keys: &[&str]) {
        let trust = format!(
            "fleet = {:?}\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n",
            self.name
        );
        fs::write(self.path("trust.toml"), trust).expect("the trust file can be written");
    }

    /// Adds a host that runs its first system, `0`, but no subscriber yet.
    pub fn add_host(&mut self, name: &str) {
        self.add_unknown_host(name);
        self.write_fleet_file();
    }

    /// Adds a host as [`Fleet::add_host`] does, which is not in the fleet file, and has no key yet.
    pub fn add_unknown_host(&mut self, name: &str) {
        self.shell(r#"host_make "$1""#, &[name]);
        let first = self.build(name, "0", &[]);
        self.push(&[&first]);
        self.shell(r#"host_install "$1" "$2""#, &[name, &first]);
        let host = Host::new(name, &self.folder.path().join("hosts").join(name), first);
        let config = host.config(&self.name, self.ports.hosts, self.folder.path());
        fs::write(host.config_file(), config).expect("a configuration can be written");
        self.hosts.insert(name.to_owned(), host);
    }

    /// Gives what a host's `herald-subscriber public-key` prints.
    pub fn public_key(&self, name: &str, arguments: &[&str]) -> String {
        let (program, config) = (binary("herald-subscriber"), self.hosts[name].config_file());
        let command = [path_text(&program), "public-key", "--config", path_text(&config)];
        self.in_host(name, &[&command, arguments].concat()).trim().to_owned()
    }

    /// Starts a host's subscriber, and waits until it has said that it is there.
    pub fn start_subscriber(&mut self, name: &str) {
        self.spawn_subscriber(name);
        wait_for(&format!("{name} to report"), || {
            let reported = self.report(name)?;
            (reported["presence"] == "online").then_some(())
        });
    }

    /// Starts a host's subscriber without waiting for anything.
    pub fn spawn_subscriber(&mut self, name: &str) {
        let script = r#"exec_in_host "$1" "$2" run --config "$3""#;
        let host = &self.hosts[name];
        let program = binary("herald-subscriber");
        let arguments =
            [name, path_text(&program), path_text(&host.config_file())].map(str::to_owned);
        let mut command = self.bash(script, &arguments.each_ref().map(String::as_str));
        command.env("HERALD_LOG", "debug");
        let process = Process::start(&mut command, &host.log_file());
        self.host_mut(name).subscriber = Some(process);
    }

    /// Builds a system for a host; the further arguments are pairs for `system.nix`.
    pub fn build(&self, host: &str, label: &str, arguments: &[(&str, &str)]) -> String {
        let mut all = vec![host, label];
        for (name, value) in arguments {
            all.extend(["--argstr", name, value]);
        }
        self.shell(r#"build_system "$@""#, &all).trim().to_owned()
    }

    /// Signs systems and copies them to the cache.
    pub fn push(&self, systems: &[&str]) {
        self.shell(r#"cache_push "$@""#, systems);
    }

    /// Builds a system for a host and puts it in the cache.
    pub fn system(&self, host: &str, label: &str, arguments: &[(&str, &str)]) -> String {
        let system = self.build(host, label, arguments);
        self.push(&[&system]);
        system
    }

    /// Runs a command as a host sees the world.
    pub fn in_host(&self, name: &str, command: &[&str]) -> String {
        let all: Vec<&str> = std::iter::once(name).chain(command.iter().copied()).collect();
        self.shell(r#"in_host "$@""#, &all)
    }

    /// Runs a line of shell in the namespace of a host's subscriber, where it can mount things.
    ///
    /// # Panics
    /// When the line fails.
    pub fn in_running_host(&self, name: &str, script: &str, arguments: &[&str]) {
        let subscriber = self.hosts[name].subscriber.as_ref().expect("the subscriber was started");
        let user = r#"[ "$(id -u)" = 0 ] || set -- --user --preserve-credentials "$@"; exec nsenter --mount "$@""#;
        let process = format!("--target={}", subscriber.id());
        let mut all = vec![process.as_str(), "sh", "-euc", script, "sh"];
        all.extend(arguments);
        self.shell(user, &all);
    }

    /// Runs the command `herald` with this fleet's file.
    pub fn herald(&self, arguments: &[&str]) -> Outcome {
        self.herald_command(arguments).output().expect("herald can be run").into()
    }

    /// Prepares the command `herald` with this fleet's file and the operator's Nix.
    pub fn herald_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("herald"));
        command.env_clear().envs(self.operator.iter().map(|(name, value)| (name, value)));
        command.arg("--fleet-file").arg(self.path("fleet.toml")).args(arguments);
        command
    }

    /// Publishes with short limits, waits for the end, and gives how that went.
    pub fn publish(&self, arguments: &[&str]) -> Outcome {
        let key = self.path("operator.key");
        let mut all =
            vec!["publish", "--key", &key, "--stable-for", "0s", "--confirm-within", "10s"];
        all.extend(arguments);
        all.push("--watch");
        self.herald(&all)
    }

    /// Gives a host's object in `herald status --json`; none while the host has not reported.
    pub fn report(&self, host: &str) -> Option<Value> {
        let status = self.herald(&["status", "--json"]);
        let value = documented(serde_json::from_str(&status.stdout).ok()?);
        let hosts = value["hosts"].as_array()?;
        let found = hosts.iter().find(|one| one["host"] == host)?;
        found["phase"].is_string().then(|| found.clone())
    }

    /// Waits until a host has reported a phase, and gives the report.
    pub fn wait_for_phase(&self, host: &str, phase: &str) -> Value {
        wait_for(&format!("{host} to be {phase}"), || {
            self.report(host).filter(|report| report["phase"] == phase)
        })
    }

    /// Publishes bytes on a topic of the fleet with mosquitto's client, retained.
    pub fn publish_raw(&self, topic: &str, payload: &[u8]) {
        let file = self.path("raw-message");
        fs::write(&file, payload).expect("a message can be written");
        let port = self.ports.operator.to_string();
        let topic = format!("herald/v1/{}/{topic}", self.name);
        let sent = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", &topic, "-f", &file])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "is mosquitto-clients installed?");
    }

    /// Gives the ids of all processes in hosts' namespaces.
    pub fn processes_in_hosts(&self) -> Vec<String> {
        self.shell("host_processes", &[]).lines().map(str::to_owned).collect()
    }

    /// Gives a host.
    pub fn host(&self, name: &str) -> &Host {
        &self.hosts[name]
    }

    /// Gives a host to change.
    pub fn host_mut(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).expect("the test named the host before")
    }

    /// Gives the broker.
    pub fn broker_mut(&mut self) -> &mut Broker {
        self.broker.as_mut().expect("a fleet has a broker")
    }

    /// Starts the broker again on its port, after it was killed: with all that it knew lost.
    pub fn restart_broker(&mut self) {
        let port = self.ports.hosts;
        self.broker_mut().process.kill();
        self.broker = Some(self.start_broker(port));
    }

    /// Gives a path in the fleet's folder.
    pub fn path(&self, name: &str) -> String {
        path_text(&self.folder.path().join(name)).to_owned()
    }

    fn start_broker(&self, port: u16) -> Broker {
        let state = self.folder.path().join(format!("broker-{}", fresh_number()));
        let log = state.with_extension("log");
        let process = Process::start(&mut brokers::embedded_command(port, &state), &log);
        let port = wait_for("the broker to listen", || {
            let output = process.output();
            let line = output.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:"));
            line.and_then(|port| port.trim().parse().ok())
        });
        Broker { process, port }
    }

    /// Writes the fleet file: the broker, and the hosts with their keys.
    pub fn write_fleet_file(&self) {
        let (name, port) = (&self.name, self.ports.operator);
        let mut text = format!("fleet = {name:?}\nbroker = \"mqtt://127.0.0.1:{port}\"\n");
        for name in self.hosts.keys() {
            text += &format!("[hosts.{name}]\nkey = {:?}\n", self.public_key(name, &[]));
        }
        fs::write(self.path("fleet.toml"), text).expect("the fleet file can be written");
    }

    /// Runs a line of shell with the functions of the quickstart's library.
    fn shell(&self, script: &str, arguments: &[&str]) -> String {
        let output = self.bash(script, arguments).output().expect("bash can be run");
        let outcome = Outcome::from(output);
        assert_eq!(outcome.code, Some(0), "{script} {arguments:?}: {outcome:?}");
        outcome.stdout
    }

    fn bash(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        let script =
            format!(r#"set -euo pipefail; . "$0"; FLEET=$(realpath "$1"); shift; {script}"#);
        command.args(["-c", &script]).arg(library()).arg(self.folder.path()).args(arguments);
        command.env("NO_COLOR", "1").env_remove("HERALD_FLEET").env_remove("HERALD_KEY");
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hosts.values().for_each(Host::show_end_of_log);
        }
        self.hosts.clear();
        let removed = self.bash("fleet_remove", &[]).output();
        assert!(
            std::thread::panicking() || removed.is_ok_and(|output| output.status.success()),
            "the fleet's folder or processes could not be removed"
        );
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// Gives a program of this workspace, beside the folder of the running test.
///
/// # Panics
/// When it was not built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built: run cargo build --workspace --bins first"))
}

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/lib.sh")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are text")
}

/// A number that was not used before in this process.
fn fresh_number() -> usize {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

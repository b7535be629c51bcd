//! A broker that takes nobody without a login, for a fleet: hosts and operators log in over TLS, by
//! tokens that they sign with keys of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::{
    fleet::{Fleet, binary},
    process::Process,
    wait::wait_for,
};

/// Such a broker, in the place of the fleet's own.
pub struct Guarded {
    /// The process.
    pub process: Process,
    port: String,
    folder: PathBuf,
}

impl Guarded {
    /// Makes a login key for the operator alice, in `login.key`; gives its public half.
    ///
    /// # Panics
    /// When `herald` can't.
    pub fn alice(fleet: &Fleet) -> String {
        let made = fleet.herald(&["key", "generate", "alice", "--out", &fleet.path("login.key")]);
        assert_eq!(made.code, Some(0), "{made:?}");
        made.stdout.trim().to_owned()
    }

    /// Ends the fleet's own broker, and starts this one with a file of logins.
    ///
    /// # Panics
    /// When anything of it fails.
    pub fn start(fleet: &mut Fleet, logins: &str) -> Self {
        fleet.broker_mut().process.kill();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let folder = PathBuf::from(fleet.path(""));
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("a file can be written");
        };
        write("broker.pem", &cert.pem());
        write("broker.key", &signing_key.serialize_pem());
        write("logins.toml", logins);
        let [certificate, secret, known, state] =
            ["broker.pem", "broker.key", "logins.toml", "guarded"].map(|name| folder.join(name));
        let config = |address: &str| {
            format!(
                "state = {state:?}\nnames = [\"localhost\"]\nlogins = [{known:?}]\n[[listener]]\n\
                 address = \"{address}\"\ntransport = \"tls\"\ncertificate = {certificate:?}\n\
                 key = {secret:?}\n"
            )
        };
        write("broker.toml", &config("127.0.0.1:0"));
        let process = start(&folder);
        let port = wait_for("the broker to listen", || {
            let output = process.output();
            let line = output.lines().find_map(|it| it.strip_prefix("listening on 127.0.0.1:"));
            line.map(|port| port.trim().to_owned())
        });
        // As it is when it is started again.
        write("broker.toml", &config(&format!("127.0.0.1:{port}")));
        Self { process, port, folder }
    }

    /// Kills the broker, and starts it again with what it had stored.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.folder);
    }

    /// Stops the broker in order, as for a backup.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait();
    }

    /// Starts the broker again after it was stopped, and waits until it listens.
    pub fn start_again(&mut self) {
        let before = self.times_listening();
        self.process = start(&self.folder);
        wait_for("the broker to listen again", || (self.times_listening() > before).then_some(()));
    }

    /// Gives the folder of what it stores.
    pub fn state(&self) -> PathBuf {
        self.folder.join("guarded")
    }

    fn times_listening(&self) -> usize {
        self.process.output().matches("listening on").count()
    }

    /// Writes the file of logins anew, and waits until the broker has read it.
    ///
    /// # Panics
    /// When it does not read it.
    pub fn change_logins(&self, logins: &str) {
        fs::write(self.folder.join("logins.toml"), logins).expect("a file can be written");
        let times = || self.process.output().matches("were read again").count();
        let before = times();
        self.process.signal("HUP");
        wait_for("the broker to read its logins again", || (times() > before).then_some(()));
    }

    /// Has the user of a configuration, a host's or the operator's, connect here.
    ///
    /// # Panics
    /// When it names no broker.
    pub fn point_here(&self, config: &Path) {
        let text = fs::read_to_string(config).expect("a configuration");
        let line = text.lines().find(|line| line.starts_with("broker = ")).expect("a broker");
        let text = text.replace(line, &format!("broker = \"mqtts://localhost:{}\"", self.port));
        let ca = self.folder.join("broker.pem");
        let access = format!("[tls]\nca = {ca:?}\n[login]\nkind = \"signed\"\n");
        fs::write(config, format!("{text}{access}")).expect("a file can be written");
    }
}

fn start(folder: &Path) -> Process {
    let mut command = Command::new(binary("herald-broker"));
    command.arg("--config").arg(folder.join("broker.toml"));
    Process::start(&mut command, &folder.join("guarded.log"))
}

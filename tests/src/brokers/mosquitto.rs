//! One mosquitto.

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
    secured::{LOGINS, password},
};

/// Without this, root's mosquitto turns into a user who can't write into the test's folder.
const FOR_TESTS: &str = "user root\nlog_dest stderr\n";

/// Prepares a mosquitto without logins.
pub(crate) fn open(at: &Path) -> Node {
    let port = port::free();
    let listener = format!("listener {port} 127.0.0.1\nallow_anonymous true\n{FOR_TESTS}");
    let config = example(at).open_instead(&listener).write(at);
    Node::new(port, at, handshake::is_accepted, move || command(&config))
}

/// Prepares a mosquitto with TLS, logins and the access list of the example.
pub(crate) fn secured(at: &Path, certificate: &Certificate) -> Node {
    let port = port::free();
    let own = |name: &str| at.join(name).display().to_string();
    Example::read("mosquitto/acl").write(at);
    let passwords = own("passwords");
    for (index, login) in LOGINS.iter().enumerate() {
        let mut command = Command::new(program("mosquitto_passwd"));
        if index == 0 {
            command.arg("-c");
        }
        let made = command.args(["-b", &passwords, login, &password(login)]).status();
        assert!(made.is_ok_and(|status| status.success()), "mosquitto_passwd");
    }
    let config = example(at)
        .with("listener 8883", &format!("listener {port} 127.0.0.1"))
        .with("/etc/mosquitto/herald/broker.crt", certificate.chain())
        .with("/etc/mosquitto/herald/broker.key", certificate.key())
        .with("/etc/mosquitto/herald/passwords", &passwords)
        .with("/etc/mosquitto/herald/acl", &own("acl"))
        .plus(FOR_TESTS)
        .write(at);
    Node::new(port, at, node::listens, move || command(&config))
}

fn example(at: &Path) -> Example {
    let stored = format!("persistence true\npersistence_location {}/\n", at.display());
    Example::read("mosquitto/mosquitto.conf").with("persistence true\n", &stored)
}

fn command(config: &PathBuf) -> Command {
    let mut command = Command::new(program("mosquitto"));
    command.arg("-c").arg(config);
    command
}

//! A certificate for servers on loopback that signs itself.

use std::{fs, path::Path, process::Command};

/// A certificate, and the key to it.
pub(crate) struct Certificate {
    chain: String,
    key: String,
}

impl Certificate {
    /// Makes one in a folder, with OpenSSL, which Debian's RabbitMQ brings.
    pub(crate) fn make(at: &Path) -> Self {
        let own = |name: &str| at.join(name).display().to_string();
        let certificate = Self { chain: own("broker.crt"), key: own("broker.key") };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-noenc", "-days", "2", "-subj", "/CN=localhost"]);
        command.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        command.args(["-out", &certificate.chain, "-keyout", &certificate.key]);
        let made = command.output().expect("openssl can be run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert!(fs::exists(&certificate.key).is_ok_and(|exists| exists));
        certificate
    }

    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

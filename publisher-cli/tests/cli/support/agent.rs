use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A real ssh-agent, until it is dropped.
pub(crate) struct Agent {
    process: Child,
    folder: tempfile::TempDir,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("ssh-agent (openssh-client) is installed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "ssh-agent listens");
            std::thread::yield_now();
        }
        Self { process, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Makes an Ed25519 key with this comment, puts it in, and gives its file.
    pub(crate) fn add(&self, comment: &str) -> PathBuf {
        let file = keygen(self.folder.path(), comment, "ed25519", "");
        self.ssh_add(&[file.to_str().unwrap()]);
        file
    }

    pub(crate) fn ssh_add(&self, args: &[&str]) {
        let mut command = Command::new("ssh-add");
        let output = command.args(args).env("SSH_AUTH_SOCK", self.socket()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The agent has ended before only if the test has failed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a key with ssh-keygen, and gives the file of its private half.
pub(crate) fn keygen(folder: &Path, comment: &str, kind: &str, passphrase: &str) -> PathBuf {
    let file = folder.join(format!("{comment}-{kind}{}", passphrase.len()));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-a", "1", "-t", kind, "-N", passphrase, "-C", comment, "-f"]).arg(&file);
    assert!(command.status().expect("ssh-keygen (openssh-client) is installed").success());
    file
}

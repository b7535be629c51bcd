//! A release that two operators sign, one with a key in a file and one with a key in a real
//! ssh-agent, on real hosts.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use herald_tests::{Fleet, Outcome, wait_for};

/// A real ssh-agent with one key, until it is dropped.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(fleet: &Fleet) -> Self {
        let socket = PathBuf::from(fleet.path("agent.sock"));
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let process = agent.spawn().expect("ssh-agent (openssh-client) is installed");
        let agent = Self { process, socket };
        wait_for("ssh-agent", || {
            std::os::unix::net::UnixStream::connect(&agent.socket).ok().map(drop)
        });
        let key = fleet.path("bob");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f", &key]);
        assert!(keygen.status().unwrap().success());
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &agent.socket);
        assert!(add.status().unwrap().success());
        fs::remove_file(key).unwrap(); // only the agent has it now
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The agent has ended before only if the test has failed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_two_operators_signed_is_activated_and_what_one_signed_is_not() {
    let mut fleet = Fleet::without_hosts();
    let agent = Agent::start(&fleet);
    let herald = |fleet: &Fleet, arguments: &[&str]| -> Outcome {
        let mut command = fleet.herald_command(arguments);
        command.env("SSH_AUTH_SOCK", &agent.socket).output().unwrap().into()
    };
    let key = fleet.path("operator.key");
    let alice = Command::new(herald_tests::binary("herald")).args(["key", "public", &key]).output();
    let alice = String::from_utf8(alice.unwrap().stdout).unwrap();
    let bob = herald(&fleet, &["key", "public", "agent:bob"]);
    let carol = herald(&fleet, &["key", "generate", "carol", "--out", &fleet.path("carol.key")]);
    fleet.write_trust(2, &[&alice, &bob.stdout, &carol.stdout].map(|key| key.trim()));
    fleet.add_host("alpha");
    fleet.start_subscriber("alpha");
    let text = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    fs::write(fleet.path("fleet.toml"), format!("trust = \"trust.toml\"\n{text}")).unwrap();

    let system = fleet.system("alpha", "1", &[]);
    let (file, target) = (fleet.path("r.release"), format!("alpha={system}"));
    let limits = ["--stable-for", "0s", "--confirm-within", "10s"];
    let sign = ["sign", "--key", &key, "--host", &target, "--out", &file];
    let signed = herald(&fleet, &[&sign[..], &limits].concat());
    assert_eq!(signed.code, Some(0), "{signed:?}");
    let early = herald(&fleet, &["publish", "--release", &file]);
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.stderr.contains("1 of the 2 keys"), "{early:?}");

    let cosigned = herald(&fleet, &["cosign", &file, "--key", "agent:bob", "--yes"]);
    assert_eq!(cosigned.code, Some(0), "{cosigned:?}");
    let first = &fleet.host("alpha").first_system;
    for shown in [first.as_str(), &system, "nixos-system-alpha: 0 → 1"] {
        assert!(cosigned.stdout.contains(shown), "{shown}: {cosigned:?}");
    }
    let published = herald(&fleet, &["publish", "--release", &file, "--watch"]);
    assert_eq!(published.code, Some(0), "{published:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

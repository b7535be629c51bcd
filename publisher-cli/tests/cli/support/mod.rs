//! What the tests of the command share: an operator's folder, a real broker, and hosts that answer
//! orders as a test tells them to.

mod agent;
mod broker;
mod host;
mod scene;
#[path = "../../../../tests/src/schema.rs"]
#[allow(unreachable_pub, reason = "it is a module of the crate herald-tests, too")]
mod schema;

pub(crate) use agent::{Agent, keygen};
pub(crate) use broker::Broker;
pub(crate) use host::{Answer, Host, Scripted, answers};
pub(crate) use scene::Scene;
pub(crate) use schema::documented;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use herald_fleet::fleet::Fleet;
use tempfile::TempDir;

pub(crate) const HOME: &str = "home";

/// A store path that is in no store.
pub(crate) fn path(name: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
}

/// An operator's folder, with a home and the key `alice`.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        assert!(desk.run(&["key", "generate", "alice"]).status.success());
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes fleet.toml with these hosts, their keys pinned.
    pub(crate) fn fleet(&self, broker: &str, hosts: &[&Host]) -> Fleet {
        self.fleet_with(broker, hosts, "")
    }

    pub(crate) fn fleet_with(&self, broker: &str, hosts: &[&Host], more: &str) -> Fleet {
        let mut text = format!("fleet = \"{HOME}\"\nbroker = \"{broker}\"\n{more}\n");
        for host in hosts {
            text += &format!("[hosts.{}]\nkey = \"{}\"\n", host.name, host.key.public());
        }
        self.write("fleet.toml", &text);
        Fleet::from_toml(&text).unwrap()
    }

    /// The command, in the folder, with nothing of the environment that could change what it does.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it with blanks between arguments.
    pub(crate) fn herald(&self, args: &str) -> Output {
        self.run(&args.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.path("home/.local/share/herald/keys")
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Reads what a command printed, which must be as the reference has it.
#[track_caller]
pub(crate) fn json(output: &Output) -> serde_json::Value {
    let printed = serde_json::from_slice(&output.stdout);
    documented(
        printed.unwrap_or_else(|error| panic!("{error}: {}{}", stdout(output), stderr(output))),
    )
}

/// Checks the exit code and gives what was said on stderr.
#[track_caller]
pub(crate) fn exits(output: &Output, code: i32) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{}{said}", stdout(output));
    said
}

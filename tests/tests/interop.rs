//! What the command signs, other implementations of COSE verify.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{path::Path, process::Command};

use herald_tests::Fleet;

#[test]
fn a_release_that_the_command_made_is_verified_in_python() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let folder = fleet.path("orders");
    let target = format!("alpha={system}");
    let outcome = fleet.publish(&["--host", &target, "--reason", "interop", "--out", &folder]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let order = format!("{folder}/alpha.system.order");
    let trust = fleet.path("trust.toml");

    let own = fleet.herald(&["verify", &order, "--trust", &trust, "--json"]);
    assert_eq!(own.code, Some(0), "{own:?}");
    let python = |trust: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/run");
        Command::new(script).args(["verify", "--trust", trust, &order]).output().unwrap()
    };
    let verified = python(&trust);
    assert!(verified.status.success(), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).contains("alpha"), "{verified:?}");

    let stranger = fleet.herald(&["key", "generate", "stranger", "--out", &fleet.path("s.key")]);
    fleet.write_trust(1, &[stranger.stdout.trim()]);
    assert!(!python(&trust).status.success(), "an order that nobody trusted signed");
}

//! The listener of `examples/listen`, in Python, beside a real host and whoever speaks in its place.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use herald_tests::{Fleet, Process, wait_for};
use serde_json::Value;

/// The listener, which runs in the environment that the interoperability tests make.
struct Listener {
    process: Process,
}

impl Listener {
    fn start(fleet: &Fleet) -> Self {
        let mut command = Command::new(root().join("tests/interop/run"));
        command.arg("python").arg(root().join("examples/listen/listen.py"));
        command.arg(fleet.path("fleet.toml"));
        let log = fleet.path("listener.log");
        let process = Process::start(&mut command, log.as_ref());
        wait_for("the listener to connect", || {
            process.output().contains("connected\n").then_some(())
        });
        Self { process }
    }

    /// Waits for a report.
    fn hears(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.heard().into_iter().find(&is_it))
    }

    fn heard(&self) -> Vec<Value> {
        let output = self.process.output();
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it has refused a message, and has said why.
    fn refuses(&self, topic: &str, why: &str) {
        wait_for(&format!("the listener to say {why:?} of {topic}"), || {
            let output = self.process.output();
            let refused = output.lines().any(|line| {
                line.starts_with("refused: ") && line.contains(topic) && line.contains(why)
            });
            refused.then_some(())
        });
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Gives what is retained on a topic of the fleet.
fn retained(fleet: &Fleet, topic: &str) -> Vec<u8> {
    let file = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    let broker = file.lines().find(|line| line.starts_with("broker")).unwrap();
    let port = broker.trim_end_matches('"').rsplit(':').next().unwrap();
    let topic = format!("herald/v1/test/{topic}");
    let got = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", port, "-t", &topic, "-C", "1", "-N", "-W", "10"])
        .output()
        .unwrap();
    assert!(got.status.success() && !got.stdout.is_empty(), "{got:?}");
    got.stdout
}

#[test]
fn the_listener_prints_what_hosts_signed_and_refuses_what_others_say() {
    let mut fleet = Fleet::start(&["alpha", "beta"]);
    let listener = Listener::start(&fleet);
    let idle = listener.hears("alpha's first report", |one| one["host"] == "alpha");
    assert_eq!(idle["phase"], "idle");
    let first = retained(&fleet, "status/alpha/system");

    let system = fleet.system("alpha", "1", &[]);
    let outcome = fleet.publish(&["--host", &format!("alpha={system}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let done = listener.hears("alpha to succeed", |one| one["phase"] == "succeeded");
    assert_eq!((&done["host"], &done["running"]), (&"alpha".into(), &system.as_str().into()));

    // From here on alpha is silent, and a hostile broker speaks in its place.
    let last = retained(&fleet, "status/alpha/system");
    fleet.host_mut("alpha").subscriber().kill();
    let heard = listener.heard().len();
    let say = |payload: &[u8]| fleet.publish_raw("status/alpha/system", payload);

    let mut changed = last.clone();
    *changed.last_mut().unwrap() ^= 1;
    say(&changed);
    listener.refuses("status/alpha/system", "a wrong signature");
    // What was signed for another topic, a presence, and with another host's key.
    say(&retained(&fleet, "presence/alpha"));
    listener.refuses("status/alpha/system", "a wrong signature");
    say(&retained(&fleet, "status/beta/system"));
    listener.refuses("status/alpha/system", "not signed by the host's pinned key");
    fleet.publish_raw("status/alpha/other", &last);
    listener.refuses("status/alpha/other", "another host's or profile's");
    say(&first);
    listener.refuses("status/alpha/system", "again, after");
    // The same, but encoded in another way: the array of four has its length in a byte more.
    let mut longer = vec![last[0], 0x98, 0x04];
    longer.extend(&last[2..]);
    say(&longer);
    listener.refuses("status/alpha/system", "not in deterministic encoding");
    say(b"\xff");
    listener.refuses("status/alpha/system", "CBOR");

    // After all of that it goes on, and has printed none of it.
    say(&last);
    let again = |listener: &Listener| (listener.heard().len() > heard).then_some(());
    wait_for("alpha's own report again", || again(&listener));
    assert_eq!(listener.heard().last(), Some(&done));
    assert_eq!(listener.heard().len(), heard + 1);
}

#[test]
fn the_listener_is_tested_with_the_packages_that_it_asks_for() {
    let packages = |file: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(file)).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let asked = packages("examples/listen/requirements.txt");
    assert!(asked.len() > 4 && asked.is_subset(&packages("tests/interop/requirements.txt")));
}

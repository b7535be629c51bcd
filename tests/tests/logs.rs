//! What activations print reaches the operator, signed by the host, and only what may.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use herald_tests::{Fleet, documented, wait_for};
use serde_json::Value;

/// Listens to what hosts print, and ends with the test.
struct Listener(Child, BufReader<std::process::ChildStdout>);

impl Listener {
    /// Starts it, and waits until it has heard the first report: by then it is subscribed.
    fn start(fleet: &Fleet) -> Self {
        let mut command = fleet.herald_command(&["listen", "--logs", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        Self(child, out)
    }

    /// Gives the next log of a program, and all kinds of lines before it.
    fn log_of(&mut self, program: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.1.read_line(&mut line).unwrap() > 0, "it has ended");
            let line = documented(serde_json::from_str(&line).unwrap());
            if line["kind"] == "log" && line["program"] == program {
                return line;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(log: &Value) -> String {
    let lines: Vec<_> = log["lines"].as_array().unwrap().iter().collect();
    lines.iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect()
}

#[test]
fn what_programs_print_is_heard_and_shown_where_they_fail() {
    let fleet = Fleet::start(&["alpha"]);
    let mut listener = Listener::start(&fleet);
    let good = fleet.system("alpha", "1", &[]);
    let outcome = fleet.publish(&["--host", &format!("alpha={good}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("printed"), "nobody asked: {outcome:?}");
    let log = listener.log_of("activate");
    assert_eq!((&log["host"], &log["profile"]), (&"alpha".into(), &"system".into()));
    assert_ne!(text(&log), "");

    let bad = fleet.system("alpha", "2", &[("activation", "late-fail")]);
    let outcome = fleet.publish(&["--host", &format!("alpha={bad}")]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let log = listener.log_of("activate");
    assert!(outcome.stderr.contains("alpha  activate printed:\n"), "{outcome:?}");
    for line in text(&log).lines() {
        assert!(outcome.stderr.contains(&format!("alpha  | {line}\n")), "{line}: {outcome:?}");
    }
}

#[test]
fn an_activation_that_hangs_is_killed_and_what_it_printed_is_told() {
    let fleet = Fleet::start(&["alpha"]);
    let hangs = fleet.system("alpha", "1", &[("activation", "hangs")]);
    let target = format!("alpha={hangs}");
    let outcome = fleet.publish(&["--host", &target, "--activate-within", "2s"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("alpha  activate printed:\n"), "{outcome:?}");
}

#[test]
fn a_host_keeps_what_its_activations_print_to_itself_where_it_is_told_to() {
    let mut fleet = Fleet::start(&["alpha"]);
    fleet.host_mut("alpha").subscriber().signal("TERM");
    fleet.host_mut("alpha").subscriber().wait();
    let file = fleet.host("alpha").config_file();
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("activation_output = \"local\"\n{config}")).unwrap();
    fleet.start_subscriber("alpha");
    let mut listener = Listener::start(&fleet);
    let bad = fleet.system("alpha", "1", &[("activation", "late-fail")]);
    let outcome = fleet.publish(&["--host", &format!("alpha={bad}")]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(!outcome.stderr.contains("printed"), "{outcome:?}");
    wait_for("the roll back to be heard", || {
        let mut line = String::new();
        assert!(listener.1.read_line(&mut line).unwrap() > 0, "it has ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_ne!(line["kind"], "log", "{line}");
        (line["phase"] == "rolled-back").then_some(())
    });
}

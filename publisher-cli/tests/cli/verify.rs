//! `herald verify`, on an order that `herald publish` wrote.

use std::process::Stdio;

use crate::support::{Broker, Desk, Host, exits, json, path, stdout};

/// A desk with `alpha.order` in `orders`, and a trust file in the key that signed it.
fn desk() -> (Desk, String) {
    let (desk, broker) = (Desk::new(), Broker::start());
    desk.fleet(&broker.url(), &[&Host::new("alpha", 1)]);
    let all = format!("publish --host alpha={} --integrity toplevel", path("new"));
    exits(&desk.herald(&format!("{all} --out orders --reason why")), 0);
    let alice = stdout(&desk.herald("key public")).trim().to_owned();
    trust(&desk, "trust.toml", "home", &alice);
    (desk, alice)
}

fn trust(desk: &Desk, name: &str, fleet: &str, key: &str) {
    let text = format!("fleet = {fleet:?}\n[release]\nthreshold = 1\nkeys = [{key:?}]\n");
    desk.write(name, &text);
}

const ORDER: &str = "orders/alpha.system.order";

#[test]
fn a_sound_order_is_shown_to_people_and_to_programs() {
    let (desk, _) = desk();
    let output = desk.herald(&format!("verify {ORDER} --trust trust.toml"));
    exits(&output, 0);
    for words in ["alpha (", "switch", &path("new"), "why", "signed by   alice"] {
        assert!(stdout(&output).contains(words), "{}", stdout(&output));
    }
    let output = desk.herald(&format!("verify {ORDER} --trust trust.toml --json"));
    let shown = json(&output);
    assert_eq!(shown["verified"], true);
    assert_eq!(shown["host"], "alpha");
    assert_eq!(shown["toplevel"], path("new"));
    assert_eq!(shown["signers"], serde_json::json!(["alice"]));
    assert_eq!(shown["confirm_ms"], 120_000);
}

#[test]
fn the_rule_that_refuses_an_order_is_named() {
    let (desk, alice) = desk();
    let bob = stdout(&desk.herald("key generate bob --out bob.key"));
    trust(&desk, "bob.toml", "home", bob.trim());
    trust(&desk, "other.toml", "other", &alice);
    let order = std::fs::read(desk.path(ORDER)).unwrap();
    let mut torn = order.clone();
    torn.truncate(order.len() - 1);
    let mut changed = order.clone();
    // A byte of the target, which is near the end: its store path still parses.
    let at = order.windows(4).rposition(|bytes| bytes == b"-new").unwrap();
    changed[at + 1] = b'm';
    desk.write("empty.order", "");
    desk.write("huge.order", &"x".repeat(20_000));
    std::fs::write(desk.path("torn.order"), torn).unwrap();
    std::fs::write(desk.path("changed.order"), changed).unwrap();
    for (file, trust, rule) in [
        (ORDER, "bob.toml", "under-signed"),
        (ORDER, "other.toml", "wrong-fleet"),
        ("torn.order", "trust.toml", "malformed"),
        ("empty.order", "trust.toml", "malformed"),
        ("huge.order", "trust.toml", "too-large"),
        ("changed.order", "trust.toml", "not-in-release"),
    ] {
        let output = desk.herald(&format!("verify {file} --trust {trust}"));
        let said = exits(&output, 1);
        assert!(said.contains(file) && said.contains(rule), "{said}");
        assert_eq!(stdout(&output), "");
        let output = desk.herald(&format!("verify {file} --trust {trust} --json"));
        exits(&output, 1);
        assert_eq!(json(&output)["verified"], false);
        assert_eq!(json(&output)["code"], rule);
    }
}

#[test]
fn without_a_trust_file_nothing_is_verified() {
    let (desk, _) = desk();
    let said = exits(&desk.herald(&format!("verify {ORDER}")), 1);
    assert!(said.contains("names no trust file"), "{said}");
    let (fleet, text) = (desk.path("fleet.toml"), "trust = \"trust.toml\"\n");
    let old = std::fs::read_to_string(&fleet).unwrap();
    std::fs::write(&fleet, format!("{text}{old}")).unwrap();
    exits(&desk.herald(&format!("verify {ORDER}")), 0);
}

#[test]
fn a_refusal_that_nobody_reads_is_no_success() {
    let (desk, _) = desk();
    desk.write("junk", "no order");
    let mut command = desk.command(&["verify", "junk", "--trust", "trust.toml", "--json"]);
    let mut verify = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(verify.stdout.take());
    assert_eq!(verify.wait().unwrap().code(), Some(1));
}

//! What people get wrong, and that they are told what to do about it.

use crate::support::{Desk, Host, Scene, exits, path, stdout};

/// Nothing listens there.
const NOWHERE: &str = "mqtt://127.0.0.1:9";

#[test]
fn a_misspelt_option_or_command_is_answered_with_the_one_that_is_meant() {
    let desk = Desk::new();
    for (args, meant) in [("status --jsno", "'--json'"), ("pubish", "'publish'")] {
        let said = exits(&desk.herald(args), 2);
        assert!(said.contains(meant), "{said}");
    }
}

#[test]
fn a_misspelt_host_is_answered_with_the_one_that_is_meant_and_a_new_one_with_how_to_let_it_in() {
    let desk = Desk::new();
    let token = Host::new("asking", 3).key.public().to_string();
    let token =
        format!("[tokens.asking]\nkey = {token:?}\nexpires_at = \"2100-01-01T00:00:00Z\"\n");
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1), &Host::new("b", 2)], &token);
    for (name, remedy) in [
        ("alpah", "did you mean alpha?"),
        ("alhpa", "did you mean alpha?"),
        ("alphas", "did you mean alpha?"),
        ("asking", "`herald host enrol asking`"),
        ("gamma", "`herald host token gamma`"),
        ("c", "`herald host token c`"),
    ] {
        let said = exits(&desk.run(&["publish", "--host", &format!("{name}={}", path("new"))]), 1);
        assert!(said.contains(&format!("has no host {name}: ")), "{said}");
        assert!(said.contains(remedy), "{name}: {said}");
    }
}

#[test]
fn a_key_that_is_not_there_is_answered_with_how_to_make_it() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1)]);
    let publish = format!("publish --host alpha={} --integrity toplevel --dry-run", path("new"));
    let said = exits(&desk.herald(&format!("{publish} --key alcie.key")), 1);
    assert!(said.contains("there is no alcie.key: name a key that there is"), "{said}");
    assert!(said.contains("generate NAME --out alcie.key"), "{said}");
    std::fs::remove_dir_all(desk.keys()).unwrap();
    let said = exits(&desk.herald(&publish), 1);
    assert!(said.contains("herald key generate NAME"), "{said}");
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1)], "[login]\nkind = \"signed\"");
    let said = exits(&desk.herald("status --login-key env:NOT_THERE"), 1);
    assert!(said.contains("--login-key") && said.contains("NOT_THERE is not set"), "{said}");
}

#[test]
fn the_help_of_a_command_says_more_than_the_list_of_commands() {
    let desk = Desk::new();
    for (command, says) in [
        ("sign", "herald cosign FILE"),
        ("beacon", "no broker can hold newer orders back"),
        ("host enrol", "Compare the fingerprint"),
        ("completions", "bash-completion"),
    ] {
        let said = stdout(&desk.herald(&format!("{command} --help")));
        assert!(said.contains(says), "{command}: {said}");
    }
}

#[test]
fn a_trust_file_that_is_not_there_is_said_to_be_named_by_the_fleet_file() {
    let desk = Desk::new();
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1)], "trust = \"thrust.toml\"");
    let said = exits(&desk.herald("status"), 1);
    assert!(said.contains("trust in the fleet file fleet.toml: cannot read"), "{said}");
    assert!(said.contains("thrust.toml"), "{said}");
}

#[test]
fn a_broker_that_cannot_be_found_or_reached_is_answered_with_what_to_check() {
    let desk = Desk::new();
    let alpha = Host::new("alpha", 1);
    for (broker, remedy) in [
        (NOWHERE, "check that it runs and that its port is open"),
        // Names under `invalid` are never found (RFC 6761 §6.4).
        ("mqtt://broker.invalid", "check how its name is written"),
    ] {
        desk.fleet(broker, &[&alpha]);
        let said = exits(&desk.herald("status --connect-timeout 1s"), 1);
        assert!(said.contains(broker) && said.contains(remedy), "{said}");
    }
    let scene = Scene::new(&[&alpha]);
    let broker = scene.broker.url().replace("mqtt://", "ws://");
    scene.desk.fleet(&broker, &[&alpha]);
    let said = exits(&scene.desk.herald("status --connect-timeout 1s"), 1);
    assert!(said.contains("check that it speaks WebSocket there"), "{said}");
}

#[test]
fn the_hosts_of_a_fleet_without_any_are_asked_for_too_which_shows_whether_one_is_let_in() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[]);
    let said = exits(&desk.herald("host list --connect-timeout 1s"), 1);
    assert!(said.contains(NOWHERE), "{said}");
    let scene = Scene::new(&[]);
    let said = exits(&scene.desk.herald("host list"), 0);
    assert!(said.contains("`herald host token NAME`"), "{said}");
    let said = exits(&scene.desk.herald("status"), 1);
    assert!(said.contains("`herald host token NAME`"), "{said}");
}

#[test]
fn a_key_that_is_there_already_is_answered_with_how_to_see_its_public_half() {
    let desk = Desk::new();
    exits(&desk.herald("key generate alice --out login.key"), 0);
    let said = exits(&desk.herald("key generate alice --out login.key"), 1);
    assert!(said.contains("`herald key public login.key`"), "{said}");
}

#[test]
fn a_host_that_nothing_is_heard_of_is_answered_with_what_to_see_to() {
    let scene = Scene::new(&[&Host::new("alpha", 1)]);
    let output = scene.publish("--watch --timeout 300ms");
    exits(&output, 5);
    let table = stdout(&output);
    assert!(table.contains("no-answer") && table.contains("see that it is on"), "{table}");
}

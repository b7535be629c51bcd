//! Keys, files and arguments: what the command says before it ever reaches a broker.

use crate::support::{Desk, Host, exits, json, mode, path, stdout};

const NOWHERE: &str = "mqtt://127.0.0.1:9";

#[test]
fn a_new_key_is_for_its_owner_only_and_its_public_half_is_shown() {
    let desk = Desk::new();
    let file = desk.keys().join("alice.key");
    assert_eq!((mode(&file), mode(&desk.keys())), (0o600, 0o700));
    let public = desk.herald("key public");
    exits(&public, 0);
    assert!(stdout(&public).starts_with("alice:") && stdout(&public).len() < 60);
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(!stdout(&public).contains(secret.trim()));
}

#[test]
fn a_key_is_never_overwritten() {
    let desk = Desk::new();
    let file = desk.keys().join("alice.key");
    let before = std::fs::read(&file).unwrap();
    let again = desk.herald("key generate alice");
    assert!(exits(&again, 1).contains("never overwritten"));
    assert_eq!(stdout(&again), "");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_key_s_name_does_not_lead_out_of_the_folder_of_keys() {
    let desk = Desk::new();
    for name in ["../bob", "a/b", ".bob"] {
        let said = exits(&desk.run(&["key", "generate", name]), 1);
        assert!(said.contains("--out"), "{said}");
    }
    let named = desk.herald("key generate team/bob --out deep/er/bob.key");
    exits(&named, 0);
    assert!(stdout(&named).starts_with("team/bob:"));
    assert_eq!(mode(&desk.path("deep/er/bob.key")), 0o600);
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    let file = desk.keys().join("alice.key");
    for bits in [0o640, 0o604, 0o620] {
        let weak = std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(&file, weak).unwrap();
        let said = exits(&desk.herald("key public"), 1);
        assert!(said.contains(&format!("chmod 600 {}", file.display())), "{said}");
    }
}

#[test]
fn of_several_keys_one_must_be_named() {
    let desk = Desk::new();
    exits(&desk.herald("key generate bob"), 0);
    let said = exits(&desk.herald("key public"), 1);
    assert!(said.contains("alice.key") && said.contains("bob.key"), "{said}");
}

#[test]
fn a_fleet_file_that_can_not_be_used_is_named_with_line_and_setting() {
    let desk = Desk::new();
    desk.write("fleet.toml", "fleet = \"home\"\nbroker = \"x\"\nbrokr = \"y\"\n");
    let said = exits(&desk.herald("status"), 1);
    for word in ["fleet.toml", "line 3", "brokr"] {
        assert_eq!(said.matches(word).count(), if word == "brokr" { 2 } else { 1 }, "{said}");
    }
    desk.write("fleet.toml", "fleet = \"home\"\nbroker = \"http://x\"\n");
    let said = exits(&desk.herald("status"), 1);
    assert!(said.contains("mqtt://host:port"), "{said}");
    let said = exits(&desk.herald("status --fleet-file elsewhere.toml"), 1);
    assert!(said.contains("elsewhere.toml"), "{said}");
}

#[test]
fn the_fleet_file_is_found_here_or_in_the_configuration_or_where_it_is_said_to_be() {
    let desk = Desk::new();
    let said = exits(&desk.herald("status"), 1);
    assert!(said.contains("fleet.toml or ") && said.contains(".config/herald"), "{said}");
    let folder = desk.path("home/.config/herald");
    std::fs::create_dir_all(&folder).unwrap();
    let text = |fleet: &str| format!("fleet = \"{fleet}\"\nbroker = \"{NOWHERE}\"\n");
    std::fs::write(folder.join("fleet.toml"), text("config")).unwrap();
    let said = exits(&desk.herald("status"), 1);
    assert!(said.contains(".config/herald/fleet.toml has no hosts"), "{said}");
    desk.write("fleet.toml", &text("here"));
    let said = exits(&desk.herald("status"), 1);
    assert!(said.contains("the fleet file fleet.toml has no hosts"), "{said}");
    let named = desk.write("named.toml", &text("named"));
    let output = desk.command(&["status"]).env("HERALD_FLEET", named).output().unwrap();
    let said = exits(&output, 1);
    assert!(said.contains("named.toml has no hosts"), "{said}");
}

#[test]
fn a_host_that_is_not_in_the_fleet_file_is_named() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1)]);
    let wanted = format!("beta={}", path("new"));
    for args in [
        vec!["publish", "--host", wanted.as_str()],
        vec!["rollback", "beta"],
        vec!["listen", "--host", "beta"],
    ] {
        let said = exits(&desk.run(&args), 1);
        assert!(said.contains("no host beta") && said.contains("fleet.toml"), "{said}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1)]);
    let new = path("new");
    for (args, expected) in [
        ("publish --host alpha=/etc/passwd", "not a valid store path"),
        ("publish --host alpha=./result", "the link ./result does not exist"),
        ("publish --host alpha=./result", "build the system first"),
        ("publish --host alpha=/nix/store/result", "not a valid store path"),
        ("publish --host alpha", "NAME=STORE_PATH"),
        ("publish", "--from"),
        ("publish --host alpha=PATH --from x", "cannot be used with"),
        ("publish --host alpha=PATH --action restart", "invalid value"),
        ("publish --host alpha=PATH --timeout 1s", "--watch"),
        ("publish --host alpha=PATH --not-before tomorrow", "--not-before"),
        ("publish --host alpha=PATH --health-unit sshd", "sshd.service"),
        ("rollback", "HOST"),
    ] {
        let said = exits(&desk.herald(&args.replace("PATH", &new)), 2);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_hosts_would_refuse_is_refused_before_anything_is_signed_or_sent() {
    let desk = Desk::new();
    let host = Host::new("alpha", 1);
    desk.fleet(NOWHERE, &[&host]);
    let publish = |more: &str| {
        let new = path("new");
        let all = format!("publish --host alpha={new} --integrity toplevel --dry-run {more}");
        desk.herald(&all)
    };
    exits(&publish(""), 0);
    for (more, expected) in [
        ("--valid-for 0s", "expire"),
        ("--stable-for 2m", "must hold for"),
        ("--confirm-within 0s", "alpha: the limit to confirm is zero"),
        ("--realise-within 2y", "at most a year"),
        ("--key no.key", "no.key"),
    ] {
        let said = exits(&publish(more), 1);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn too_few_or_untrusted_keys_are_told_before_anything_is_signed() {
    let desk = Desk::new();
    let bob = stdout(&desk.herald("key generate bob --out bob.key"));
    let alice = stdout(&desk.herald("key public"));
    let (alice, bob) = (alice.trim(), bob.trim());
    let host = Host::new("alpha", 1);
    desk.fleet_with(NOWHERE, &[&host], "trust = \"trust.toml\"");
    let publish = || {
        let new = path("new");
        desk.herald(&format!("publish --host alpha={new} --integrity toplevel --dry-run"))
    };
    let trust = |threshold: u8, keys: &[&str]| {
        let text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}");
        desk.write("trust.toml", &text);
    };
    trust(1, &[alice, bob]);
    exits(&publish(), 0);
    trust(2, &[alice, bob]);
    let said = exits(&publish(), 1);
    assert!(said.contains("1 of the 2 keys"), "{said}");
    trust(1, &[bob]);
    let said = exits(&publish(), 1);
    assert!(said.contains("the key alice is not in [release]"), "{said}");
}

#[test]
fn a_dry_run_shows_what_would_be_signed() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1), &Host::new("beta", 2)]);
    let (a, b) = (path("a"), path("b"));
    desk.write("hosts.json", &format!("{{\"alpha\": \"{a}\", \"beta\": \"{b}\"}}"));
    let output = desk.herald(
        "publish --from hosts.json --integrity toplevel --dry-run --json --action test \
         --reason why --health-command true --realise-within 5m",
    );
    exits(&output, 0);
    let shown = json(&output);
    assert_eq!(shown["dry_run"], true);
    assert_eq!(shown["keys"][0], "alice");
    assert_eq!(shown["reason"], "why");
    let beta = &shown["targets"][1];
    assert_eq!((&beta["host"], &beta["toplevel"]), (&"beta".into(), &b.into()));
    assert_eq!((&beta["action"], &beta["realise_ms"]), (&"test".into(), &300_000.into()));
    let command = serde_json::json!({"command": ["/bin/sh", "-c", "true"]});
    assert_eq!(beta["checks"][0], command);
}

#[test]
fn a_path_that_is_not_in_the_store_here_has_no_closure_digest() {
    let desk = Desk::new();
    desk.fleet(NOWHERE, &[&Host::new("alpha", 1)]);
    let wanted = format!("alpha={}", path("not-there"));
    let said = exits(&desk.run(&["publish", "--host", &wanted, "--dry-run"]), 1);
    assert!(said.contains("--integrity toplevel"), "{said}");
}

#[test]
fn an_unreachable_broker_is_named_in_bounded_time() {
    let desk = Desk::new();
    // A port that was free a moment ago, and on which nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = format!("mqtt://127.0.0.1:{port}");
    desk.fleet(&broker, &[&Host::new("alpha", 1)]);
    let publish = format!("publish --host alpha={} --integrity toplevel", path("new"));
    for command in ["status", "listen", "rollback alpha", &publish] {
        let output = desk.herald(&format!("{command} --connect-timeout 200ms"));
        let said = exits(&output, 1);
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(error.contains(&broker) && error.contains("200ms"), "{said}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn completions_and_help_are_printed() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = desk.herald(&format!("completions {shell}"));
        exits(&output, 0);
        assert!(stdout(&output).contains("rollback"));
    }
    let help = stdout(&desk.herald("publish --help"));
    for code in ["3  with --watch", "4  with", "5  with"] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn without_a_broker_orders_are_made_for_several_signatures_too_and_nothing_can_be_watched() {
    let desk = Desk::new();
    let bob = stdout(&desk.herald("key generate bob --out bob.key"));
    let alice = stdout(&desk.herald("key public"));
    desk.fleet_with(NOWHERE, &[&Host::new("alpha", 1)], "trust = \"trust.toml\"");
    let keys = [alice.trim(), bob.trim()];
    let trust = format!("fleet = \"home\"\n[release]\nthreshold = 2\nkeys = {keys:?}");
    desk.write("trust.toml", &trust);
    let wanted = format!("--host alpha={} --integrity toplevel", path("new"));
    exits(&desk.herald(&format!("sign {wanted} --offline --out a.release")), 0);
    exits(&desk.herald("cosign a.release --key bob.key --offline --yes"), 0);
    let made = desk.herald("publish --release a.release --offline --out orders");
    exits(&made, 0);
    assert_eq!(stdout(&made), "orders/alpha.system.order\n");
    let read = desk.herald("verify orders/alpha.system.order --trust trust.toml");
    exits(&read, 0);

    let said = exits(&desk.herald("publish --release a.release --offline --out o --watch"), 1);
    assert!(said.contains("leave --watch"), "{said}");
    let said = exits(&desk.herald(&format!("publish {wanted} --offline")), 2);
    assert!(said.contains("--out"), "{said}");
}

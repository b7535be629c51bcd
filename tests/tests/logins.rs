//! A fleet whose broker takes nobody without a login: hosts and the operator log in over TLS, by
//! tokens that they sign with keys of their own.

#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use herald_tests::{Fleet, Process, binary, wait_for};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Makes a fleet with one host, and puts it on such a broker. The host was not started yet.
fn guarded(host: &str) -> (Fleet, Process) {
    let mut fleet = Fleet::without_hosts();
    fleet.add_host(host);
    fleet.broker_mut().process.kill();

    let made = fleet.herald(&["key", "generate", "alice", "--out", &fleet.path("login.key")]);
    let alice = made.stdout.trim().to_owned();
    let config = fleet.host(host).config_file();
    let own = [binary("herald-subscriber").to_str().unwrap(), "public-key", "--config"]
        .map(str::to_owned);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let key = fleet.in_host(host, &[own.as_slice(), &[config.to_str().unwrap()]].concat());
    write(&fleet, "logins.toml", &logins(host, key.trim(), &alice));

    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    write(&fleet, "broker.pem", &cert.pem());
    write(&fleet, "broker.key", &signing_key.serialize_pem());
    let [certificate, secret, known, state] =
        ["broker.pem", "broker.key", "logins.toml", "guarded"].map(|name| fleet.path(name));
    write(
        &fleet,
        "broker.toml",
        &format!(
            "state = {state:?}\nnames = [\"localhost\"]\nlogins = [{known:?}]\n[[listener]]\n\
             address = \"127.0.0.1:0\"\ntransport = \"tls\"\ncertificate = {certificate:?}\n\
             key = {secret:?}\n"
        ),
    );
    let mut command = Command::new(binary("herald-broker"));
    command.arg("--config").arg(fleet.path("broker.toml"));
    let broker = Process::start(&mut command, fleet.path("guarded.log").as_ref());
    let port = wait_for("the broker to listen", || {
        let output = broker.output();
        let line = output.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:"));
        line.map(|port| port.trim().to_owned())
    });

    let access = format!("[tls]\nca = {certificate:?}\n[login]\nkind = \"signed\"\n");
    for file in [config.to_str().unwrap(), &fleet.path("fleet.toml")] {
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with("broker = ")).unwrap();
        let text = text.replace(line, &format!("broker = \"mqtts://localhost:{port}\""));
        fs::write(file, format!("{text}{access}")).unwrap();
    }
    (fleet, broker)
}

fn logins(host: &str, host_key: &str, operator_key: &str) -> String {
    format!(
        "fleet = \"test\"\n[hosts]\n{host} = [{host_key:?}]\n[operators]\n\
         alice = [{operator_key:?}]\n"
    )
}

fn write(fleet: &Fleet, name: &str, text: &str) {
    fs::write(fleet.path(name), text).unwrap();
}

#[test]
fn a_release_goes_through_a_broker_that_takes_only_signed_logins() {
    let (mut fleet, _broker) = guarded("alpha");
    let login = fleet.path("login.key");
    fleet.spawn_subscriber("alpha");
    wait_for("alpha to say that it is there", || {
        let status = fleet.herald(&["--login-key", &login, "status", "--json"]);
        status.stdout.contains("\"online\"").then_some(())
    });
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    let outcome = fleet.publish(&["--login-key", &login, "--host", &target]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn an_operator_without_the_key_is_told_why_and_a_host_with_another_key_stays_out() {
    let (mut fleet, broker) = guarded("alpha");
    let made = fleet.herald(&["key", "generate", "alice", "--out", &fleet.path("other.key")]);
    let other = fleet.path("other.key");
    let refused = fleet.herald(&["--login-key", &other, "status"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("login") || refused.stderr.contains("token"), "{refused:?}");

    // The broker knows another key for the host.
    let alice = fleet.herald(&["key", "public", &fleet.path("login.key")]).stdout;
    write(&fleet, "logins.toml", &logins("alpha", made.stdout.trim(), alice.trim()));
    broker.signal("HUP");
    wait_for("the broker to read its logins again", || {
        broker.output().contains("were read again").then_some(())
    });
    fleet.spawn_subscriber("alpha");
    wait_for("the host to be refused", || broker.output().contains("bad login").then_some(()));
    let login = fleet.path("login.key");
    let status = fleet.herald(&["--login-key", &login, "status", "--json"]);
    assert!(!status.stdout.contains("\"online\""), "{status:?}");
}

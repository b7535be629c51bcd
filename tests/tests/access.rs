//! The access lists in `examples/brokers` on the brokers that they are for: a host reads its own
//! orders and writes its own reports, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, path::Path};

use herald_tests::{BrokerKind, Secured};

#[test]
fn the_documentation_names_every_example_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/brokers.md")).unwrap();
    let links = text.split("](../examples/brokers/").skip(1);
    let mut named: Vec<_> = links.map(|rest| rest.split(')').next().unwrap().to_owned()).collect();
    let mut there = Vec::new();
    for folder in fs::read_dir(root.join("examples/brokers")).unwrap() {
        let folder = folder.unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let names = (folder.file_name(), file.unwrap().file_name());
            there.push(format!("{}/{}", names.0.display(), names.1.display()));
        }
    }
    named.sort();
    there.sort();
    assert_eq!(named, there);
}

#[test]
fn on_mosquitto_a_host_is_kept_to_its_own_topics() {
    check(BrokerKind::Mosquitto);
}

#[test]
fn on_nats_a_host_is_kept_to_its_own_topics() {
    check(BrokerKind::Nats);
}

#[test]
fn on_rabbitmq_a_host_is_kept_to_its_own_topics() {
    check(BrokerKind::RabbitMq);
}

fn check(kind: BrokerKind) {
    let broker = Secured::start(kind);
    let topic = |rest: &str| format!("herald/v1/home/{rest}");
    let publish =
        |login: &str, rest: &str, message: &str| broker.publish(login, &topic(rest), message);
    let read = |login: &str, rest: &str| broker.read(login, &topic(rest), Some(1));

    // What each has to do.
    assert!(publish("op_alice", "desired/alpha/system", "for alpha"));
    assert!(publish("op_alice", "desired/beta/system", "for beta"));
    assert_eq!(read("alpha", "desired/alpha/system"), ["for alpha"]);
    assert_eq!(read("op_alice", "desired/beta/system"), ["for beta"]);
    for said in ["status/alpha/system", "rollback/alpha/system", "presence/alpha"] {
        assert!(publish("alpha", said, "by alpha"));
        assert_eq!(read("op_alice", said), ["by alpha"], "{said}");
    }
    assert!(publish("beta", "status/beta/system", "by beta"));

    // What a host could do to others. A filter for all may show it what is its own.
    for theirs in ["desired/beta/system", "status/beta/system", "desired/+/system", "#"] {
        let all = broker.read("alpha", &topic(theirs), None);
        // Its own presence is among what it may read.
        let own = |message: &String| message == "for alpha" || message == "by alpha";
        assert!(all.iter().all(own), "{theirs}: {all:?}");
    }
    for theirs in ["status/beta/system", "desired/beta/system", "desired/alpha/system"] {
        publish("alpha", theirs, "by alpha");
        assert_ne!(read("op_alice", theirs), ["by alpha"], "{theirs}");
    }

    // An operator's password does not speak for hosts.
    publish("op_alice", "status/beta/system", "by op_alice");
    assert_eq!(read("op_alice", "status/beta/system"), ["by beta"]);

    // And those who are nobody.
    let order = topic("desired/alpha/system");
    assert!(broker.read_with(&[], &order, None).is_empty(), "without a login");
    let guess = ["-u", "op_alice", "-P", "the password of alpha"];
    assert!(broker.read_with(&guess, &order, None).is_empty(), "with another's password");
}

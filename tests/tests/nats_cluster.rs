//! Herald's own programs on the cluster of `examples/nats-cluster`, over TLS and with logins.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, path::Path};

use herald_tests::{Fleet, NatsExample, Ports, wait_for};

/// Fills in what the example leaves to its reader.
fn example(name: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nats-cluster").join(name);
    changes.iter().fold(fs::read_to_string(path).unwrap(), |text, (old, new)| {
        assert!(text.contains(old), "{name} does not say {old:?}");
        text.replace(old, new)
    })
}

/// Gives a host the configuration of the example, and what it has of its own in tests.
fn configure(fleet: &Fleet, cluster: &NatsExample, host: &str, server: usize) {
    let example = example(
        "subscriber.toml",
        &[
            ("\"alpha\"", &format!("{host:?}")),
            ("mqtts://nats-1.example.org", &cluster.address(server)),
            ("/etc/herald/trust.toml", &fleet.path("trust.toml")),
            ("/etc/herald/password", &cluster.file(&format!("passwords/{host}"))),
            ("/etc/herald/ca.crt", &cluster.file("ca.crt")),
        ],
    );
    let file = fleet.host(host).config_file();
    let own = fs::read_to_string(&file).unwrap();
    let (top, profiles) = own.split_once("[profiles").unwrap();
    let named = |line: &&str| !["fleet", "host", "broker", "trust"].contains(&first(line));
    let top: Vec<_> = top.lines().filter(named).collect();
    fs::write(&file, format!("{}\n{example}\n[profiles{profiles}", top.join("\n"))).unwrap();
}

fn first(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

#[test]
fn hosts_on_different_servers_of_the_cluster_follow_an_operator_on_the_third() {
    let cluster = NatsExample::start();
    let mut fleet = Fleet::without_hosts_at("home", Ports { hosts: 1, operator: 1 });
    for (host, server) in [("alpha", 1), ("beta", 2)] {
        fleet.add_host(host);
        configure(&fleet, &cluster, host, server);
    }
    let [alpha, beta] = ["alpha", "beta"].map(|host| fleet.public_key(host, &[]));
    let file = example(
        "fleet.toml",
        &[
            ("mqtts://nats-3.example.org", &cluster.address(3)),
            ("passwords/alice", &cluster.file("passwords/alice")),
            ("\"ca.crt\"", &format!("{:?}", cluster.file("ca.crt"))),
        ],
    );
    fs::write(fleet.path("fleet.toml"), file).unwrap();
    for (host, key) in [("alpha", &alpha), ("beta", &beta)] {
        let with = ["--key", &fleet.path("operator.key"), "--connect-timeout", "30s"];
        let enrol = ["host", "enrol", host, "--public-key", key];
        let enrolled = fleet.herald(&[enrol.as_slice(), with.as_slice()].concat());
        assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    }
    cluster.wait_until_replicated();
    for host in ["alpha", "beta"] {
        fleet.spawn_subscriber(host);
    }
    for host in ["alpha", "beta"] {
        wait_for(&format!("{host} to say that it is there"), || {
            fleet.report(host).filter(|report| report["presence"] == "online")
        });
    }
    let systems = ["alpha", "beta"].map(|host| fleet.system(host, "1", &[]));
    let targets = [format!("alpha={}", systems[0]), format!("beta={}", systems[1])];
    let patient = ["--connect-timeout", "30s"];
    let hosts = ["--host", &targets[0], "--host", &targets[1]];
    let outcome = fleet.publish(&[patient.as_slice(), hosts.as_slice()].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for (host, system) in [("alpha", &systems[0]), ("beta", &systems[1])] {
        fleet.host(host).assert_settled_on(system);
    }

    // Who shows the password of another is let in nowhere.
    let wrong = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    fs::write(fleet.path("fleet.toml"), wrong.replace("home/alice", "home/alpha")).unwrap();
    let refused = fleet.herald(&["status"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

//! Logins at the broker, TLS, and a broker that refuses what is published.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use herald_proto::{key::PublicKey, login, time::Timestamp};

use crate::support::{Broker, Desk, Host, Scene, exits, stdout};

#[test]
fn an_order_that_the_broker_refuses_ends_with_1_and_says_which_and_what_to_check() {
    let hosts = [Host::new("alpha", 1)];
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 300");
    let scene = Scene::with_broker(broker, &[&hosts[0]]);
    let said = exits(&scene.publish(""), 1);
    for expected in [
        "alpha: the order was not sent",
        "closed 5 connections in a row",
        "herald/v1/home/desired/alpha/system",
        "check that this client may publish there",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_beacon_that_the_broker_refuses_ends_with_1_and_says_what_login_it_needs() {
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 100");
    let desk = Desk::new();
    let key = stdout(&desk.herald("key generate conductor --out conductor.key"));
    let signer = stdout(&desk.herald("key generate alice --out alice.key"));
    let (key, signer, url) = (key.trim(), signer.trim(), broker.url());
    desk.write(
        "trust.toml",
        &format!(
            "fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{signer}\"]\n\
             [rollout]\nthreshold = 1\nkeys = [\"{key}\"]\n[freshness]\ninterval = \"1m\"\n"
        ),
    );
    desk.write(
        "fleet.toml",
        &format!("fleet = \"home\"\nbroker = \"{url}\"\ntrust = \"trust.toml\"\n"),
    );
    for command in ["beacon --key conductor.key --once", "beacon --key conductor.key"] {
        let said = exits(&desk.herald(command), 1);
        assert!(said.contains("takes no beacon") && said.contains("[rollouts]"), "{said}");
    }
}

#[test]
fn a_password_comes_from_a_file_beside_the_fleet_file() {
    let desk = Desk::new();
    let passwords = desk.write("passwords", "ops:hush\n");
    let made = Command::new("mosquitto_passwd").arg("-U").arg(&passwords).status().unwrap();
    assert!(made.success());
    let lines = format!("allow_anonymous false\npassword_file {}", passwords.display());
    let broker = Broker::start_with(&lines);
    let hosts = [Host::new("alpha", 1)];
    let login = "login = { kind = \"password\", user = \"ops\", file = \"secret\" }";
    desk.fleet_with(&broker.url(), &[&hosts[0]], login);
    assert!(exits(&desk.herald("status --wait 0s"), 1).contains("secret"));
    desk.write("secret", "wrong\n");
    let said = exits(&desk.herald("status --wait 0s"), 1);
    assert!(said.contains("login of ops") && !said.contains("wrong\n"), "{said}");
    desk.write("secret", "hush\n");
    exits(&desk.herald("status --wait 0s"), 0);
    desk.fleet_with("mqtt://broker.invalid", &[&hosts[0]], login);
    let said = exits(&desk.herald("status --wait 0s"), 1);
    assert!(said.contains("is not sent to mqtt://broker.invalid:1883"), "{said}");
}

/// Takes one connection, gives the texts in its CONNECT, and refuses it as not authorised.
fn refuse_one(listener: &TcpListener) -> Vec<String> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = vec![0; 4096];
    let mut size = 0;
    // The fixed header of a CONNECT with a token has 2 bytes of length.
    while size < 3 || size < 3 + usize::from(bytes[1] & 0x7f) + 128 * usize::from(bytes[2]) {
        let read = stream.read(&mut bytes[size..]).unwrap();
        assert!(read > 0);
        size += read;
    }
    stream.write_all(&[0x20, 2, 0, 5]).unwrap();
    let mut rest = &bytes[13..size];
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        texts.push(String::from_utf8(rest[2..2 + length].to_vec()).unwrap());
        rest = &rest[2 + length..];
    }
    texts
}

#[test]
fn a_login_key_signs_a_token_for_the_broker_in_the_name_of_the_key() {
    let desk = Desk::new();
    let hosts = [Host::new("alpha", 1)];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    exits(&desk.herald("key generate bob --out login.key"), 0);
    let public = stdout(&desk.herald("key public login.key"));
    let public: PublicKey = public.trim().parse().unwrap();
    desk.fleet(&url, &[&hosts[0]]);
    let refused = std::thread::spawn(move || [refuse_one(&listener), refuse_one(&listener)]);
    let said = exits(&desk.herald("status --wait 0s --login-key login.key"), 1);
    for expected in ["login of home/bob", "calls itself 127.0.0.1", "the clock of this machine"] {
        assert!(said.contains(expected), "{said}");
    }
    let more = "login = { kind = \"signed\", name = \"carol\", key = \"login.key\", broker_name = \"hub\" }";
    desk.fleet_with(&url, &[&hosts[0]], more);
    assert!(exits(&desk.herald("status --wait 0s"), 1).contains("login of home/carol"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = Timestamp::from_millis(u64::try_from(now).unwrap());
    let logins = refused.join().unwrap();
    for (texts, (name, broker)) in
        logins.iter().zip([("home/bob", "127.0.0.1"), ("home/carol", "hub")])
    {
        let [client_id, user, token] = texts.as_slice() else { panic!("{texts:?}") };
        assert_eq!(user, name);
        let principal = user.parse().unwrap();
        let expected = login::Login { principal: &principal, client_id };
        let (keys, brokers) = ([public.clone()], [broker.parse().unwrap()]);
        login::verify(token, &keys, &expected, &brokers, now).unwrap();
        assert!(!said.contains(token.as_str()));
    }
}

#[test]
fn a_missing_login_key_or_authority_is_named() {
    let desk = Desk::new();
    let hosts = [Host::new("alpha", 1)];
    desk.fleet_with("mqtts://127.0.0.1:1", &[&hosts[0]], "login.kind = \"signed\"");
    let said = exits(&desk.herald("status --wait 0s"), 1);
    assert!(said.contains("herald/login.key") && said.contains("key generate"), "{said}");
    desk.fleet_with("mqtts://127.0.0.1:1", &[&hosts[0]], "tls.ca = \"absent.pem\"");
    let said = exits(&desk.herald("status --wait 0s"), 1);
    assert!(said.contains("cannot read absent.pem"), "{said}");
}

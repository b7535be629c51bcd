//! A new host gets into a fleet with a one-time token, and out of it again.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use herald_tests::{Fleet, Guarded, Outcome, documented, wait_for};
use serde_json::Value;

/// A fleet at a broker that takes hosts from the roster, and the host alpha that nobody knows yet.
fn guarded() -> (Fleet, Guarded) {
    let mut fleet = open();
    let logins = format!(
        "fleet = \"test\"\ntrust = {:?}\n[operators]\nalice = [{:?}]\n",
        fleet.path("trust.toml"),
        Guarded::alice(&fleet)
    );
    let broker = Guarded::start(&mut fleet, &logins);
    broker.point_here(&fleet.host("alpha").config_file());
    broker.point_here(fleet.path("fleet.toml").as_ref());
    (fleet, broker)
}

/// A fleet at a broker that takes everybody, and the host alpha that nobody knows yet.
fn open() -> Fleet {
    let mut fleet = Fleet::without_hosts();
    fleet.write_fleet_file();
    let file = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    fs::write(fleet.path("fleet.toml"), format!("trust = \"trust.toml\"\n{file}")).unwrap();
    fleet.add_unknown_host("alpha");
    fleet
}

/// Runs `herald host`, with the operator's keys.
fn host(fleet: &Fleet, arguments: &[&str]) -> Outcome {
    let (login, key) = (fleet.path("login.key"), fleet.path("operator.key"));
    let mut all = vec!["host"];
    if fs::exists(&login).unwrap() {
        all = vec!["--login-key", &login, "host"];
    }
    all.extend(arguments);
    if !matches!(arguments[0], "list") && !arguments.contains(&"--key") {
        all.extend(["--key", &key]);
    }
    fleet.herald(&all)
}

fn done(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// Makes a token and gives it to the host, whose subscriber was not started.
fn give_token(fleet: &Fleet, command: &[&str]) {
    let token = fleet.path("alpha.token");
    let _ = fs::remove_file(&token);
    done(&host(fleet, &[command, &["--out", &token]].concat()));
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let config = fleet.host("alpha").config_file();
    let text = fs::read_to_string(&config).unwrap();
    if !text.contains("[enrol]") {
        fs::write(config, format!("{text}[enrol]\ntoken = {token:?}\n")).unwrap();
    }
}

/// Waits until the host asks, and gives its row of `herald host list`.
fn asking(fleet: &Fleet) -> Value {
    wait_for("alpha to ask", || row(fleet).filter(|row| row["standing"] == "asking"))
}

fn row(fleet: &Fleet) -> Option<Value> {
    let listed = host(fleet, &["list", "--json"]);
    done(&listed);
    let listed = documented(serde_json::from_str(&listed.stdout).unwrap());
    listed["hosts"].as_array().unwrap().iter().find(|row| row["host"] == "alpha").cloned()
}

fn status(fleet: &Fleet) -> Value {
    let login = fleet.path("login.key");
    let mut all = vec!["status", "--json"];
    if fs::exists(&login).unwrap() {
        all = vec!["--login-key", &login, "status", "--json"];
    }
    let status = fleet.herald(&all);
    done(&status);
    documented(serde_json::from_str(&status.stdout).unwrap())["hosts"][0].clone()
}

fn wait_for_report(fleet: &Fleet) {
    wait_for("alpha to report", || (status(fleet)["presence"] == "online").then_some(()));
}

fn enrol(fleet: &Fleet) {
    asking(fleet);
    let fingerprint = fleet.public_key("alpha", &["--fingerprint"]);
    let enrolled = host(fleet, &["enrol", "alpha", "--fingerprint", &fingerprint, "--json"]);
    done(&enrolled);
    let enrolled = documented(serde_json::from_str(&enrolled.stdout).unwrap());
    assert_eq!(enrolled["fingerprint"], *fingerprint);
    wait_for_report(fleet);
}

#[test]
fn a_host_that_asks_with_its_token_is_pinned_by_the_fingerprint_that_it_shows() {
    let mut fleet = open();
    give_token(&fleet, &["token", "alpha"]);
    assert_eq!(row(&fleet).unwrap()["standing"], "invited");
    let status = fleet.herald(&["status", "--wait", "0s"]);
    assert!(status.stderr.contains("alpha has a token, and was not heard to ask"), "{status:?}");
    fleet.spawn_subscriber("alpha");
    let asks = asking(&fleet);
    let status = fleet.herald(&["status", "--json", "--wait", "5s"]);
    assert!(status.stdout.contains(r#""asking":["alpha"]"#), "{status:?}");
    let shown = fleet.public_key("alpha", &["--fingerprint"]);
    assert_eq!(asks["request"]["fingerprint"], shown.as_str());

    let wrong = "0000".to_owned() + &shown[4..];
    let refused = host(&fleet, &["enrol", "alpha", "--fingerprint", &wrong]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("nothing was pinned"), "{refused:?}");
    let unasked = host(&fleet, &["enrol", "alpha"]);
    assert_eq!(unasked.code, Some(1), "nobody was there to compare: {unasked:?}");
    assert_eq!(row(&fleet).unwrap()["standing"], "asking");

    enrol(&fleet);
    let row = row(&fleet).unwrap();
    assert_eq!((&row["standing"], &row["announced"]), (&"member".into(), &true.into()));
    let system = fleet.system("alpha", "1", &[]);
    let outcome = fleet.publish(&["--host", &format!("alpha={system}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    // The token is used up, on the host too.
    fleet.host_mut("alpha").subscriber().kill();
    fleet.spawn_subscriber("alpha");
    wait_for_report(&fleet);
    let asked = fleet.host("alpha").log().matches("asking to be enrolled").count();
    assert_eq!(asked, 1);
}

#[test]
fn whoever_has_no_token_can_ask_for_nothing() {
    let fleet = open();
    give_token(&fleet, &["token", "alpha"]);
    let made = fleet.herald(&["key", "generate", "mallory", "--out", &fleet.path("mallory.key")]);
    done(&made);
    let unheard = host(&fleet, &["enrol", "alpha", "--yes", "--wait", "100ms"]);
    assert_eq!(unheard.code, Some(1), "{unheard:?}");
    assert!(unheard.stderr.contains("has not asked"), "{unheard:?}");

    let file = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    let token = file.lines().find_map(|line| line.strip_prefix("key = \"")).unwrap();
    let token: herald_proto::key::PublicKey = token.trim_end_matches('"').parse().unwrap();
    fleet.publish_raw(&format!("enrol/{}", token.id()), b"let me in");
    let refused = host(&fleet, &["enrol", "alpha", "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the request is refused"), "{refused:?}");
    let row = row(&fleet).unwrap();
    assert_eq!(row["standing"], "invited");
    assert!(row["request_problem"].as_str().unwrap().contains("refused"), "{row}");
}

#[test]
fn with_a_threshold_of_two_a_second_operator_signs_the_file_and_publishes_it() {
    let mut fleet = open();
    let made = fleet.herald(&["key", "generate", "bob", "--out", &fleet.path("bob.key")]);
    let operator = fleet.herald(&["key", "public", &fleet.path("operator.key")]).stdout;
    fleet.write_trust(2, &[operator.trim(), made.stdout.trim()]);

    let (first, bob) = (fleet.path("first.roster"), fleet.path("bob.key"));
    give_token(&fleet, &["token", "alpha", "--roster-out", &first]);
    fleet.spawn_subscriber("alpha");
    asking(&fleet);
    assert_eq!(row(&fleet).unwrap()["announced"], false);
    done(&host(&fleet, &["cosign", &first, "--key", &bob, "--yes"]));
    assert_eq!(row(&fleet).unwrap()["announced"], true);

    let before = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    let again = host(&fleet, &["enrol", "alpha", "--yes", "--roster-out", &first]);
    assert_eq!(again.code, Some(1), "signatures would be lost: {again:?}");
    assert_eq!(fs::read_to_string(fleet.path("fleet.toml")).unwrap(), before);
    let second = fleet.path("second.roster");
    done(&host(&fleet, &["enrol", "alpha", "--yes", "--roster-out", &second]));
    let log = || fleet.host("alpha").log();
    assert!(!log().contains("the fleet knows this host by its key"), "one has signed");
    let again = host(&fleet, &["cosign", &second, "--yes"]);
    assert_eq!(again.code, Some(1), "a key signs once: {again:?}");
    done(&host(&fleet, &["cosign", &second, "--key", &bob, "--yes"]));
    wait_for("alpha to be told", || {
        log().contains("the fleet knows this host by its key").then_some(())
    });
}

#[test]
fn a_broker_lets_a_new_host_in_from_the_roster_and_out_again() {
    let (mut fleet, mut broker) = guarded();
    fleet.spawn_subscriber("alpha");
    wait_for("alpha to be refused", || broker.process.output().contains("bad login").then_some(()));
    fleet.host_mut("alpha").subscriber().kill();

    give_token(&fleet, &["token", "alpha"]);
    fleet.spawn_subscriber("alpha");
    enrol(&fleet);
    fleet.host_mut("alpha").subscriber().kill();
    wait_for("alpha to be missed", || (status(&fleet)["presence"] == "offline").then_some(()));
    broker.restart();
    fleet.spawn_subscriber("alpha");
    wait_for_report(&fleet);

    done(&host(&fleet, &["remove", "alpha", "--yes"]));
    wait_for("alpha to be shut out", || {
        fleet.host("alpha").log().contains("lost the broker").then_some(())
    });
    assert!(row(&fleet).is_none());
    let gone = host(&fleet, &["remove", "alpha", "--yes"]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[test]
fn a_host_s_key_is_replaced_by_one_that_it_makes_and_the_old_one_lets_nobody_in() {
    let (mut fleet, broker) = guarded();
    give_token(&fleet, &["token", "alpha"]);
    fleet.spawn_subscriber("alpha");
    enrol(&fleet);
    let first = row(&fleet).unwrap()["key"].clone();
    let state = fleet.host("alpha").state();
    let state = state.parent().unwrap();
    fs::copy(state.join("host.key"), fleet.path("stolen.key")).unwrap();

    fleet.host_mut("alpha").subscriber().kill();
    give_token(&fleet, &["rotate", "alpha"]);
    fleet.spawn_subscriber("alpha");
    wait_for_report(&fleet);
    let asks = asking(&fleet);
    assert_eq!(asks["key"], first, "it is known by the old key until the new one is pinned");
    assert_ne!(asks["request"]["key"], first);
    enrol(&fleet);
    let second = row(&fleet).unwrap()["key"].clone();
    assert_ne!(second, first);
    wait_for("alpha to sign with it", || {
        (status(&fleet)["verified"] == true && status(&fleet)["problem"].is_null()).then_some(())
    });
    let system = fleet.system("alpha", "1", &[]);
    let (login, target) = (fleet.path("login.key"), format!("alpha={system}"));
    let outcome = fleet.publish(&["--login-key", &login, "--host", &target]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    // Whoever has the old key is nobody.
    let stolen = fleet.path("stolen.key");
    let thief =
        fleet.herald(&["--login-key", &stolen, "--login-name", "alpha", "status", "--json"]);
    assert_eq!(thief.code, Some(1), "{thief:?}");

    // A stolen key is taken away at once.
    fleet.host_mut("alpha").subscriber().kill();
    give_token(&fleet, &["rotate", "alpha", "--now"]);
    let refused = broker.process.output().matches("bad login").count();
    fleet.spawn_subscriber("alpha");
    wait_for("the second key to be refused", || {
        (broker.process.output().matches("bad login").count() > refused).then_some(())
    });
    enrol(&fleet);
    assert_ne!(row(&fleet).unwrap()["key"], second);
}

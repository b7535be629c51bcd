//! Releases that bring other keys: whoever changes the trust can still change it back.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::fs;

use herald_proto::trust::Trust;
use herald_tests::{Fleet, Outcome, wait_for};

/// Makes a key file for an operator, and gives the public key.
fn key(fleet: &Fleet, name: &str) -> String {
    let made =
        fleet.herald(&["key", "generate", name, "--out", &fleet.path(&format!("{name}.key"))]);
    assert_eq!(made.code, Some(0), "{made:?}");
    made.stdout.trim().to_owned()
}

fn trust_file(threshold: usize, keys: &[&str]) -> String {
    format!("fleet = \"test\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n")
}

fn digest(text: &str) -> String {
    Trust::from_toml(text).unwrap().digest().to_string()
}

/// Builds a system that brings a trust file.
fn system(fleet: &Fleet, label: &str, trust: &str) -> String {
    let hook = format!("cat >{} <<'END'\n{trust}\nEND", fleet.path("trust.toml"));
    fleet.system("alpha", label, &[("hook", &hook)])
}

/// Publishes a system, signed by some.
fn publish(fleet: &Fleet, system: &str, signers: &[&str]) -> Outcome {
    let mut arguments: Vec<String> =
        ["publish", "--stable-for", "0s", "--confirm-within", "10s"].map(str::to_owned).into();
    for name in signers {
        arguments.extend(["--key".into(), fleet.path(&format!("{name}.key"))]);
    }
    arguments.extend(["--host".into(), format!("alpha={system}"), "--watch".into()]);
    fleet.herald(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn reported(fleet: &Fleet, what: &str) -> String {
    fleet.report("alpha").unwrap()[what].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_system_that_locks_its_operators_out_rolls_back_and_says_by_which_rule() {
    let fleet = Fleet::start(&["alpha"]);
    let text = fs::read_to_string(fleet.path("trust.toml")).unwrap();
    let old = system(&fleet, "1", &text);
    let outcome = publish(&fleet, &old, &["operator"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let stranger = key(&fleet, "stranger");
    let operator = Trust::from_toml(&text).unwrap().release().keys().next().unwrap().to_string();

    let cases = [
        (trust_file(1, &[&stranger]), "asks for signatures by 1 of its keys, and this order has 0"),
        (trust_file(2, &[&operator, &stranger]), "by 2 of its keys, and this order has 1"),
        (trust_file(1, &[]), "[release] has no keys"),
        (trust_file(1, &[&operator]).replace("test", "other"), "it is for the fleet"),
    ];
    for (number, (bad, said)) in cases.iter().enumerate() {
        let bad = system(&fleet, &format!("bad-{number}"), bad);
        let outcome = publish(&fleet, &bad, &["operator"]);
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        fleet.host("alpha").assert_settled_on(&old);
        assert_eq!(reported(&fleet, "code"), "locked-out");
        let detail = reported(&fleet, "detail");
        assert!(detail.contains(said), "{detail}");
        assert_eq!(fs::read_to_string(fleet.path("trust.toml")).unwrap().trim(), text.trim());
    }

    let gone = format!("rm {}", fleet.path("trust.toml"));
    let gone = fleet.system("alpha", "gone", &[("hook", &gone)]);
    let outcome = publish(&fleet, &gone, &["operator"]);
    assert_eq!((outcome.code, reported(&fleet, "code").as_str()), (Some(3), "locked-out"));
    let good = system(&fleet, "2", &text);
    let outcome = publish(&fleet, &good, &["operator"]);
    assert_eq!(outcome.code, Some(0), "the old keys are trusted as before: {outcome:?}");
}

#[test]
fn keys_are_replaced_by_a_release_that_the_old_and_the_new_ones_sign_without_a_restart() {
    let fleet = Fleet::start(&["alpha"]);
    let text = fs::read_to_string(fleet.path("trust.toml")).unwrap();
    let old = Trust::from_toml(&text).unwrap();
    let (old, new) = (old.release().keys().next().unwrap().to_string(), key(&fleet, "new"));

    // Added: the old key can still sign.
    let both = trust_file(1, &[&old, &new]);
    let outcome = publish(&fleet, &system(&fleet, "1", &both), &["operator"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(reported(&fleet, "trust"), digest(&both));

    // Removed at once with another one: both generations sign.
    let newest = key(&fleet, "newest");
    let replaced = trust_file(1, &[&newest]);
    let third = system(&fleet, "2", &replaced);
    let outcome = publish(&fleet, &third, &["new", "newest"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(reported(&fleet, "trust"), digest(&replaced));
    fleet.host("alpha").assert_settled_on(&third);

    let fourth = system(&fleet, "3", &replaced);
    let refused = publish_briefly(&fleet, &fourth, "operator");
    assert_eq!(refused, "under-signed");
    let outcome = publish(&fleet, &fourth, &["newest"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&fourth);
}

#[test]
fn a_stolen_key_that_a_deploy_removed_is_refused_also_after_a_roll_back_to_where_it_was_trusted() {
    let mut fleet = Fleet::start(&["alpha"]);
    let text = fs::read_to_string(fleet.path("trust.toml")).unwrap();
    let stolen = Trust::from_toml(&text).unwrap().release().keys().next().unwrap().to_string();
    let (second, third) = (key(&fleet, "second"), key(&fleet, "third"));
    let both = trust_file(1, &[&stolen, &second]);
    let old = system(&fleet, "1", &both);
    assert_eq!(publish(&fleet, &old, &["operator"]).code, Some(0));

    // The drill: the others remove the key, and add one for its owner.
    let without = trust_file(1, &[&second, &third]);
    let new = system(&fleet, "2", &without);
    let outcome = publish(&fleet, &new, &["second"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let thief = |label: &str| {
        let bad = system(&fleet, label, &trust_file(1, &[&stolen]));
        assert_eq!(publish_briefly(&fleet, &bad, "operator"), "under-signed");
        fleet.report("alpha").unwrap()["refusal"]["detail"].as_str().unwrap().to_owned()
    };
    thief("bad-1");

    // Back to the system that trusts it: of its two keys one is left.
    let (key, hosts) = (fleet.path("second.key"), "alpha");
    let back = fleet.herald(&["rollback", "--key", &key, hosts, "--watch"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    fleet.host("alpha").assert_settled_on(&old);
    assert_eq!(fs::read_to_string(fleet.path("trust.toml")).unwrap().trim(), both.trim());
    let detail = thief("bad-2");
    assert!(detail.contains("operator") && detail.contains("removed that key"), "{detail}");

    // A restart reads what is durable, and the old generation is not the last word.
    fleet.host_mut("alpha").subscriber().kill();
    fleet.start_subscriber("alpha");
    let bad = system(&fleet, "bad-3", &trust_file(1, &[&stolen]));
    assert_eq!(publish_briefly(&fleet, &bad, "operator"), "under-signed");
    fleet.host("alpha").assert_settled_on(&old);

    // Nor does it count for a system that would trust nobody else.
    let only = system(&fleet, "3", &trust_file(1, &[&stolen]));
    let outcome = publish(&fleet, &only, &["second", "operator"]);
    assert_eq!((outcome.code, reported(&fleet, "code").as_str()), (Some(3), "locked-out"));
    fleet.host("alpha").assert_settled_on(&old);

    // The key that came with the removal was not removed by going back.
    assert_eq!(publish(&fleet, &new, &["second"]).code, Some(0));
    let next = system(&fleet, "4", &without);
    let outcome = publish(&fleet, &next, &["third"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&next);
}

#[test]
fn a_host_that_can_not_tell_which_keys_are_revoked_takes_no_order_and_says_so() {
    let mut fleet = Fleet::start(&["alpha"]);
    let text = fs::read_to_string(fleet.path("trust.toml")).unwrap();
    let first = system(&fleet, "1", &text);
    assert_eq!(publish(&fleet, &first, &["operator"]).code, Some(0));
    let seen = fleet.host("alpha").state().join("../trust.seen");
    let good = fs::read(&seen).unwrap();

    fleet.host_mut("alpha").subscriber().kill();
    fs::write(&seen, &good[..good.len() - 10]).unwrap();
    fleet.start_subscriber("alpha");
    // It says so by itself, and nothing goes on.
    let refused = || {
        let report = fleet.report("alpha")?;
        (report["refusal"]["code"] == "revocations-unknown").then_some(report)
    };
    let report = wait_for("alpha to refuse the order that it had", refused);
    assert!(report["refusal"]["detail"].as_str().unwrap().contains("trust.seen is damaged"));
    let second = system(&fleet, "2", &text);
    let outcome = publish(&fleet, &second, &["operator"]);
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(outcome.stderr.contains("revocations-unknown"), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&first);

    fleet.host_mut("alpha").subscriber().kill();
    fs::write(&seen, &good).unwrap();
    fleet.spawn_subscriber("alpha");
    fleet.wait_for_phase("alpha", "succeeded");
    wait_for("alpha to take the order that it had refused", || {
        (fleet.host("alpha").running() == second).then_some(())
    });
    wait_for("the refusal to be over", || {
        fleet.report("alpha")?["refusal"].is_null().then_some(())
    });
}

#[test]
fn a_system_that_rolls_back_by_itself_revokes_no_key() {
    let fleet = Fleet::start(&["alpha"]);
    let text = fs::read_to_string(fleet.path("trust.toml")).unwrap();
    let first = Trust::from_toml(&text).unwrap().release().keys().next().unwrap().to_string();
    let second = key(&fleet, "second");
    let old = system(&fleet, "1", &trust_file(1, &[&first, &second]));
    assert_eq!(publish(&fleet, &old, &["operator"]).code, Some(0));
    // It is activated, drops the key, accepts the order, and never becomes healthy.
    let sick = system(&fleet, "2", &trust_file(1, &[&second]));
    let (key, target) = (fleet.path("second.key"), format!("alpha={sick}"));
    let arguments = ["publish", "--key", &key, "--host", &target, "--stable-for", "0s"];
    let sickly = ["--confirm-within", "2s", "--health-command", "false", "--watch"];
    let outcome = fleet.herald(&[&arguments[..], &sickly[..]].concat());
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&old);
    let next = system(&fleet, "3", &trust_file(1, &[&first, &second]));
    let outcome = publish(&fleet, &next, &["operator"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// Publishes what the host is to refuse, and gives the code with which it does.
fn publish_briefly(fleet: &Fleet, system: &str, signer: &str) -> String {
    let key = fleet.path(&format!("{signer}.key"));
    let target = format!("alpha={system}");
    let published = fleet.herald(&["publish", "--key", &key, "--host", &target]);
    assert_eq!(published.code, Some(0), "{published:?}");
    herald_tests::wait_for("the host to refuse", || {
        let report = fleet.report("alpha")?;
        report["refusal"]["code"].as_str().map(str::to_owned)
    })
}

//! Bad input: each is refused with its code, and the host goes on as it was.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, time::Duration};

use herald_proto::{
    codec,
    id::{ClosureDigest, MessageDigest, Sequence},
    key::SecretKey,
    merkle::TargetTree,
    order::SealedOrder,
    signing::sign_release,
    store_path::StorePath,
    target::{Action, Check, Closure, Integrity},
    time::Timestamp,
};
use herald_tests::{Fleet, Forgery, wait_for};
use serde_json::Value;

const DESIRED: &str = "desired/alpha/system";
const HOUR: Duration = Duration::from_secs(3600);

fn operator_key(fleet: &Fleet) -> SecretKey {
    let text = fs::read_to_string(fleet.path("operator.key")).unwrap();
    text.parse().unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::from_seed("stranger".parse().unwrap(), &[9; 32]).unwrap()
}

/// Publishes a message, and waits until the host has reported that it refused it.
fn refusal_of(fleet: &Fleet, message: &[u8]) -> Value {
    let digest = MessageDigest::of(message).to_string();
    fleet.publish_raw(DESIRED, message);
    let report = wait_for("the host to refuse", || {
        fleet.report("alpha").filter(|report| report["refusal"]["message"] == *digest)
    });
    report["refusal"]["code"].clone()
}

#[test]
fn messages_that_fail_verification_are_refused_with_their_code_and_change_nothing() {
    let mut fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let outcome = fleet.publish(&["--host", &format!("alpha={system}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let key = operator_key(&fleet);
    let other = fleet.system("alpha", "2", &[]);
    let good = Forgery::new("alpha", &other);
    let changed = |change: &dyn Fn(&mut Forgery)| {
        let mut forgery = good.clone();
        change(&mut forgery);
        forgery.seal(&[&key])
    };
    let resealed = |change: &dyn Fn(&mut SealedOrder)| {
        let mut sealed: SealedOrder = codec::decode(&good.seal(&[&key])).unwrap();
        change(&mut sealed);
        codec::encode(&sealed)
    };
    let truncated = good.seal(&[&key]);
    let no_store_path = {
        // Signed all the same, by an operator's program that does not look.
        let mut target = codec::encode(&good.target);
        let at = target.windows(other.len()).position(|part| part == other.as_bytes()).unwrap();
        target[at..at + 4].copy_from_slice(b"/../");
        assert!(
            String::from_utf8_lossy(&target[at..at + other.len()]).parse::<StorePath>().is_err()
        );
        let mut release = good.release.clone();
        release.targets_root = TargetTree::new([target.clone()]).root();
        codec::encode(&SealedOrder {
            release: sign_release(&release, &[&key]),
            target: codec::Bytes(target),
            index: 0,
            proof: Vec::new(),
        })
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("malformed", b"not an order".to_vec()),
        ("malformed", truncated[..truncated.len() - 1].to_vec()),
        ("malformed", no_store_path),
        ("too-large", vec![0xa0; codec::MAX_MESSAGE + 1]),
        ("wrong-host", changed(&|f| f.target.host = "beta".parse().unwrap())),
        ("wrong-profile", changed(&|f| f.target.profile = "home".parse().unwrap())),
        ("wrong-system", changed(&|f| f.target.system = "riscv64-linux".parse().unwrap())),
        ("wrong-fleet", changed(&|f| f.release.fleet = "other".parse().unwrap())),
        ("wrong-version", changed(&|f| f.release.version = 9)),
        ("bad-envelope", good.seal(&[])),
        ("under-signed", good.seal(&[&stranger()])),
        ("bad-signature", resealed(&|sealed| *sealed.release.0.last_mut().unwrap() ^= 1)),
        ("not-in-release", resealed(&|sealed| sealed.target.0.push(0))),
        ("not-in-release", resealed(&|sealed| sealed.index = 1)),
    ];
    let before = fleet.report("alpha").unwrap();
    for (code, message) in &cases {
        assert_eq!(refusal_of(&fleet, message), **code);
        let after = fleet.report("alpha").unwrap();
        for unchanged in ["phase", "release", "sequence", "running"] {
            assert_eq!(after[unchanged], before[unchanged], "{unchanged} after {code}");
        }
    }
    assert!(fleet.host_mut("alpha").subscriber().is_running());
    fleet.host("alpha").assert_settled_on(&system);

    // A restart forgets nothing, and a good release is followed as if nothing had been.
    fleet.host_mut("alpha").subscriber().kill();
    fleet.start_subscriber("alpha");
    assert_eq!(fleet.report("alpha").unwrap()["sequence"], before["sequence"]);
    let outcome = fleet.publish(&["--host", &format!("alpha={other}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&other);
}

#[test]
fn orders_that_are_signed_well_but_not_for_now_or_here_are_refused_by_their_rule() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let key = operator_key(&fleet);
    let first = fleet.host("alpha").first_system.clone();
    // Each order is newer than the one before, even when both are made in one millisecond.
    let made = std::cell::Cell::new(0);
    let order = |change: &dyn Fn(&mut Forgery)| {
        let mut forgery = Forgery::new("alpha", &system);
        made.set(made.get() + 1);
        forgery.release.sequence = Sequence::new(forgery.release.sequence.number() + made.get());
        change(&mut forgery);
        forgery.seal(&[&key])
    };
    let ended_as = |code: &str, message: &[u8]| {
        fleet.publish_raw(DESIRED, message);
        wait_for(&format!("the order to end as {code}"), || {
            fleet.report("alpha").filter(|report| report["code"] == *code)
        })
    };
    let expired = order(&|f| {
        let past = Timestamp::from_millis(f.release.issued_at.as_millis() - 7_200_000);
        (f.release.issued_at, f.release.not_before) = (past, past);
        f.release.expires_at = past.plus(HOUR);
    });
    let report = ended_as("expired", &expired);
    assert_eq!(report["phase"], "rejected");
    let cases = [
        ("bad-validity", order(&|f| f.release.not_before = f.release.expires_at)),
        ("unsupported", order(&|f| f.target.action = Action::Reboot)),
        (
            "unsupported",
            order(&|f| {
                f.target.health.checks.push(Check::Unit("sshd.service".parse().unwrap()));
            }),
        ),
        ("unexpected-current", order(&|f| f.target.expect_current = vec![system.parse().unwrap()])),
        (
            "wrong-store",
            order(&|f| {
                let elsewhere = f.target.toplevel.base_name().to_owned();
                f.target.toplevel = format!("/elsewhere/store/{elsewhere}").parse().unwrap();
            }),
        ),
        ("not-recorded", order(&|f| f.target.integrity = Integrity::Recorded)),
    ];
    for (code, message) in &cases {
        let report = ended_as(code, message);
        assert_eq!(report["phase"], "rejected", "{code}");
        assert_eq!(report["running"], *first);
    }

    // The sequence of a rejected order is taken: what is older can't come back.
    let sequence = fleet.report("alpha").unwrap()["sequence"].as_u64().unwrap();
    let older = order(&|f| f.release.sequence = Sequence::new(sequence - 1));
    assert_eq!(refusal_of(&fleet, &older), "replayed");
    let equal = order(&|f| f.release.sequence = Sequence::new(sequence));
    assert_eq!(refusal_of(&fleet, &equal), "conflict");
    let ahead = order(&|f| {
        let later = f.release.issued_at.plus(HOUR * 30);
        f.release.sequence = Sequence::new(later.as_millis());
    });
    assert_eq!(refusal_of(&fleet, &ahead), "too-far-ahead");
    fleet.host("alpha").assert_settled_on(&first);
}

#[test]
fn two_signatures_are_asked_for_where_the_trust_file_says_so() {
    let mut fleet = Fleet::without_hosts();
    let second = fleet.herald(&["key", "generate", "second", "--out", &fleet.path("second.key")]);
    let first = fleet.herald(&["key", "public", &fleet.path("operator.key")]);
    fleet.write_trust(2, &[first.stdout.trim(), second.stdout.trim()]);
    fleet.add_host("alpha");
    fleet.start_subscriber("alpha");
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    let one = fleet.publish(&["--host", &target]);
    assert_eq!(one.code, Some(4), "{one:?}");
    assert!(one.stdout.contains("under-signed"), "{one:?}");
    let both = fleet.publish(&["--key", &fleet.path("second.key"), "--host", &target]);
    assert_eq!(both.code, Some(0), "{both:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn a_closure_with_other_bytes_than_were_signed_is_refused() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let mut forgery = Forgery::new("alpha", &system);
    forgery.target.integrity = Integrity::Closure(Closure {
        digest: ClosureDigest::of(b"other bytes"),
        size: 1,
        paths: 1,
    });
    fleet.publish_raw(DESIRED, &forgery.seal(&[&operator_key(&fleet)]));
    let report = fleet.wait_for_phase("alpha", "failed");
    assert_eq!(report["code"], "closure-mismatch");
    let first = &fleet.host("alpha").first_system;
    fleet.host("alpha").assert_settled_on(first);
}

#[test]
fn a_lost_state_is_reported_and_takes_orders_again_only_when_an_operator_says_so() {
    let mut fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    assert_eq!(fleet.publish(&["--host", &target]).code, Some(0));
    let incarnation = fleet.report("alpha").unwrap()["incarnation"].clone();

    fleet.host_mut("alpha").subscriber().kill();
    let state = fleet.host("alpha").state().join("state");
    let mut bytes = fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&state, bytes).unwrap();
    fleet.start_subscriber("alpha");
    wait_for("the host to refuse the retained order", || {
        fleet.report("alpha").filter(|report| report["refusal"]["code"] == "state-lost")
    });
    assert_ne!(fleet.report("alpha").unwrap()["incarnation"], incarnation);
    assert!(fleet.host("alpha").state().join("state.damaged").exists());

    let next = fleet.system("alpha", "2", &[]);
    let target = format!("alpha={next}");
    let refused = fleet.publish(&["--host", &target]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    fleet.host("alpha").assert_settled_on(&system);
    let recovered = fleet.publish(&["--host", &target, "--recover"]);
    assert_eq!(recovered.code, Some(0), "{recovered:?}");
    fleet.host("alpha").assert_settled_on(&next);
}

#[test]
fn a_system_without_a_subscriber_never_becomes_the_boot_default() {
    let fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    // A part of the system stands for one that was built without Herald's module.
    let units = fs::read_link(format!("{system}/etc")).unwrap_or_default();
    let part = units.ancestors().find(|path| path.parent().is_some_and(|p| p.ends_with("store")));
    let part = part.unwrap().to_str().unwrap();
    for action in [Action::Switch, Action::Boot] {
        let mut forgery = Forgery::new("alpha", part);
        forgery.target.action = action;
        fleet.publish_raw(DESIRED, &forgery.seal(&[&operator_key(&fleet)]));
        wait_for("the refusal", || {
            fleet.report("alpha").filter(|report| {
                report["code"] == "not-activatable"
                    && report["sequence"] == forgery.release.sequence.number()
                    && (report["phase"] == "failed" || report["phase"] == "rolled-back")
            })
        });
        fleet.host("alpha").assert_settled_on(&first);
    }
}

#[test]
fn a_second_subscriber_with_the_same_state_is_refused() {
    let fleet = Fleet::start(&["alpha"]);
    let config = fleet.host("alpha").config_file();
    let program = herald_tests::binary("herald-subscriber");
    let second =
        std::process::Command::new(program).arg("run").arg("--config").arg(config).output();
    let second = second.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another herald-subscriber"), "{said}");
}

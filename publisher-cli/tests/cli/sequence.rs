//! `herald publish`, where somebody published before with a clock that is ahead.

use std::{
    process::Stdio,
    sync::mpsc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use herald_fleet::{compose::compose, draft::Draft};
use herald_proto::{
    host::{HostId, ProfileName},
    id::{ReleaseId, Sequence},
    key::SecretKey,
    rejection::Code,
    report::PhaseName,
    target::{Action, Health, Integrity, Limits, Target},
    time::Timestamp,
    topic::Subject,
};

use crate::support::{Answer, Broker, HOME, Host, Scene, Scripted, exits, json, path};

const SUCCEEDED: Answer = Answer::Phase(PhaseName::Succeeded, None);

#[test]
fn a_refused_replay_is_signed_again_above_what_the_host_took() {
    let (scene, alpha) =
        Scene::with_alpha(&[&[Answer::Refuse(Code::Replayed, 5000)], &[SUCCEEDED]]);
    let output = scene.publish("--watch --json");
    let said = exits(&output, 0);
    assert!(said.contains("signing again above it"), "{said}");
    let (first, second) = (alpha.order().release, alpha.order().release);
    assert_eq!(second.sequence.number(), first.sequence.number() + 5001);
    assert_ne!(second.id, first.id);
    assert_eq!(json(&output)["release"], second.id.to_string());
}

#[test]
fn a_replay_that_is_refused_again_is_a_failure_and_no_loop() {
    let refuse = || Answer::Refuse(Code::Replayed, 5000);
    let (scene, _alpha) = Scene::with_alpha(&[&[refuse()], &[refuse()]]);
    exits(&scene.publish("--watch"), 4);
}

#[test]
fn a_clock_ahead_is_outdone_by_the_sequence() {
    let (scene, _alpha) = Scene::with_alpha(&[]);
    let key = std::fs::read_to_string(scene.desk.keys().join("alice.key")).unwrap();
    let ahead = publish_ahead(&scene.broker, &key.parse().unwrap(), "alpha", 1);
    let output = scene.publish("--json");
    exits(&output, 0);
    assert_eq!(json(&output)["sequence"], ahead.number() + 1);
}

#[test]
fn of_several_clocks_ahead_the_furthest_is_outdone_at_once() {
    let names: Vec<_> = (1..=20).map(|n| format!("h{n}")).collect();
    let hosts: Vec<_> = names.iter().zip(1..).map(|(name, key)| Host::new(name, key)).collect();
    let scene = Scene::new(&hosts.iter().collect::<Vec<_>>());
    let key = std::fs::read_to_string(scene.desk.keys().join("alice.key")).unwrap();
    let key = key.parse().unwrap();
    let ahead =
        names.iter().zip(1..).map(|(name, hours)| publish_ahead(&scene.broker, &key, name, hours));
    let furthest = ahead.max().unwrap();
    let all = names.iter().map(|name| format!("--host {name}={}", path("new")));
    let all = all.collect::<Vec<_>>().join(" ");
    let output = scene.desk.herald(&format!("publish {all} --integrity toplevel --json"));
    exits(&output, 0);
    assert_eq!(json(&output)["sequence"], furthest.number() + 1);
}

#[test]
fn a_sequence_that_nobody_trusted_signed_does_not_count() {
    let (scene, _alpha) = Scene::with_alpha(&[]);
    let forger = SecretKey::from_seed("alice".parse().unwrap(), &[99; 32]).unwrap();
    let ahead = publish_ahead(&scene.broker, &forger, "alpha", 1);
    let output = scene.publish("--json");
    let said = exits(&output, 0);
    assert!(said.contains("was there before") && said.contains("set trust = "), "{said}");
    assert!(json(&output)["sequence"].as_u64().unwrap() < ahead.number());
}

#[test]
fn what_may_be_a_later_release_of_a_colleague_is_not_published_over() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let (accepting, is_accepting) = mpsc::channel();
    let alpha = Scripted::start(alpha, &scene.broker, &scene.operator, move |_| {
        // The test may have what it waits for.
        let _ = accepting.send(());
        vec![]
    });
    let colleague = SecretKey::from_seed("bob".parse().unwrap(), &[99; 32]).unwrap();
    let wanted = format!("alpha={}", path("new"));
    let args = ["publish", "--host", &wanted, "--integrity", "toplevel", "--watch"];
    let publish = || {
        let mut command = scene.desk.command(&args);
        command.args(["--timeout", "2s"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.spawn().unwrap();
        is_accepting.recv().unwrap();
        publish_ahead(&scene.broker, &colleague, "alpha", 1);
        running.wait_with_output().unwrap()
    };
    let said = exits(&publish(), 1);
    assert!(said.contains("can't judge: alpha") && said.contains("set trust = "), "{said}");
    alpha.order();
    assert!(alpha.orders.try_recv().is_err());

    let trust =
        format!("fleet = \"{HOME}\"\n[release]\nthreshold = 1\nkeys = [{:?}]\n", scene.operator);
    scene.desk.write("trust.toml", &trust);
    let url = scene.broker.url();
    scene.desk.fleet_with(&url, &[&Host::new("alpha", 1)], "trust = \"trust.toml\"");
    let said = exits(&publish(), 5);
    assert!(said.contains("publishing it again"), "{said}");
}

/// Publishes an order as somebody would whose clock is some hours ahead.
fn publish_ahead(broker: &Broker, key: &SecretKey, host: &str, hours: u64) -> Sequence {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp::from_millis(now.as_millis() as u64 + hours * 3_600_000);
    let host: HostId = host.parse().unwrap();
    let draft = Draft {
        fleet: HOME.parse().unwrap(),
        id: ReleaseId::new(now, &[4; 10]),
        sequence: Sequence::next(now, None),
        issued_at: now,
        not_before: now,
        expires_at: now.plus(Duration::from_secs(60)),
        revision: None,
        reason: None,
        targets: vec![Target {
            host: host.clone(),
            profile: ProfileName::system(),
            system: "x86_64-linux".parse().unwrap(),
            toplevel: path("theirs").parse().unwrap(),
            action: Action::Switch,
            integrity: Integrity::Toplevel,
            limits: Limits::default(),
            health: Health::default(),
            expect_current: vec![],
            tolerated_units: vec![],
            incarnation: None,
            if_reboot_needed: None,
            marks: vec![],
            substituters: vec![],
        }],
    };
    let message = compose(&draft, &[key]).unwrap().orders.remove(0).message;
    broker.publish(Subject::Desired(host, ProfileName::system()), message);
    draft.sequence
}

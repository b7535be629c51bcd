use super::*;
use crate::testing::{fleet, host, host_key, presence, report, signed};
use herald_proto::{report::PhaseName, signing::HostMessage};

struct Scene {
    fleet: Fleet,
    view: FleetView,
}

impl Scene {
    fn new() -> Self {
        let fleet = fleet(&["a", "b"]);
        let view = FleetView::new(ProfileName::system(), fleet.hosts());
        Self { fleet, view }
    }

    fn hear(&mut self, subject: Subject, payload: &[u8]) -> bool {
        let topic = self.fleet.topic(subject);
        let heard = self.view.observe(&self.fleet, &topic, payload);
        heard.is_ok_and(|news| news.is_some())
    }

    /// Host `a` with key 1 is the fleet file's; any other key is a forger's.
    fn status(&mut self, report: &Report, key: u8) -> bool {
        let subject = Subject::Status(host("a"), ProfileName::system());
        self.hear(subject, &signed(report, &host_key(key)))
    }

    fn presence(&mut self, message: &impl HostMessage) -> Connection {
        let subject = Subject::Presence(host("a"));
        self.hear(subject, &signed(message, &host_key(1)));
        self.a().connection()
    }

    fn a(&self) -> &HostView {
        self.view.host(&host("a")).unwrap()
    }
}

fn numbered(number: u64, phase: PhaseName) -> Report {
    let mut report = report("a");
    (report.number, report.phase) = (number, phase);
    report
}

#[test]
fn a_silent_host_has_no_report() {
    let scene = Scene::new();
    assert_eq!(scene.a().problem().unwrap(), "no report");
    assert_eq!(scene.a().connection(), Connection::Unknown);
    assert!(!scene.view.is_complete());
}

#[test]
fn a_forged_report_is_never_shown_as_a_fact() {
    let mut scene = Scene::new();
    assert!(!scene.status(&numbered(9, PhaseName::Succeeded), 2));
    assert!(scene.a().report().is_none());
    let problem = scene.a().problem().unwrap();
    assert!(problem.contains("not pinned for a"), "{problem}");

    assert!(scene.status(&numbered(1, PhaseName::Idle), 1));
    assert_eq!(scene.a().problem(), None);
    assert!(!scene.status(&numbered(9, PhaseName::Succeeded), 2));
    assert_eq!(scene.a().report().unwrap().phase, PhaseName::Idle);
    assert!(scene.a().problem().unwrap().starts_with("unverified"));
}

#[test]
fn only_a_newer_report_replaces_one_of_the_same_life() {
    let mut scene = Scene::new();
    assert!(scene.status(&numbered(5, PhaseName::Succeeded), 1));
    for number in [4, 5] {
        assert!(!scene.status(&numbered(number, PhaseName::Failed), 1));
    }
    assert_eq!(scene.a().report().unwrap().phase, PhaseName::Succeeded);
    let mut reborn = numbered(1, PhaseName::Idle);
    reborn.incarnation = Incarnation::from_bytes([7; 16]);
    assert!(scene.status(&reborn, 1));
    assert_eq!(scene.a().report().unwrap().number, 1);
}

#[test]
fn the_death_of_an_older_session_is_stale_whenever_it_comes() {
    let mut scene = Scene::new();
    let born = |session| presence("a", session, Liveness::Online);
    let died = |session| presence("a", session, Liveness::Offline);
    assert_eq!(scene.presence(&died(3)), Connection::Offline);
    assert_eq!(scene.presence(&born(4)), Connection::Online);
    assert_eq!(scene.presence(&died(3)), Connection::Online);
    assert_eq!(scene.presence(&died(4)), Connection::Offline);
    assert_eq!(scene.presence(&born(3)), Connection::Offline);
    let mut reborn = born(1);
    reborn.incarnation = Incarnation::from_bytes([7; 16]);
    assert_eq!(scene.presence(&reborn), Connection::Online);
    assert_eq!(scene.presence(&died(4)), Connection::Online);
}

#[test]
fn heartbeats_of_a_session_are_numbered_and_nothing_follows_its_death() {
    let mut scene = Scene::new();
    let beat = |session, beat, beacon| Presence {
        beat,
        beacon: Some(Timestamp::from_millis(beacon)),
        ..presence("a", session, Liveness::Online)
    };
    scene.presence(&beat(4, 2, 20));
    scene.presence(&beat(4, 1, 10));
    assert_eq!(scene.a().beacon(), Some(Timestamp::from_millis(20)));
    assert_eq!(scene.presence(&presence("a", 4, Liveness::Offline)), Connection::Offline);
    assert_eq!(scene.presence(&beat(4, 3, 30)), Connection::Offline);
    assert_eq!(scene.presence(&beat(5, 0, 30)), Connection::Online);
}

/// A fleet with a beacon every minute; the order 7 was signed at minute 10 for `a`.
fn scene_with_beacons() -> (Scene, impl Fn(u64) -> Timestamp) {
    let minute = |n: u64| Timestamp::from_millis(n * 60_000);
    let mut scene = Scene::new();
    scene.view = scene.view.expect_beacons(Freshness::every(Duration::from_secs(60)));
    let mut draft = crate::testing::draft(vec![crate::testing::target("a")]);
    (draft.sequence, draft.issued_at) = (Sequence::new(7), minute(10));
    draft.not_before = draft.issued_at;
    draft.expires_at = minute(10_000);
    let key = host_key(100);
    let composed = crate::compose::compose(&draft, &[&key]).unwrap();
    let trust = crate::generations::implied_trust(scene.fleet.id(), [key.public()]).unwrap();
    let order = herald_proto::signing::verify_any_order(&composed.orders[0].message, &trust);
    scene.view.order(&order.unwrap());
    (scene, minute)
}

fn heard(beacon: Timestamp, taken: u64) -> Presence {
    Presence {
        time: beacon,
        beat: 1,
        beacon: Some(beacon),
        hearing: Some(Hearing::Fresh),
        taken: vec![herald_proto::presence::TakenOrder {
            profile: ProfileName::system(),
            sequence: Sequence::new(taken),
        }],
        ..presence("a", 1, Liveness::Online)
    }
}

#[test]
fn an_order_that_a_host_does_not_know_after_later_beacons_is_withheld() {
    let (mut scene, minute) = scene_with_beacons();
    let mut suspicion = |message: &Presence| {
        let mut at = message.clone();
        at.session = message.time.as_millis();
        scene.presence(&at);
        scene.view.suspicion(scene.view.host(&host("a")).unwrap(), message.time)
    };
    assert_eq!(suspicion(&heard(minute(10), 6)), None, "it may still be on its way");
    let withheld = Suspicion::Withheld { wanted: Sequence::new(7), beacon: minute(11) };
    assert_eq!(suspicion(&heard(minute(11), 6)), Some(withheld));
    assert_eq!(suspicion(&heard(minute(12), 7)), None, "it took it");
}

#[test]
fn an_order_that_is_held_back_is_suspected_within_two_intervals_whenever_beacons_come() {
    // A heartbeat that repeats a beacon is put off by a quarter of the interval at the most.
    let (interval, spread) = (60_u64, Duration::from_secs(60 / 4));
    for after in 0..interval {
        let (mut scene, minute) = scene_with_beacons();
        let beacons = (0..).map(|n| minute(10).plus(Duration::from_secs(after + n * interval)));
        let noticed = beacons.take(4).find(|beacon| {
            let mut message = heard(*beacon, 6);
            message.session = beacon.as_millis();
            scene.presence(&message);
            scene.view.suspicion(scene.a(), *beacon).is_some()
        });
        let noticed = noticed.unwrap().plus(spread);
        assert!(noticed <= minute(12), "with beacons {after} s after the order: {noticed}");
    }
}

#[test]
fn an_order_that_a_host_refused_is_not_withheld() {
    let (mut scene, minute) = scene_with_beacons();
    scene.presence(&heard(minute(12), 6));
    let suspects = |scene: &Scene| scene.view.suspicion(scene.a(), minute(12)).is_some();
    assert!(suspects(&scene));
    let message = scene.a().wanted.as_ref().unwrap().message;
    let mut said = numbered(3, PhaseName::Idle);
    said.refusal = Some(herald_proto::report::Refusal {
        message,
        code: herald_proto::rejection::Code::StateLost,
        detail: "a new state".parse().unwrap(),
    });
    scene.status(&said, 1);
    assert!(!suspects(&scene));
}

#[test]
fn a_host_that_hears_no_beacons_and_one_whose_heartbeats_stay_away_are_shown() {
    let (mut scene, minute) = scene_with_beacons();
    let mut message = heard(minute(20), 7);
    message.hearing = Some(Hearing::Stale);
    scene.presence(&message);
    let at = |scene: &Scene, time| scene.view.suspicion(scene.a(), time);
    assert_eq!(at(&scene, minute(21)), Some(Suspicion::Stale { beacon: Some(minute(20)) }));
    assert_eq!(at(&scene, minute(23)), Some(Suspicion::Silent { last: minute(20) }));
    scene.presence(&presence("a", 1, Liveness::Offline));
    assert_eq!(at(&scene, minute(23)), None, "it is known to be away");
}

#[test]
fn a_view_is_complete_when_every_host_has_answered_or_can_not_be_believed() {
    let mut scene = Scene::new();
    for (name, key) in [("a", 1), ("b", 9)] {
        let status = Subject::Status(host(name), ProfileName::system());
        scene.hear(status, &signed(&report(name), &host_key(key)));
    }
    assert!(!scene.view.is_complete());
    for (name, key) in [("a", 1), ("b", 2)] {
        let message = presence(name, 1, Liveness::Online);
        scene.hear(Subject::Presence(host(name)), &signed(&message, &host_key(key)));
    }
    assert!(scene.view.is_complete());
}

#[test]
fn other_profiles_and_hosts_do_not_show() {
    let mut scene = Scene::new();
    let mut home = report("a");
    home.profile = "home".parse().unwrap();
    let subject = Subject::Status(host("a"), home.profile.clone());
    assert!(!scene.hear(subject, &signed(&home, &host_key(1))));
    assert!(scene.a().report().is_none());
}

#[test]
fn the_json_of_a_host_has_stable_fields() {
    let mut scene = Scene::new();
    let mut said = numbered(2, PhaseName::RolledBack);
    said.code = Some(herald_proto::rejection::Code::Unhealthy);
    scene.status(&said, 1);
    let rollback = Subject::Rollback(host("a"), ProfileName::system());
    scene.hear(rollback, &signed(&said, &host_key(1)));
    let fleet = scene.view.to_json(scene.fleet.id(), Timestamp::from_millis(5001));
    let json = serde_json::to_value(fleet).unwrap();
    assert_eq!(json["fleet"], "home");
    let a = &json["hosts"][0];
    for (field, value) in [
        ("host", "a".into()),
        ("profile", "system".into()),
        ("phase", "rolled-back".into()),
        ("code", "unhealthy".into()),
        ("presence", "unknown".into()),
        ("running", crate::testing::path("old").as_str().into()),
        ("number", 2.into()),
        ("time_ms", 1.into()),
        ("age_ms", 5000.into()),
        ("verified", true.into()),
        ("agent", "0.1.0".into()),
        ("problem", serde_json::Value::Null),
        ("release", serde_json::Value::Null),
        ("failed_units", serde_json::json!([])),
    ] {
        assert_eq!(a[field], value, "{field}");
    }
    assert_eq!(a["last_rollback"]["code"], "unhealthy");
    let b = &json["hosts"][1];
    assert_eq!(b["verified"], false);
    assert_eq!(b["problem"], "no report");
    assert!(b["phase"].is_null() && b["running"].is_null());
    assert!(b["age_ms"].is_null());
    assert_eq!(scene.a().age(Timestamp::from_millis(0)), Some(Duration::ZERO));
}

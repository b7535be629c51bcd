//! Beacons between real processes: without one no order is taken, and who misses them says so.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, time::Duration};

use herald_proto::{
    WIRE_VERSION, beacon::Beacon, key::SecretKey, signing::sign_beacon, time::Timestamp,
};
use herald_tests::{Fleet, Process, wait_for};

/// Makes a fleet whose hosts want a beacon every other second, signed by the key `conductor`.
fn fleet() -> Fleet {
    fleet_with("[freshness]\ninterval = \"2s\"\n", |config| config)
}

/// Makes a fleet with the key `conductor` for beacons, more in its trust file, and a host whose
/// configuration is changed.
fn fleet_with(trust: &str, change: impl Fn(String) -> String) -> Fleet {
    let mut fleet = Fleet::without_hosts();
    let key = fleet.path("conductor.key");
    let made = fleet.herald(&["key", "generate", "conductor", "--out", &key]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let file = fleet.path("trust.toml");
    let release = fs::read_to_string(&file).unwrap();
    let rollout = format!("[rollout]\nthreshold = 1\nkeys = [{:?}]\n", made.stdout.trim());
    fs::write(&file, format!("{release}{rollout}{trust}")).unwrap();
    fleet.add_host("alpha");
    let file = fleet.host("alpha").config_file();
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
    let file = fleet.path("fleet.toml");
    let hosts = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("trust = \"trust.toml\"\n{hosts}")).unwrap();
    fleet.start_subscriber("alpha");
    fleet
}

fn beacon(fleet: &Fleet) -> Process {
    let mut command = fleet.herald_command(&["beacon", "--key", &fleet.path("conductor.key")]);
    let log = fleet.path("beacon.log");
    Process::start(&mut command, log.as_ref())
}

fn publish(fleet: &Fleet, label: &str) -> String {
    let system = fleet.system("alpha", label, &[]);
    let (key, target) = (fleet.path("operator.key"), format!("alpha={system}"));
    let arguments = ["publish", "--key", &key, "--host", &target, "--stable-for", "0s"];
    let published = fleet.herald(&arguments);
    assert_eq!(published.code, Some(0), "{published:?}");
    system
}

#[test]
fn an_order_waits_for_a_beacon_and_who_misses_them_says_so() {
    let fleet = fleet();
    let system = publish(&fleet, "1");
    wait_for("alpha to refuse an order for which no beacon vouches", || {
        let report = fleet.report("alpha")?;
        (report["refusal"]["code"] == "stale" && report["phase"] == "idle").then_some(())
    });
    assert_eq!(fleet.report("alpha").unwrap()["suspicion"]["kind"], "stale");

    let mut running = beacon(&fleet);
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
    wait_for("alpha to repeat a beacon", || {
        let report = fleet.report("alpha")?;
        (report["beacon_ms"].is_u64() && report["suspicion"].is_null()).then_some(())
    });

    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0), "{}", running.output());
    wait_for("alpha to say that it hears no beacons", || {
        (fleet.report("alpha")?["suspicion"]["kind"] == "stale").then_some(())
    });
}

#[test]
fn a_beacon_needs_a_key_of_the_rollout_role() {
    let fleet = fleet();
    let key = fleet.path("operator.key");
    let refused = fleet.herald(&["beacon", "--once", "--key", &key]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("not in [rollout]"), "{refused:?}");
    let key = fleet.path("conductor.key");
    let sent = fleet.herald(&["beacon", "--once", "--key", &key]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    wait_for("alpha to repeat it", || fleet.report("alpha")?["beacon_ms"].is_u64().then_some(()));
}

#[test]
fn a_host_that_keeps_nothing_takes_orders_by_a_beacon_newer_than_its_boot_alone() {
    let fleet = fleet_with("", |config| {
        let ephemeral = config.replace("state = \"durable-unchecked\"", "state = \"ephemeral\"");
        assert_ne!(ephemeral, config);
        ephemeral
    });
    let key = fleet.path("conductor.key");
    let system = publish(&fleet, "1");
    let refused = |fleet: &Fleet, beacon: Option<u64>| {
        let report = fleet.report("alpha")?;
        let refusal = &report["refusal"];
        let detail = refusal["detail"].as_str().unwrap_or_default();
        let forgetful = detail.contains("remembers nothing of before its start");
        let is_so = refusal["code"] == "stale" && forgetful && report["phase"] == "idle";
        (is_so && report["beacon_ms"].as_u64() == beacon).then_some(())
    };
    wait_for("alpha to refuse an order without a beacon", || refused(&fleet, None));

    // One that a broker has kept since before this machine's boot.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let since = std::time::UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs_f64(up + 60.0);
    let issued_at = Timestamp::from_millis(since.as_millis().try_into().unwrap());
    let secret: SecretKey = fs::read_to_string(&key).unwrap().trim().parse().unwrap();
    let kept = Beacon { version: WIRE_VERSION, fleet: "test".parse().unwrap(), issued_at };
    fleet.publish_raw("beacon", &sign_beacon(&kept, &[&secret]));
    wait_for("alpha to hear an old beacon and still refuse the order", || {
        refused(&fleet, Some(issued_at.as_millis()))
    });

    let sent = fleet.herald(&["beacon", "--once", "--key", &key]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

//! The load tool, at a small scale: every scenario runs, and its last line has the figures that a
//! large run is judged by. What they are says nothing here.

use std::process::{Command, Stdio};

use herald_tests::binary;
use serde_json::Value;

/// Figures that are beside each other's.
const RATIOS: [&str; 8] = [
    "connect_ratio",
    "connect_cpu_ratio",
    "rss_ratio",
    "rss_tls_ratio",
    "fanout_p99_ratio",
    "fanout_cpu_ratio",
    "orders_ratio",
    "retained_ratio",
];
/// Figures of ours.
const OWN: [&str; 8] = [
    "rss_per_connection_kib",
    "orders_per_second",
    "durable_publishes_per_second",
    "idle_cpu_percent",
    "restart_first_connack_ms",
    "restart_all_back_s",
    "kill_first_connack_ms",
    "kill_all_back_s",
];

const HOSTS: u64 = 50;

#[test]
fn every_scenario_of_the_load_tool_gives_the_figures_that_it_promises() {
    let ran = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["--hosts=50", "--versus=mosquitto", "--rounds=1", "--fanouts=2", "--json-only"])
        .args(["--durable-seconds=0.5", "--tls-connections=20", "--idle-seconds=1"])
        .args(["--soak", "--soak-percent=1", "--broker-bin"])
        .arg(binary("herald-broker"))
        .stdin(Stdio::null())
        .output()
        .expect("the tool starts");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let printed = String::from_utf8(ran.stdout).expect("what is printed is text");
    let line = printed.lines().last().expect("a line is printed");
    let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));

    assert_eq!(json["hosts"], HOSTS);
    for name in RATIOS.iter().chain(&OWN) {
        assert!(json[*name].as_f64().is_some_and(f64::is_finite), "{name} is not in {line}");
    }
    // Not zero either, where that would mean that nothing was done.
    for name in ["orders_per_second", "durable_publishes_per_second", "fanout_p99_ratio"] {
        assert!(json[name].as_f64().is_some_and(|value| value > 0.0), "{name} in {line}");
    }
    assert!(json["soak_rss_growth_kib"].is_number(), "{line}");
    let ours = |name: &str| json["ours"][name]["median"].as_f64();
    assert_eq!(ours("restart_statuses_kept"), Some(3.0 * 50.0), "{line}");
    assert_eq!(ours("retained_count"), Some(3.0 * 50.0), "{line}");
    assert!(json["theirs"]["fanout_p99_ms"]["all"].is_array(), "{line}");
}

//! How long an operator's commands take for ten thousand hosts: `herald sign`, `herald cosign` and
//! `herald publish --release`, whole processes, from their start to their end.
//!
//! Two keys sign. Every host's report stands at a real broker, and so do, from the second round on,
//! the orders of the round before: `sign`, `cosign` and `publish` verify all of them. `cosign
//! --offline` asks nobody. Prints the medians, and as the last line JSON. Builds the programs in its
//! own profile first: `cargo run --release -p herald-tests --bin signing`.

use std::{
    fmt::Write as _,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use herald_proto::{
    WIRE_VERSION,
    host::ProfileName,
    id::{BootId, Incarnation, TrustDigest},
    key::SecretKey,
    report::{PhaseName, Report, Systems},
    signing::sign_as_host,
    text::Prose,
    time::Timestamp,
    topic::{Subject, Topic},
    trust::Trust,
};
use herald_tests::{Fleet, built, built_from, retain};

const HOSTS: usize = 10_000;
const ROUNDS: usize = 7;

/// The steps of a round, each with its arguments.
const STEPS: [(&str, &str); 4] = [
    ("sign", "sign --from hosts.json --integrity toplevel --key operator.key --out N.release"),
    ("cosign", "cosign N.release --yes --key second.key --out N-online.release"),
    ("cosign --offline", "cosign N.release --yes --key second.key --offline"),
    ("publish --release", "publish --release N.release"),
];

fn main() -> ExitCode {
    if let Err(error) = built("herald-broker").and(built_from("herald-cli", "herald")) {
        eprintln!("signing: {error}");
        return ExitCode::FAILURE;
    }
    let fleet = prepared();
    let mut times = STEPS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for ((name, arguments), times) in STEPS.iter().zip(&mut times) {
            let arguments: Vec<_> =
                arguments.split(' ').map(|one| placed(&fleet, one, round)).collect();
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let began = Instant::now();
            let outcome = fleet.herald(&arguments);
            let took = began.elapsed();
            assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
            // In the first no orders stand at the broker.
            if round > 0 {
                times.push(took);
            }
        }
    }
    println!("{HOSTS} hosts, two signatures, {} rounds, medians", ROUNDS - 1);
    let mut json = format!("{{\"hosts\":{HOSTS},\"rounds\":{}", ROUNDS - 1);
    for ((name, _), times) in STEPS.iter().zip(&mut times) {
        let median = median(times);
        println!("herald {name:20} {median:8.1?}");
        let key = name.replace(" --", "_");
        // Writing to a String can't fail.
        let _ = write!(json, ",\"{key}_ms\":{:.1}", median.as_secs_f64() * 1000.0);
    }
    println!("{json}}}");
    ExitCode::SUCCESS
}

/// Makes a fleet whose hosts have reported, and what the commands read.
fn prepared() -> Fleet {
    let mut fleet = Fleet::without_hosts();
    let port = fleet.broker_mut().port;
    let second = fleet.herald(&["key", "generate", "second", "--out", &fleet.path("second.key")]);
    assert_eq!(second.code, Some(0), "{second:?}");
    let first = fleet.herald(&["key", "public", &fleet.path("operator.key")]);
    fleet.write_trust(2, &[first.stdout.trim(), second.stdout.trim()]);
    let trust = fs::read_to_string(fleet.path("trust.toml")).expect("it was written");
    let trust = Trust::from_toml(&trust).expect("a good trust file");

    let key = |number: usize| {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        SecretKey::from_seed("host".parse().expect("a name"), &seed).expect("a usable key")
    };
    let keys: Vec<_> = (0..HOSTS).map(|number| (name(number), key(number))).collect();
    let mut text = format!(
        "fleet = \"{}\"\nbroker = \"mqtt://127.0.0.1:{port}\"\ntrust = \"trust.toml\"\n",
        trust.fleet()
    );
    for (name, key) in &keys {
        text += &format!("[hosts.{name}]\nkey = \"{}\"\n", key.public());
    }
    fs::write(fleet.path("fleet.toml"), text).expect("the fleet file can be written");
    let wanted = keys.iter().map(|(name, _)| (name.clone(), system(name, "new").into()));
    let wanted = serde_json::Value::Object(wanted.collect());
    fs::write(fleet.path("hosts.json"), wanted.to_string()).expect("a file can be written");
    let reports = keys.iter().map(|(name, key)| {
        let report = report(name, trust.digest());
        let subject = Subject::Status(report.host.clone(), report.profile.clone());
        let topic = Topic::new(trust.fleet().clone(), subject);
        (topic.to_string(), sign_as_host(&report, trust.fleet(), key))
    });
    retain(port, reports).expect("the broker takes the reports");
    fleet
}

/// Puts an argument's files into the fleet's folder, with the round for `N`.
fn placed(fleet: &Fleet, argument: &str, round: usize) -> String {
    let is_file = [".release", ".key", ".json"].iter().any(|end| argument.ends_with(end));
    if is_file { fleet.path(&argument.replace('N', &round.to_string())) } else { argument.into() }
}

fn name(number: usize) -> String {
    format!("edge-eu-west-{number:05}")
}

fn system(host: &str, what: &str) -> String {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-{host}-{what}")
}

/// What an idle host says.
fn report(name: &str, trust: TrustDigest) -> Report {
    let running = system(name, "old").parse().expect("a store path");
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Report {
        version: WIRE_VERSION,
        host: name.parse().expect("a host name"),
        profile: ProfileName::system(),
        incarnation: Incarnation::from_bytes([1; 16]),
        number: 1,
        time: Timestamp::from_millis(since.as_millis().try_into().expect("64 bits last")),
        boot: BootId::from_bytes([2; 16]),
        agent: Prose::lossy("0.1.0"),
        trust,
        phase: PhaseName::Idle,
        code: None,
        detail: None,
        order: None,
        refusal: None,
        progress: None,
        systems: Systems { running: Some(running), ..Systems::default() },
        failed_units: vec![],
        hold: None,
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

//! How much longer a deploy takes than the bare commands that it stands for, and how large the
//! subscriber is, on disk and in memory.
//!
//! Two hosts with equal systems, in turn: one is deployed to with `herald publish --watch`, from
//! the start of that command to its end; on the other, a shell runs `nix-store --realise`,
//! `switch-to-configuration test`, `nix-env --set` and `switch-to-configuration boot`. Prints the
//! medians, and as the last line JSON. Builds the programs in its own profile first:
//! `cargo run --release -p herald-tests --bin overhead`.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use herald_tests::Fleet;

const ROUNDS: usize = 15;

const BARE: &str = r#"
began=$(date +%s%N)
nix-store --realise "$1" --add-root "$3" >/dev/null
"$1/bin/switch-to-configuration" test >/dev/null
nix-env --profile "$2" --set "$1"
"$1/bin/switch-to-configuration" boot >/dev/null
ended=$(date +%s%N)
echo $(((ended - began) / 1000))
"#;

fn main() -> ExitCode {
    if let Err(error) = herald_tests::build_all() {
        eprintln!("overhead: {error}");
        return ExitCode::FAILURE;
    }
    let mut fleet = Fleet::start(&["deployed"]);
    fleet.add_host("bare");
    let (mut deployed, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let label = round.to_string();
        let system = fleet.system("deployed", &label, &[]);
        let target = format!("deployed={system}");
        let began = Instant::now();
        let outcome = fleet.publish(&["--host", &target]);
        deployed.push(began.elapsed());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");

        let system = fleet.system("bare", &label, &[]);
        let (profile, root) =
            (fleet.path("hosts/bare/profiles/system"), fleet.path("hosts/bare/root/gc"));
        let printed = fleet.in_host("bare", &["sh", "-euc", BARE, "sh", &system, &profile, &root]);
        bare.push(Duration::from_micros(printed.trim().parse().expect("the shell prints a time")));
    }
    let (deployed, bare) = (median(&mut deployed), median(&mut bare));
    let overhead = deployed.saturating_sub(bare);
    let ratio = deployed.as_secs_f64() / bare.as_secs_f64();
    println!("{ROUNDS} rounds, medians");
    println!("herald publish --watch  {deployed:8.1?}");
    println!("the bare commands       {bare:8.1?}");
    println!("overhead                {overhead:8.1?}  (ratio {ratio:.2})");
    let subscriber = fleet.host_mut("deployed").subscriber().id();
    let resident = resident_mib(subscriber);
    let binary = mib(fs::metadata(format!("/proc/{subscriber}/exe")).map_or(0, |file| file.len()));
    println!(
        "herald-subscriber       {binary:.1} MiB on disk, {resident:.1} MiB resident when idle"
    );
    println!(
        "{{\"rounds\":{ROUNDS},\"deploy_ms\":{:.1},\"bare_ms\":{:.1},\"overhead_ms\":{:.1},\"ratio\":{ratio:.2},\
         \"subscriber_binary_mib\":{binary:.1},\"subscriber_rss_mib\":{resident:.1}}}",
        millis(deployed),
        millis(bare),
        millis(overhead)
    );
    ExitCode::SUCCESS
}

/// Reads how much memory a process has, file-backed pages included.
fn resident_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    mib(kib * 1024)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

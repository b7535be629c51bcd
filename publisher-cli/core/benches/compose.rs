//! What it costs an operator to sign a release for ten thousand hosts. Bound: 1 s, one signature.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use herald_fleet::{compose::compose, draft::Draft};
use herald_proto::{
    host::ProfileName,
    id::{ClosureDigest, ReleaseId, Sequence},
    key::SecretKey,
    target::{Action, Closure, Health, Integrity, Limits, Target},
    time::Timestamp,
};

const HOSTS: usize = 10_000;

fn target(number: usize) -> Target {
    let name = format!("edge-eu-west-{number:05}");
    let toplevel = format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-{name}-26.05");
    Target {
        host: name.parse().expect("a host's name"),
        profile: ProfileName::system(),
        system: "x86_64-linux".parse().expect("a system type"),
        toplevel: toplevel.parse().expect("a store path"),
        action: Action::Switch,
        integrity: Integrity::Closure(Closure {
            digest: ClosureDigest::of(name.as_bytes()),
            size: 3_000_000_000,
            paths: 2_000,
        }),
        limits: Limits::default(),
        health: Health::default(),
        expect_current: vec![],
        tolerated_units: vec![],
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![],
        substituters: vec![],
    }
}

fn benches(criterion: &mut Criterion) {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let draft = Draft {
        fleet: "edge".parse().expect("a fleet's name"),
        id: ReleaseId::new(now, &[3; 10]),
        sequence: Sequence::next(now, None),
        issued_at: now,
        not_before: now,
        expires_at: now.plus(Duration::from_secs(86_400)),
        revision: None,
        reason: None,
        targets: (0..HOSTS).map(target).collect(),
    };
    let alice = SecretKey::from_seed("alice".parse().expect("a name"), &[7; 32]).expect("a key");
    let orders = compose(&draft, &[&alice]).expect("a good draft").orders;
    let largest = orders.iter().map(|order| order.message.len()).max().unwrap_or_default();
    println!("an order of {HOSTS}: {largest} bytes at the most");

    let mut group = criterion.benchmark_group("release");
    group.sample_size(10).throughput(Throughput::Elements(HOSTS as u64));
    group.bench_function("compose", |bencher| {
        bencher.iter(|| compose(black_box(&draft), &[&alice]).expect("a good draft"));
    });
    group.finish();
}

criterion_group!(a_large_release, benches);
criterion_main!(a_large_release);

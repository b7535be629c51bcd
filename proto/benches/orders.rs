//! What it costs an operator to sign a release for ten thousand hosts, and a host to verify its
//! order. Bounds: 1 s for the release, 5,000 orders a second, 1,228 bytes an order.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{alice, large_fleet, orders, reader, trust};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use herald_proto::{codec, signing::verify_order, target::Target};

const HOSTS: usize = 10_000;

/// Composes and encodes everything that `deploy` publishes.
fn messages(targets: &[Target]) -> Vec<Vec<u8>> {
    let orders = orders(targets, &[&alice()]);
    orders.iter().map(codec::encode).collect()
}

fn benches(criterion: &mut Criterion) {
    let targets = large_fleet(HOSTS);
    let messages_of_all = messages(&targets);
    let sizes = messages_of_all.iter().map(Vec::len);
    let largest = sizes.clone().max().unwrap_or_default();
    let mean = sizes.sum::<usize>() / HOSTS;
    println!("an order of {HOSTS}: {mean} bytes on average, {largest} at the most");

    let mut group = criterion.benchmark_group("release");
    group.sample_size(10).throughput(Throughput::Elements(HOSTS as u64));
    group.bench_function("sign, with all orders", |bencher| {
        bencher.iter(|| messages(black_box(&targets)));
    });
    group.finish();

    let (trust, reader) = (trust(1, &[&alice()]), reader("edge-eu-west-07777"));
    let message = &messages_of_all[7_777];
    let mut group = criterion.benchmark_group("order");
    group.throughput(Throughput::Elements(1));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify_order(black_box(message), &trust, &reader).expect("a good order"));
    });
    group.finish();
}

criterion_group!(orders_of_a_large_release, benches);
criterion_main!(orders_of_a_large_release);

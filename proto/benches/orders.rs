//! What it costs a host to verify its order, one of ten thousand. Bound: 5,000 orders a second.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{alice, large_fleet, orders, reader, trust};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use herald_proto::{codec, signing::verify_order};

const HOSTS: usize = 10_000;

fn benches(criterion: &mut Criterion) {
    let orders = orders(&large_fleet(HOSTS), &[&alice()]);
    let (trust, reader) = (trust(1, &[&alice()]), reader("edge-eu-west-07777"));
    let message = codec::encode(&orders[7_777]);
    let mut group = criterion.benchmark_group("order");
    group.throughput(Throughput::Elements(1));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify_order(black_box(&message), &trust, &reader).expect("a good order"));
    });
    group.finish();
}

criterion_group!(orders_of_a_large_release, benches);
criterion_main!(orders_of_a_large_release);

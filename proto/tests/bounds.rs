//! How large a message becomes, in a fleet of ten thousand hosts.

mod common;

use common::{NOW, alice, large_fleet, reader, trust};
use herald_proto::{codec, signing::verify_order};

/// 1.2 KiB: one signer, no checks, no reason.
const BARE_ORDER: usize = 1228;

#[test]
fn a_bare_order_in_a_fleet_of_ten_thousand_fits_in_1228_bytes() {
    let key = alice();
    let orders = common::orders(&large_fleet(10_000), &[&key]);
    assert_eq!(orders.len(), 10_000);
    let largest = orders.iter().max_by_key(|order| codec::encode(*order).len());
    let message = codec::encode(largest.expect("there are some"));
    assert!(message.len() <= BARE_ORDER, "{} bytes", message.len());

    let last = orders.last().expect("there are some");
    let order =
        verify_order(&codec::encode(last), &trust(1, &[&key]), &reader("edge-eu-west-09999"));
    assert_eq!(order.expect("a good order").release.issued_at, NOW);
}

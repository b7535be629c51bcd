//! What holds for every message, and for everything that is none.

#[path = "../common/mod.rs"]
mod common;
mod generate;

use std::fmt::Debug;

use common::{
    alice, alpha, beacon, carol, fleet, host, host_key, log, order, presence, report, trust,
    trust_text,
};
use herald_proto::{
    codec::{self, MAX_MESSAGE, Wire},
    log::Log,
    presence::{Liveness, Presence},
    report::Report,
    signing::{
        sign_as_host, sign_beacon, sign_enrol_request, sign_release, verify_any_order,
        verify_beacon, verify_enrol_request, verify_from_host, verify_order, verify_release,
        verify_roster_entry,
    },
    store_path::StorePath,
    text::Prose,
    topic::Topic,
    trust::Trust,
};
use proptest::{prelude::*, sample::Index, test_runner::FileFailurePersistence};
use serde::{Serialize, de::DeserializeOwned};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

/// Checks that a message has one encoding, from which it comes back as it was.
fn round_trips<T: Wire + PartialEq + Debug>(message: &T) -> Result<(), TestCaseError> {
    let bytes = codec::encode(message);
    prop_assert!(bytes.len() <= MAX_MESSAGE, "the generators stay below the limit");
    let read: T = codec::decode(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, message);
    prop_assert_eq!(codec::encode(&read), bytes);
    Ok(())
}

/// The JSON form, which people and programs read, loses nothing either.
fn survives_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    message: &T,
) -> Result<(), TestCaseError> {
    let text = serde_json::to_string(message).expect("a message can be written as JSON");
    let read: T = serde_json::from_str(&text)
        .map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    prop_assert_eq!(&read, message);
    Ok(())
}

/// Gives bytes to everything that reads bytes from the network.
fn read_by_all(bytes: &[u8]) -> [bool; 9] {
    let trust = trust(1, &[&alice()]);
    let (fleet, host, key) = (fleet(), host(), host_key());
    [
        verify_any_order(bytes, &trust).is_ok(),
        verify_order(bytes, &trust, &common::reader("alpha")).is_ok(),
        verify_release(bytes, &trust).is_ok(),
        verify_beacon(bytes, &common::trust_with_beacons()).is_ok(),
        verify_from_host::<Report>(bytes, &fleet, &host, &key).is_ok(),
        verify_from_host::<Presence>(bytes, &fleet, &host, &key).is_ok(),
        verify_from_host::<Log>(bytes, &fleet, &host, &key).is_ok(),
        verify_enrol_request(bytes, &fleet, common::token().public()).is_ok(),
        verify_roster_entry(bytes, &trust).is_ok(),
    ]
}

fn good_messages() -> Vec<Vec<u8>> {
    let order = order(&[&alice()]);
    vec![
        codec::encode(&order),
        order.release.0,
        sign_as_host(&report(), &fleet(), &alpha()),
        sign_as_host(&presence(Liveness::Online), &fleet(), &alpha()),
        sign_beacon(&beacon(), &[&carol()]),
        sign_as_host(&log(), &fleet(), &alpha()),
        sign_enrol_request(&common::enrol_request(), &common::token(), &alpha()),
        common::sign_entry(&common::roster_entry(), &[&alice()]),
    ]
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn every_release_round_trips(message in generate::release()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_target_round_trips(message in generate::target()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_order_round_trips(message in generate::sealed_order()) {
        round_trips(&message)?;
    }

    #[test]
    fn every_report_round_trips(message in generate::report()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_presence_round_trips(message in generate::presence()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_beacon_round_trips(message in generate::beacon()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_request_to_be_let_in_round_trips(message in generate::enrol_request()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_entry_of_the_roster_round_trips(message in generate::roster_entry()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_log_round_trips(message in generate::log()) {
        round_trips(&message)?;
        survives_json(&message)?;
    }

    #[test]
    fn every_release_of_the_fleet_that_is_signed_is_verified(message in generate::release()) {
        let release = herald_proto::release::Release { fleet: fleet(), version: 0, ..message };
        let signed = sign_release(&release, &[&alice()]).0;
        let read = verify_release(&signed, &trust(1, &[&alice()]));
        prop_assert_eq!(read.map(herald_proto::signing::Verified::into_inner), Ok(release));
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(read_by_all(&bytes), [false; 9]);
    }

    #[test]
    fn random_cbor_is_refused_without_a_panic(value in generate::cbor()) {
        let mut bytes = vec![];
        ciborium::into_writer(&value, &mut bytes).expect("writing to memory");
        prop_assert_eq!(read_by_all(&bytes), [false; 9]);
    }

    #[test]
    fn a_message_with_another_piece_in_it_is_refused_without_a_panic(
        which in any::<Index>(),
        (from, to) in (any::<Index>(), any::<Index>()),
        piece in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let message = which.get(&good_messages()).clone();
        let (from, to) = (from.index(message.len()), to.index(message.len()));
        let (from, to) = (from.min(to), from.max(to));
        let spliced = [&message[..from], &piece, &message[to..]].concat();
        prop_assume!(spliced != message);
        prop_assert_eq!(read_by_all(&spliced), [false; 9]);
    }

    #[test]
    fn a_topic_is_what_it_was_read_from_or_is_refused(
        text in prop_oneof![any::<String>(), generate::nearly_topic()],
    ) {
        if let Ok(topic) = text.parse::<Topic>() {
            prop_assert_eq!(topic.to_string(), text);
        }
    }

    #[test]
    fn a_store_path_is_what_it_was_read_from_or_is_refused(
        text in prop_oneof![any::<String>(), generate::nearly_store_path()],
    ) {
        if let Ok(path) = text.parse::<StorePath>() {
            prop_assert_eq!(path.to_string(), text.as_str());
            prop_assert_eq!(format!("{}/{}", path.store_dir(), path.base_name()), text.as_str());
            prop_assert!(path.base_name().ends_with(path.name()));
            let parts = std::path::Path::new(&text).components().skip(1);
            prop_assert!(parts.clone().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert_eq!(parts.count(), text.matches('/').count());
        }
    }

    #[test]
    fn prose_made_of_anything_is_prose(text in any::<String>()) {
        let prose = Prose::lossy(&text);
        prop_assert_eq!(prose.as_str().parse::<Prose>(), Ok(prose.clone()));
    }

    #[test]
    fn a_trust_file_of_anything_is_refused_without_a_panic(text in any::<String>()) {
        prop_assert!(Trust::from_toml(&text).is_err());
    }

    #[test]
    fn a_damaged_trust_file_is_refused_or_keeps_its_promises(
        (at, to) in (any::<Index>(), any::<Index>()),
        piece in "[ -~\\n]{0,4}",
    ) {
        let good = trust_text(2, &[&alice(), &common::bob(), &common::carol()]);
        let at = at.index(good.len());
        let to = (at + to.index(4)).min(good.len());
        let text = format!("{}{piece}{}", &good[..at], &good[to..]);
        if let Ok(trust) = Trust::from_toml(&text) {
            let keys = trust.release().keys().count();
            prop_assert!((1..=keys).contains(&trust.release().threshold()));
        }
    }
}

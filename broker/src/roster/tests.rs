use herald_proto::{
    WIRE_VERSION, enrol, enrol::RosterEntry, key::BareKey, key::SecretKey, signing::Gathering,
};

use super::*;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
}

fn bare(n: u8) -> BareKey {
    BareKey::from(key(n).public())
}

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn named(fleet: &str, name: &str) -> LoginName {
    LoginName { fleet: fleet.parse().unwrap(), name: host(name) }
}

/// An entry about `web-1`, signed by some.
fn signed(keys: (Option<u8>, Option<u8>), by: &[u8]) -> Vec<u8> {
    let token = |n| enrol::Token { key: bare(n), expires_at: Timestamp::from_millis(50) };
    let mut gathering = Gathering::new(RosterEntry {
        version: WIRE_VERSION,
        fleet: "home".parse().unwrap(),
        host: host("web-1"),
        number: Sequence::new(7),
        key: keys.0.map(bare),
        token: keys.1.map(token),
    });
    by.iter().for_each(|n| gathering.sign(&key(*n)).unwrap());
    gathering.seal().0
}

/// Two of three now, and another one before.
fn signers() -> Signers {
    let trust = |threshold: usize, keys: &[u8]| {
        let keys: Vec<_> = keys.iter().map(|n| key(*n).public().to_string()).collect();
        let text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}");
        Trust::from_toml(&text).unwrap()
    };
    Signers { current: trust(2, &[1, 2, 3]), older: vec![trust(1, &[4])] }
}

#[test]
fn an_entry_is_what_those_who_sign_now_say_of_the_host_of_its_topic() {
    let bytes = signed((Some(9), Some(8)), &[1, 3]);
    let standing = signers().verify(&host("web-1"), &bytes).unwrap();
    assert_eq!(standing.ids(), (Some(bare(9).id()), Some(bare(8).id())));
    assert_eq!(standing.number, Sequence::new(7));
    assert_eq!(standing.token.unwrap().expires_at, Timestamp::from_millis(50));
    let removed = signers().verify(&host("web-1"), &signed((None, None), &[1, 2])).unwrap();
    assert_eq!(removed.keys().count(), 0);

    let other = signers().verify(&host("web-2"), &bytes);
    let (topic, found) = (host("web-2"), host("web-1"));
    assert_eq!(other, Err(Refused::OtherHost { topic, found }));
    let few = signers().verify(&host("web-1"), &signed((Some(9), None), &[1]));
    let under = Rejection::UnderSigned { valid: 1, threshold: 2 };
    assert_eq!(few, Err(Refused::Rejected(under)));
    let same = signers().verify(&host("web-1"), &signed((Some(9), Some(9)), &[1, 2]));
    assert_eq!(same, Err(Refused::TokenIsKey { host: host("web-1") }));
    for bytes in [&[][..], b"entry", &bytes[1..]] {
        let refused = signers().verify(&host("web-1"), bytes);
        assert!(matches!(refused, Err(Refused::Rejected(_))), "{refused:?}");
    }
}

#[test]
fn what_was_signed_before_stays_good_and_nothing_new_is() {
    let old = signed((Some(9), None), &[4]);
    assert!(matches!(signers().verify(&host("web-1"), &old), Err(Refused::Rejected(_))));
    assert!(signers().verify_again(&host("web-1"), &old).is_ok());
    let nobody = signed((Some(9), None), &[5]);
    let refused = signers().verify_again(&host("web-1"), &nobody);
    // By those who sign now.
    let under = Rejection::UnderSigned { valid: 0, threshold: 2 };
    assert_eq!(refused, Err(Refused::Rejected(under)));
}

#[test]
fn a_key_is_one_host_s_in_its_fleet_for_as_long_as_the_roster_says_so() {
    let standing = |key, token| {
        let bytes = signed((key, token), &[1, 2]);
        signers().verify(&host("web-1"), &bytes).unwrap()
    };
    let roster = Roster::default();
    let [one, other] = ["web-1", "web-2"].map(|name| named("home", name));
    assert_eq!(roster.put(one.clone(), standing(Some(9), Some(8))), None);
    for n in [9, 8] {
        assert_eq!(roster.other_with(&other, &[bare(7).id(), bare(n).id()]), Some(host("web-1")));
        assert_eq!(roster.other_with(&one, &[bare(n).id()]), None);
        assert_eq!(roster.other_with(&named("work", "web-2"), &[bare(n).id()]), None);
    }
    // The token is used up, and the key goes.
    let before = roster.put(one.clone(), standing(Some(7), None)).unwrap();
    assert_eq!(before.ids(), (Some(bare(9).id()), Some(bare(8).id())));
    assert_eq!(roster.other_with(&other, &[bare(9).id(), bare(8).id()]), None);
    assert_eq!(roster.other_with(&other, &[bare(7).id()]), Some(host("web-1")));
    assert_eq!(roster.find(&one), Some(standing(Some(7), None)));
    assert_eq!(roster.find(&other), None);
}

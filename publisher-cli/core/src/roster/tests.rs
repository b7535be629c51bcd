use herald_proto::{key::SecretKey, rejection::Rejection, text::Prose};

use super::*;
use crate::testing::{host, host_key};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// web-1 is known by the key 1; db has the token 2, until a second after now.
fn fleet() -> Fleet {
    let until = Timestamp::from_millis(1_001_000);
    Fleet::from_toml(&format!(
        "fleet = \"home\"\nbroker = \"mqtt://127.0.0.1\"\n[hosts.web-1]\nkey = \"{}\"\n\
         [tokens.db]\nkey = \"{}\"\nexpires_at = \"{until}\"\n",
        host_key(1).public(),
        host_key(2).public()
    ))
    .unwrap()
}

fn request(name: &str, token: &SecretKey, key: &SecretKey) -> Vec<u8> {
    let request = EnrolRequest {
        version: WIRE_VERSION,
        fleet: "home".parse().unwrap(),
        host: host(name),
        key: key.public().into(),
        time: NOW,
        agent: Prose::lossy("0.1.0"),
        system: "x86_64-linux".parse().unwrap(),
    };
    signing::sign_enrol_request(&request, token, key)
}

#[test]
fn an_entry_says_what_the_fleet_file_says_and_has_a_higher_number_than_the_last() {
    let fleet = fleet();
    let member = entry(&fleet, &host("web-1"), NOW, None);
    assert_eq!(member.key, Some(BareKey::from(host_key(1).public())));
    assert_eq!(member.token, None);
    let later = entry(&fleet, &host("web-1"), Timestamp::from_millis(1), Some(&member));
    assert!(later.number > member.number, "even where the clock went back");

    let invited = entry(&fleet, &host("db"), NOW, None);
    assert_eq!(invited.key, None);
    assert_eq!(invited.token.unwrap().key, BareKey::from(host_key(2).public()));
    let expired = entry(&fleet, &host("db"), Timestamp::from_millis(1_001_000), None);
    assert_eq!((expired.key, expired.token), (None, None));
    let gone = entry(&fleet, &host("cache"), NOW, None);
    assert_eq!((gone.key, gone.token), (None, None));
}

#[test]
fn a_request_is_taken_for_the_name_of_its_token_alone_and_before_it_expires() {
    let (fleet, db, late) = (fleet(), host("db"), Timestamp::from_millis(1_001_000));
    let [token, fresh, other] = [2, 7, 8].map(host_key);
    let verify = |payload: &[u8], at| verify_request(&fleet, &db, payload, at);
    assert!(verify(&request("db", &token, &fresh), NOW).is_ok());
    let expired = verify(&request("db", &token, &fresh), late).unwrap_err();
    assert_eq!(expired, BadRequest::Expired { host: host("db"), expired_at: late });
    let renamed = verify(&request("web-1", &token, &fresh), NOW).unwrap_err();
    assert_eq!(renamed, BadRequest::OtherHost { host: host("db"), asked: host("web-1") });
    let forged = verify(&request("db", &other, &fresh), NOW).unwrap_err();
    assert!(matches!(forged, BadRequest::Rejected(Rejection::UnderSigned { .. })));
    let stolen = verify(&request("db", &token, &host_key(1)), NOW).unwrap_err();
    assert_eq!(stolen, BadRequest::Taken { host: host("db"), owner: host("web-1") });
    let uninvited = verify_request(&fleet, &host("web-1"), &[], NOW).unwrap_err();
    assert_eq!(uninvited, BadRequest::NoToken { host: host("web-1") });
}

#[test]
fn a_row_tells_where_a_host_stands_and_what_is_wrong_with_what_it_asks() {
    let (fleet, db, web) = (fleet(), host("db"), host("web-1"));
    let row = |host: &HostId, broker, now| Row::of(&fleet, host, broker, now);
    let late = Timestamp::from_millis(2_000_000);
    assert_eq!(row(&db, None, NOW).standing, Standing::Invited);
    assert_eq!(row(&db, None, late).standing, Standing::Expired);
    assert_eq!(row(&web, None, NOW).standing, Standing::Member);
    assert_eq!(row(&web, None, NOW).announced, None);

    let good = request("db", &host_key(2), &host_key(7));
    let said = entry(&fleet, &db, NOW, None);
    let asking = OnBroker { entry: Some(&said), request: Some(&good) };
    let asking = row(&db, Some(asking), NOW);
    assert_eq!((asking.standing, asking.announced), (Standing::Asking, Some(true)));
    let bad = OnBroker { entry: None, request: Some(&good[1..]) };
    let bad = row(&db, Some(bad), NOW);
    assert_eq!((bad.standing, bad.announced), (Standing::Invited, Some(false)));
    assert!(bad.request_problem.unwrap().contains("refused"));
}

#[test]
fn an_entry_that_says_something_else_does_not_agree() {
    let fleet = fleet();
    for name in ["web-1", "db", "gone"] {
        assert!(agrees(&fleet, &entry(&fleet, &host(name), NOW, None), NOW));
    }
    let other = BareKey::from(host_key(9).public());
    let wrong = RosterEntry { key: Some(other), ..entry(&fleet, &host("web-1"), NOW, None) };
    assert!(!agrees(&fleet, &wrong, NOW));
}

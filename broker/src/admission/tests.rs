use herald_proto::{
    WIRE_VERSION,
    enrol::{RosterEntry, Token},
    id::Sequence,
    key::{BareKey, SecretKey},
    signing::Gathering,
    time::Timestamp,
};

use super::*;

const OPERATOR: u8 = 1;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
}

fn name(host: &str) -> LoginName {
    LoginName { fleet: "home".parse().unwrap(), name: host.parse().unwrap() }
}

/// `alice` logs in with key 5, and host `listed` with key 6; key 1 signs the roster.
fn logins() -> Logins {
    let folder = tempfile::tempdir().unwrap();
    let trust = format!(
        "fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{}\"]",
        key(OPERATOR).public()
    );
    std::fs::write(folder.path().join("trust.toml"), trust).unwrap();
    let [alice, listed] = [5, 6].map(|n| key(n).public().to_string());
    let text = format!(
        "fleet = \"home\"\ntrust = \"trust.toml\"\n[operators]\nalice = [{alice:?}]\n\
         [hosts]\nlisted = [{listed:?}]\n"
    );
    let path = folder.path().join("home.toml");
    std::fs::write(&path, text).unwrap();
    Logins::load(&[path]).unwrap()
}

fn entry(host: &str, number: u64, key_of: Option<u8>, token: Option<u8>) -> Vec<u8> {
    let bare = |n| BareKey::from(key(n).public());
    let expires_at = Timestamp::from_millis(50);
    let mut gathering = Gathering::new(RosterEntry {
        version: WIRE_VERSION,
        fleet: "home".parse().unwrap(),
        host: host.parse().unwrap(),
        number: Sequence::new(number),
        key: key_of.map(bare),
        token: token.map(|n| Token { key: bare(n), expires_at }),
    });
    gathering.sign(&key(OPERATOR)).unwrap();
    gathering.seal().0
}

#[test]
fn an_entry_counts_if_it_is_the_latest_and_gives_nobody_what_is_another_s() {
    let logins = logins();
    let take = |handed_in: &HandedIn, host: &str, bytes: &[u8]| {
        judge(&logins, handed_in, &name(host), bytes).map(Option::unwrap)
    };
    let none = HandedIn::new();
    let in_force = take(&none, "web-1", &entry("web-1", 5, Some(20), Some(21))).unwrap();
    logins.roster().put(name("web-1"), in_force);
    let awaited = take(&none, "web-2", &entry("web-2", 5, None, Some(22))).unwrap();
    let handed_in = HandedIn::from([(name("web-2"), awaited)]);

    let taken = |owner: &str, host: &str| {
        Err(Refused::KeyTaken { host: host.parse().unwrap(), owner: owner.parse().unwrap() })
    };
    let old = |found, known| {
        let (found, known) = (Sequence::new(found), Sequence::new(known));
        Err(Refused::Superseded { found, known })
    };
    let conflict = Err(Refused::Conflict { number: Sequence::new(5) });
    for (host, number, key, token, expected) in [
        // The same bytes again, in force or on their way.
        ("web-1", 5, Some(20), Some(21), Ok(())),
        ("web-2", 5, None, Some(22), Ok(())),
        // Another of the same number, and an older one.
        ("web-1", 5, Some(20), None, conflict.clone()),
        ("web-2", 5, Some(23), None, conflict),
        ("web-1", 4, Some(20), None, old(4, 5)),
        ("web-2", 4, None, Some(22), old(4, 5)),
        // Later ones: the token becomes the key, the key goes.
        ("web-1", 6, Some(23), None, Ok(())),
        ("web-1", 6, None, None, Ok(())),
        ("web-2", 6, Some(23), Some(22), Ok(())),
        // A key or token of others: of the roster, on its way, and of the file.
        ("web-3", 1, Some(20), None, taken("web-1", "web-3")),
        ("web-3", 1, None, Some(20), taken("web-1", "web-3")),
        ("web-3", 1, Some(21), None, taken("web-1", "web-3")),
        ("web-3", 1, Some(22), None, taken("web-2", "web-3")),
        ("web-3", 1, None, Some(5), taken("alice", "web-3")),
        ("web-3", 1, Some(6), None, taken("listed", "web-3")),
        ("listed", 1, Some(6), None, Ok(())),
        ("web-3", 1, Some(23), Some(24), Ok(())),
        // A person's name is no host's.
        ("alice", 1, Some(23), None, taken("alice", "alice")),
    ] {
        let judged = take(&handed_in, host, &entry(host, number, key, token)).map(drop);
        assert_eq!(judged, expected, "{host} {number} {key:?} {token:?}");
    }
}

#[test]
fn what_clears_an_entry_or_is_none_is_refused_and_so_is_one_of_another_topic() {
    let (logins, none) = (logins(), HandedIn::new());
    for bytes in [&b""[..], b"entry"] {
        let refused = judge(&logins, &none, &name("web-1"), bytes);
        assert!(matches!(refused, Err(Refused::Rejected(_))), "{refused:?}");
    }
    let elsewhere = judge(&logins, &none, &name("web-1"), &entry("web-2", 1, Some(20), None));
    assert!(matches!(elsewhere, Err(Refused::OtherHost { .. })), "{elsewhere:?}");
}

#[test]
fn where_nobody_signs_nothing_is_judged() {
    let other = LoginName { fleet: "work".parse().unwrap(), name: "web-1".parse().unwrap() };
    assert_eq!(judge(&logins(), &HandedIn::new(), &other, b"anything"), Ok(None));
}

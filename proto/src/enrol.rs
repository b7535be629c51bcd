//! How a host gets into a fleet: what it asks for with a one-time token, and what operators then
//! say of it to all who have to know its key.

use crate::{
    host::{FleetId, HostId, System},
    id::Sequence,
    key::BareKey,
    text::Prose,
    time::Timestamp,
};

/// A host's request to be known by its key. It is signed by the token, which is the right to ask,
/// and by the key itself, which shows that the host has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EnrolRequest {
    /// The wire version.
    pub version: u16,
    /// The fleet.
    pub fleet: FleetId,
    /// The name that the host wants.
    pub host: HostId,
    /// The public half of the key with which it will sign.
    pub key: BareKey,
    /// The host's clock when it was signed.
    pub time: Timestamp,
    /// The version of the subscriber.
    pub agent: Prose,
    /// The host's system type.
    pub system: System,
}

wire_map!(EnrolRequest, unknown keys Ignore:
    1 => version required,
    2 => fleet required,
    3 => host required,
    4 => key required,
    5 => time required,
    6 => agent required,
    7 => system required,
);

/// What operators say of a host: its key, or the token with which it may ask to be known by one.
///
/// With neither, the host is in the fleet no more. With both it may ask for another key, and is known
/// by the one that it has until then.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RosterEntry {
    /// The wire version.
    pub version: u16,
    /// The fleet.
    pub fleet: FleetId,
    /// The host.
    pub host: HostId,
    /// Of two entries for a host, the one with the higher number counts.
    pub number: Sequence,
    /// The key by which it is known.
    pub key: Option<BareKey>,
    /// The token with which it may ask.
    pub token: Option<Token>,
}

wire_map!(RosterEntry, unknown keys Refuse:
    1 => version required,
    2 => fleet required,
    3 => host required,
    4 => number required,
    5 => key optional,
    6 => token optional,
);

/// A one-time key with which a host may ask, for a time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Token {
    /// Its public half.
    pub key: BareKey,
    /// From when on it counts for nothing.
    pub expires_at: Timestamp,
}

wire_map!(Token, unknown keys Refuse:
    1 => key required,
    2 => expires_at required,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        WIRE_VERSION,
        key::SecretKey,
        rejection::Rejection,
        signing::{
            Gathering, sign_enrol_request, sign_release, verify_enrol_request, verify_release,
            verify_roster_entry,
        },
        trust::Trust,
    };

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
    }

    fn bare(n: u8) -> BareKey {
        BareKey::from(key(n).public())
    }

    fn request(host_key: u8) -> EnrolRequest {
        EnrolRequest {
            version: WIRE_VERSION,
            fleet: "home".parse().unwrap(),
            host: "web-1".parse().unwrap(),
            key: bare(host_key),
            time: Timestamp::from_millis(5),
            agent: "0.1.0".parse().unwrap(),
            system: "x86_64-linux".parse().unwrap(),
        }
    }

    fn entry() -> RosterEntry {
        RosterEntry {
            version: WIRE_VERSION,
            fleet: "home".parse().unwrap(),
            host: "web-1".parse().unwrap(),
            number: Sequence::next(Timestamp::from_millis(5), None),
            key: Some(bare(9)),
            token: Some(Token { key: bare(8), expires_at: Timestamp::from_millis(50) }),
        }
    }

    fn trust(threshold: usize) -> Trust {
        let keys = [1, 2, 3].map(|n| key(n).public().to_string());
        let text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}");
        Trust::from_toml(&text).unwrap()
    }

    #[test]
    fn a_request_counts_when_the_token_and_the_key_that_it_names_signed_it() {
        let fleet = "home".parse().unwrap();
        let [host, token, other] = [9, 8, 7].map(key);
        let verify = |by: &SecretKey, and: &SecretKey, token: &SecretKey| {
            let message = sign_enrol_request(&request(9), by, and);
            verify_enrol_request(&message, &fleet, token.public())
        };
        assert_eq!(*verify(&token, &host, &token).unwrap(), request(9));
        for (by, and, pinned) in [
            (&token, &other, &token), // somebody else's key
            (&other, &host, &token),  // without the token
            (&token, &host, &other),  // another token
            (&host, &other, &host),   // a token that is its own key
        ] {
            let refused = verify(by, and, pinned);
            assert!(
                matches!(refused, Err(Rejection::UnderSigned { valid: 1, threshold: 2 })),
                "{refused:?}"
            );
        }
        let elsewhere = sign_enrol_request(&request(9), &token, &host);
        let elsewhere = verify_enrol_request(&elsewhere, &"work".parse().unwrap(), token.public());
        assert!(matches!(elsewhere, Err(Rejection::Fleet { .. })));
    }

    #[test]
    fn an_entry_takes_as_many_signatures_as_a_release_and_is_none() {
        let mut gathering = Gathering::new(entry());
        gathering.sign(&key(1)).unwrap();
        let one = gathering.seal().0;
        assert_eq!(*verify_roster_entry(&one, &trust(1)).unwrap(), entry());
        let too_few = verify_roster_entry(&one, &trust(2));
        assert!(matches!(too_few, Err(Rejection::UnderSigned { valid: 1, threshold: 2 })));
        let mut gathering = Gathering::<RosterEntry>::open(&one).unwrap();
        gathering.sign(&key(3)).unwrap();
        let both = gathering.seal().0;
        assert_eq!(*verify_roster_entry(&both, &trust(2)).unwrap(), entry());

        assert!(verify_release(&one, &trust(1)).is_err());
        let tree = crate::merkle::TargetTree::new([vec![1]]);
        let release = sign_release(&crate::signing::tests::release(&tree), &[&key(1)]);
        assert!(verify_release(&release.0, &trust(1)).is_ok());
        assert!(verify_roster_entry(&release.0, &trust(1)).is_err());
    }

    #[test]
    fn a_weak_key_is_refused_before_anything_is_asked_of_it() {
        use crate::codec::{Value, Wire as _};
        for bytes in [[0; 32].to_vec(), [1; 31].to_vec()] {
            assert!(BareKey::from_value(Value::Bytes(bytes)).is_err());
        }
        assert_eq!(BareKey::from_value(bare(1).to_value()).unwrap(), bare(1));
    }
}

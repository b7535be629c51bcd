//! The frozen vectors: what is in one, and how the ones that are kept were made.

pub(crate) mod bad;
mod bad_form;
mod enrol;
pub(crate) mod files;
pub(crate) mod forge;
pub(crate) mod good;

use herald_proto::{
    beacon::Beacon,
    enrol::{EnrolRequest, RosterEntry},
    host::{FleetId, HostId},
    id::{MessageDigest, TargetHash},
    key::{KeyId, PublicKey, SecretKey},
    log::Log,
    order::Addressee,
    presence::Presence,
    rejection::Rejection,
    release::Release,
    report::Report,
    signing::{
        Verified, verify_beacon, verify_enrol_request, verify_from_host, verify_order,
        verify_release, verify_roster_entry,
    },
    target::Target,
    trust::Trust,
};
use serde::{Deserialize, Serialize};

use crate::common;

/// A message, who verifies it, and what must come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    /// What it shows, for people.
    pub(crate) about: String,
    /// How it is verified.
    pub(crate) verify: Reader,
    /// What it is to herald.cddl; absent where the fault is one that no schema can see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Schema>,
    /// What comes out.
    pub(crate) expect: Expect,
    /// The bytes in hexadecimal.
    pub(crate) message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Reader {
    /// The signed release alone.
    Release { trust: String },
    /// A beacon.
    Beacon { trust: String },
    /// A host's request to be known by its key.
    Enrol { fleet: FleetId, token: PublicKey },
    /// An entry of the roster.
    Roster { trust: String },
    /// A release with all targets, as operators pass it around.
    ReleaseFile { trust: String },
    /// An order, by the host that is named.
    Order { trust: String, host: String, profile: String, system: String },
    /// A report of a host whose key is pinned.
    Report { fleet: FleetId, host: HostId, key: PublicKey },
    /// A presence of a host whose key is pinned.
    Presence { fleet: FleetId, host: HostId, key: PublicKey },
    /// A log of a host whose key is pinned.
    Log { fleet: FleetId, host: HostId, key: PublicKey },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schema {
    Matches,
    Differs,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Expect {
    /// The content that is verified, decoded.
    Ok(serde_json::Value),
    /// The code of the rejection.
    Refused(String),
}

impl Vector {
    /// Verifies the message as the vector says.
    pub(crate) fn outcome(&self) -> Expect {
        let bytes = unhex(&self.message);
        let verified = match &self.verify {
            Reader::Release { trust } => verify_release(&bytes, &read_trust(trust))
                .map(|it| release_content(&it, it.signers())),
            Reader::Beacon { trust } => verify_beacon(&bytes, &read_trust(trust))
                .map(|it| beacon_content(&it, it.signers())),
            Reader::Enrol { fleet, token } => verify_enrol_request(&bytes, fleet, token)
                .map(|it| enrol_content(&it, it.signers())),
            Reader::Roster { trust } => verify_roster_entry(&bytes, &read_trust(trust))
                .map(|it| roster_content(&it, it.signers())),
            Reader::ReleaseFile { trust } => {
                return files::outcome(&bytes, &read_trust(trust));
            }
            Reader::Order { trust, host, profile, system } => {
                let reader = Addressee {
                    host: common::parse(host),
                    profile: common::parse(profile),
                    system: common::parse(system),
                };
                verify_order(&bytes, &read_trust(trust), &reader).map(|order| {
                    let digests = (order.hash, MessageDigest::of(&bytes));
                    order_content(&order.release, &order.target, digests, order.signers())
                })
            }
            Reader::Report { fleet, host, key } => {
                verify_from_host::<Report>(&bytes, fleet, host, key)
                    .map(|it| host_content(Verified::into_inner(it)))
            }
            Reader::Presence { fleet, host, key } => {
                verify_from_host::<Presence>(&bytes, fleet, host, key)
                    .map(|it| host_content(Verified::into_inner(it)))
            }
            Reader::Log { fleet, host, key } => verify_from_host::<Log>(&bytes, fleet, host, key)
                .map(|it| host_content(Verified::into_inner(it))),
        };
        verified.map_or_else(refused, Expect::Ok)
    }
}

fn refused(rejection: Rejection) -> Expect {
    Expect::Refused(rejection.code().to_string())
}

fn read_trust(text: &str) -> Trust {
    Trust::from_toml(text).expect("the trust file of a vector is good")
}

fn release_content(release: &Release, signers: &[KeyId]) -> serde_json::Value {
    serde_json::json!({ "release": release, "signers": signers })
}

fn beacon_content(beacon: &Beacon, signers: &[KeyId]) -> serde_json::Value {
    serde_json::json!({ "beacon": beacon, "signers": signers })
}

fn enrol_content(request: &EnrolRequest, signers: &[KeyId]) -> serde_json::Value {
    serde_json::json!({ "enrol": request, "signers": signers })
}

fn roster_content(entry: &RosterEntry, signers: &[KeyId]) -> serde_json::Value {
    serde_json::json!({ "roster": entry, "signers": signers })
}

fn order_content(
    release: &Release,
    target: &Target,
    (hash, message): (TargetHash, MessageDigest),
    signers: &[KeyId],
) -> serde_json::Value {
    serde_json::json!({
        "release": release,
        "target": target,
        "hash": hash,
        "message": message,
        "signers": signers,
    })
}

fn host_content(message: impl Serialize) -> serde_json::Value {
    serde_json::to_value(message).expect("a message can be written as JSON")
}

/// The host alpha, reading an order.
fn as_alpha(threshold: usize, keys: &[&SecretKey]) -> Reader {
    Reader::Order {
        trust: common::trust_text(threshold, keys),
        host: "alpha".into(),
        profile: "system".into(),
        system: "x86_64-linux".into(),
    }
}

fn report_of_alpha() -> Reader {
    let (fleet, host, key) = (common::fleet(), common::host(), common::host_key());
    Reader::Report { fleet, host, key }
}

fn presence_of_alpha() -> Reader {
    let (fleet, host, key) = (common::fleet(), common::host(), common::host_key());
    Reader::Presence { fleet, host, key }
}

fn log_of_alpha() -> Reader {
    let (fleet, host, key) = (common::fleet(), common::host(), common::host_key());
    Reader::Log { fleet, host, key }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(|pair| byte(pair).expect("the message of a vector is hexadecimal")).collect()
}

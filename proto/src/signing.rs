//! Signing, and the one path from bytes to something that may be acted upon.
//!
//! A signature is over the message's type, the wire version and the fleet too (as COSE's
//! `external_aad`), so that no signed message can be taken for one of another kind or fleet.

use crate::{
    WIRE_VERSION,
    beacon::Beacon,
    codec::{self, Bytes, Value, Wire},
    enrol::{EnrolRequest, RosterEntry},
    envelope::{self, Envelope},
    host::{FleetId, HostId},
    id::{MessageDigest, TargetHash},
    key::{KeyId, PublicKey, SecretKey},
    log::Log,
    merkle,
    order::{Addressee, Order, SealedOrder},
    presence::Presence,
    rejection::Rejection,
    release::Release,
    report::Report,
    target::Target,
    trust::{Role, Trust},
};

/// A message whose signatures hold. Only this module makes one, and it can't be deserialised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    message: T,
    signers: Vec<KeyId>,
}

impl<T> Verified<T> {
    /// Gives the trusted keys that signed.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// Gives up the mark and keeps the message.
    pub fn into_inner(self) -> T {
        self.message
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

/// A message that a host signs with its own key.
pub trait HostMessage: Wire {
    /// The message type, which is part of what is signed.
    const KIND: &'static str;

    /// Gives the host that the message is about.
    fn host(&self) -> &HostId;
}

impl HostMessage for Report {
    const KIND: &'static str = "report";

    fn host(&self) -> &HostId {
        &self.host
    }
}

impl HostMessage for Presence {
    const KIND: &'static str = "presence";

    fn host(&self) -> &HostId {
        &self.host
    }
}

impl HostMessage for Log {
    const KIND: &'static str = "log";

    fn host(&self) -> &HostId {
        &self.host
    }
}

/// A message that says which fleet it is for, and that several keys may have to sign.
pub trait FleetMessage: Wire {
    /// The message type, which is part of what is signed.
    const KIND: &'static str;

    /// Gives the fleet that it is for.
    fn fleet(&self) -> &FleetId;
}

impl FleetMessage for Release {
    const KIND: &'static str = "release";

    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
}

impl FleetMessage for RosterEntry {
    const KIND: &'static str = "roster";

    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
}

impl FleetMessage for Beacon {
    const KIND: &'static str = "beacon";

    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
}

impl FleetMessage for EnrolRequest {
    const KIND: &'static str = "enrol";

    fn fleet(&self) -> &FleetId {
        &self.fleet
    }
}

/// Signs a request with the token and with the key that it is about.
pub fn sign_enrol_request(request: &EnrolRequest, token: &SecretKey, key: &SecretKey) -> Vec<u8> {
    sign_in_role(request, &[token, key])
}

/// Signs a release with each of the keys.
pub fn sign_release(release: &Release, keys: &[&SecretKey]) -> Bytes {
    Bytes(sign_in_role(release, keys))
}

/// Signs a beacon with each of the keys.
pub fn sign_beacon(beacon: &Beacon, keys: &[&SecretKey]) -> Vec<u8> {
    sign_in_role(beacon, keys)
}

fn sign_in_role<T: FleetMessage>(message: &T, keys: &[&SecretKey]) -> Vec<u8> {
    let aad = associated_data(T::KIND, message.fleet());
    envelope::seal_sign(codec::encode(message), &aad, keys)
}

/// Signs a report, presence or log with the host's key.
pub fn sign_as_host<T: HostMessage>(message: &T, fleet: &FleetId, key: &SecretKey) -> Vec<u8> {
    envelope::seal_sign1(codec::encode(message), &associated_data(T::KIND, fleet), key)
}

/// Verifies a signed release.
///
/// # Errors
/// When it is malformed, of another version or fleet, or signed by too few trusted keys.
pub fn verify_release(bytes: &[u8], trust: &Trust) -> Result<Verified<Release>, Rejection> {
    verify_in_role(bytes, trust, trust.release())
}

/// Verifies a signed beacon.
///
/// # Errors
/// As [`verify_release`], with the keys of the rollout role; and where nobody has that.
pub fn verify_beacon(bytes: &[u8], trust: &Trust) -> Result<Verified<Beacon>, Rejection> {
    let role = trust.rollout().ok_or(Rejection::NoRole { role: "rollout" })?;
    verify_in_role(bytes, trust, role)
}

/// Verifies a signed entry of the roster, which the role of releases signs.
///
/// # Errors
/// As [`verify_release`].
pub fn verify_roster_entry(
    bytes: &[u8],
    trust: &Trust,
) -> Result<Verified<RosterEntry>, Rejection> {
    verify_in_role(bytes, trust, trust.release())
}

/// Verifies a host's request to be known by its key.
///
/// # Errors
/// When it is malformed, of another version or fleet, or not signed by both the token and the key
/// that it names, which must be two.
pub fn verify_enrol_request(
    bytes: &[u8],
    fleet: &FleetId,
    token: &PublicKey,
) -> Result<Verified<EnrolRequest>, Rejection> {
    let (message, envelope) = open_in_role::<EnrolRequest>(bytes, fleet)?;
    let key = message.key.named(token.name().clone());
    let signers = check_signatures(&envelope, &Role::of_both(token.clone(), key))?;
    Ok(Verified { message, signers })
}

fn verify_in_role<T: FleetMessage>(
    bytes: &[u8],
    trust: &Trust,
    role: &Role,
) -> Result<Verified<T>, Rejection> {
    let (message, envelope) = open_in_role(bytes, trust.fleet())?;
    let signers = check_signatures(&envelope, role)?;
    Ok(Verified { message, signers })
}

/// Gives the trusted keys that signed a release so far, be they enough or not. The release is not
/// verified by that.
///
/// # Errors
/// As [`verify_release`], but never for too few signatures.
pub fn signers_so_far(bytes: &[u8], trust: &Trust) -> Result<Vec<KeyId>, Rejection> {
    let (_, envelope) = open_in_role::<Release>(bytes, trust.fleet())?;
    signers(&envelope, trust.release())
}

fn open_in_role<T: FleetMessage>(
    bytes: &[u8],
    fleet: &FleetId,
) -> Result<(T, Envelope), Rejection> {
    let envelope = envelope::open_sign(bytes, &associated_data(T::KIND, fleet))?;
    check_version(&envelope.payload)?;
    let message: T = codec::decode(&envelope.payload)?;
    if message.fleet() != fleet {
        return Err(Rejection::Fleet { found: message.fleet().clone(), own: fleet.clone() });
    }
    Ok((message, envelope))
}

/// Verifies an order, whoever it is for.
///
/// # Errors
/// As [`verify_release`], and when the target is not in the release.
pub fn verify_any_order(message: &[u8], trust: &Trust) -> Result<Verified<Order>, Rejection> {
    verify_order_by(message, |release| verify_release(release, trust))
}

/// Verifies orders, whoever they are for, one after another: the signatures of a release are looked
/// at once for all of its orders that follow each other.
#[derive(Debug, Clone)]
pub struct OrderReader {
    trust: Trust,
    /// What was verified last, with its bytes.
    latest: Option<(Vec<u8>, Verified<Release>)>,
}

impl OrderReader {
    /// Begins to read by a trust.
    pub fn new(trust: Trust) -> Self {
        Self { trust, latest: None }
    }

    /// Verifies the next order.
    ///
    /// # Errors
    /// As [`verify_any_order`].
    pub fn verify(&mut self, message: &[u8]) -> Result<Verified<Order>, Rejection> {
        verify_order_by(message, |bytes| {
            if let Some((_, release)) = self.latest.as_ref().filter(|(known, _)| known == bytes) {
                return Ok(release.clone());
            }
            let release = verify_release(bytes, &self.trust)?;
            self.latest = Some((bytes.to_owned(), release.clone()));
            Ok(release)
        })
    }
}

fn verify_order_by(
    message: &[u8],
    verify_release: impl FnOnce(&[u8]) -> Result<Verified<Release>, Rejection>,
) -> Result<Verified<Order>, Rejection> {
    let sealed: SealedOrder = codec::decode(message)?;
    let release = verify_release(&sealed.release.0)?;
    let bytes = &sealed.target.0;
    let (root, count) = (&release.targets_root, release.targets_count);
    if !merkle::proves(root, count, sealed.index, bytes, &sealed.proof) {
        return Err(Rejection::NotInRelease);
    }
    let target: Target = codec::decode(bytes)?;
    let (hash, digest) = (TargetHash::of(bytes), MessageDigest::of(message));
    let signers = release.signers().to_vec();
    let (release, sealed) = (release.into_inner(), Bytes(message.to_owned()));
    let order = Order { release, target, hash, message: digest, sealed };
    Ok(Verified { message: order, signers })
}

/// Verifies an order for one reader.
///
/// # Errors
/// As [`verify_any_order`], and when it is for another host, profile or system type.
pub fn verify_order(
    message: &[u8],
    trust: &Trust,
    reader: &Addressee,
) -> Result<Verified<Order>, Rejection> {
    let order = verify_any_order(message, trust)?;
    let Target { host, profile, system, .. } = &order.target;
    if *host != reader.host {
        return Err(Rejection::Host { found: host.clone(), own: reader.host.clone() });
    }
    if *profile != reader.profile {
        return Err(Rejection::Profile { found: profile.clone(), own: reader.profile.clone() });
    }
    if *system != reader.system {
        return Err(Rejection::System { found: system.clone(), own: reader.system.clone() });
    }
    Ok(order)
}

/// Verifies a report, presence or log of a host whose key is pinned.
///
/// # Errors
/// When it is malformed, of another version or host, or not signed by the pinned key.
pub fn verify_from_host<T: HostMessage>(
    bytes: &[u8],
    fleet: &FleetId,
    host: &HostId,
    pinned: &PublicKey,
) -> Result<Verified<T>, Rejection> {
    let envelope = envelope::open_sign1(bytes, &associated_data(T::KIND, fleet))?;
    check_version(&envelope.payload)?;
    let signers = check_signatures(&envelope, &Role::of_one(pinned.clone()))?;
    let message: T = codec::decode(&envelope.payload)?;
    if message.host() != host {
        return Err(Rejection::Host { found: message.host().clone(), own: host.clone() });
    }
    Ok(Verified { message, signers })
}

/// What is signed beside the payload: `["herald", type, version, fleet]`.
fn associated_data(kind: &str, fleet: &FleetId) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    let parts = vec![text("herald"), text(kind), WIRE_VERSION.to_value(), fleet.to_value()];
    codec::encode_value(&Value::Array(parts))
}

/// What a message of any version says of itself.
struct Stated {
    version: u16,
}

wire_map!(Stated, unknown keys Ignore:
    1 => version required,
);

/// Looks at the version first: of a newer message neither the fields nor the signed bytes are what
/// this version expects, and nobody should read that as a forgery.
fn check_version(payload: &[u8]) -> Result<(), Rejection> {
    let Stated { version: found } = codec::decode(payload)?;
    if found == WIRE_VERSION {
        Ok(())
    } else {
        Err(Rejection::Version { found, known: WIRE_VERSION })
    }
}

/// Gives the keys of a role that signed, if they are as many as must have.
fn check_signatures(envelope: &Envelope, role: &Role) -> Result<Vec<KeyId>, Rejection> {
    let signers = signers(envelope, role)?;
    // The envelope holds at most one signature by each key, so these are different keys.
    if signers.len() < role.threshold() {
        let (valid, threshold) = (signers.len(), role.threshold());
        if let Some(key) = revoked_signer(envelope, role) {
            return Err(Rejection::Revoked { key: key.name().clone(), valid, threshold });
        }
        return Err(Rejection::UnderSigned { valid, threshold });
    }
    Ok(signers)
}

/// Gives a key that signed, and would count if it had not been removed.
fn revoked_signer<'a>(envelope: &Envelope, role: &'a Role) -> Option<&'a PublicKey> {
    envelope.signatures.iter().find_map(|one| {
        let key = role.revoked(one.key)?;
        key.verifies(&one.signed_bytes, &one.signature).then_some(key)
    })
}

/// Gives the keys of a role that signed. A signature by a key outside the role counts for nothing;
/// a wrong one under a trusted key's id refuses the whole.
fn signers(envelope: &Envelope, role: &Role) -> Result<Vec<KeyId>, Rejection> {
    let mut signers = Vec::new();
    for one in &envelope.signatures {
        let Some(key) = role.key(one.key) else {
            continue;
        };
        if !key.verifies(&one.signed_bytes, &one.signature) {
            return Err(Rejection::BadSignature { key: key.name().clone() });
        }
        signers.push(one.key);
    }
    Ok(signers)
}

mod gathering;
pub use gathering::{BadSignature, Gathering};

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod thresholds;

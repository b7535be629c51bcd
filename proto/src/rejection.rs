//! Why something was refused, failed or rolled back: one vocabulary for hosts and operators.

use crate::{
    codec::Malformed,
    envelope::BadEnvelope,
    host::{FleetId, HostId, ProfileName, System},
    key::KeyName,
};

codes! {
    /// The reason that a report gives.
    pub enum Code {
        /// The message is not deterministic CBOR, or not this message.
        Malformed = 1 => "malformed",
        /// The message is larger than a message may be.
        TooLarge = 2 => "too-large",
        /// The COSE envelope is not in the one accepted form.
        BadEnvelope = 3 => "bad-envelope",
        /// The wire version is not known.
        WrongVersion = 4 => "wrong-version",
        /// The release is for another fleet.
        WrongFleet = 5 => "wrong-fleet",
        /// The target is for another host.
        WrongHost = 6 => "wrong-host",
        /// The target is for another profile.
        WrongProfile = 7 => "wrong-profile",
        /// The target is for another system type.
        WrongSystem = 8 => "wrong-system",
        /// Fewer trusted keys than the threshold have signed.
        UnderSigned = 9 => "under-signed",
        /// A signature of a trusted key is wrong.
        BadSignature = 10 => "bad-signature",
        /// The target is not part of the release.
        NotInRelease = 11 => "not-in-release",
        /// A newer release was taken before.
        Replayed = 20 => "replayed",
        /// The same sequence was taken with another target.
        Conflict = 21 => "conflict",
        /// The release's time ran out.
        Expired = 22 => "expired",
        /// The release is signed for a time that is too far ahead of the host's clock.
        TooFarAhead = 23 => "too-far-ahead",
        /// The times of the release contradict each other.
        BadValidity = 24 => "bad-validity",
        /// What runs is not what the operator expected.
        UnexpectedCurrent = 25 => "unexpected-current",
        /// The action, plan or check is not possible on this host.
        Unsupported = 26 => "unsupported",
        /// The path is not in the store of this host.
        WrongStore = 27 => "wrong-store",
        /// The host's state was lost, and the order does not name the new one.
        StateLost = 28 => "state-lost",
        /// The system rolled back here before; it takes a new release to try again.
        Quarantined = 29 => "quarantined",
        /// The digest that the host should have recorded is not there.
        NotRecorded = 30 => "not-recorded",
        /// The host's last beacon is too old to take orders by: somebody may hold messages back.
        Stale = 31 => "stale",
        /// Which keys were revoked is not known on the host: no key counts.
        RevocationsUnknown = 32 => "revocations-unknown",
        /// The closure could not be had.
        RealiseFailed = 40 => "realise-failed",
        /// The closure has other bytes than the operator signed.
        ClosureMismatch = 41 => "closure-mismatch",
        /// The new system lacks what an activation needs.
        NotActivatable = 42 => "not-activatable",
        /// The running system is no way back.
        NoWayBack = 43 => "no-way-back",
        /// The way back could not be prepared.
        ArmFailed = 44 => "arm-failed",
        /// There was no room left.
        DiskFull = 45 => "disk-full",
        /// The state of the host can't be stored.
        StateNotStored = 46 => "state-not-stored",
        /// systemd does not say which units are failed.
        UnitsUnknown = 47 => "units-unknown",
        /// Somebody at the host holds it.
        Held = 50 => "held",
        /// No maintenance window is open.
        OutsideWindow = 51 => "outside-window",
        /// Whoever uses the host was asked.
        AwaitingConsent = 52 => "awaiting-consent",
        /// Whoever uses the host wants it later; at the deadline it goes ahead.
        Postponed = 53 => "postponed",
        /// The switch program failed.
        ActivationFailed = 60 => "activation-failed",
        /// A limit was reached.
        LimitReached = 61 => "limit-reached",
        /// A health check did not hold.
        Unhealthy = 62 => "unhealthy",
        /// The broker could not be reached again.
        Unreachable = 63 => "unreachable",
        /// The boot default or the profile could not be set.
        CommitFailed = 64 => "commit-failed",
        /// The subscriber or the machine stopped in the middle.
        Interrupted = 65 => "interrupted",
        /// The dead-man took over.
        DeadMan = 66 => "dead-man",
        /// The order was started too often.
        TooManyStarts = 67 => "too-many-starts",
        /// It takes a reboot to have its whole effect.
        RebootNeeded = 68 => "reboot-needed",
        /// Somebody at the host asked for it.
        AskedLocally = 69 => "asked-locally",
        /// The machine booted the old system instead of the new one.
        FellBack = 70 => "fell-back",
        /// The new system would not trust those who signed the order for it.
        LockedOut = 71 => "locked-out",
        /// The roll back did not bring the old system back.
        RollbackFailed = 80 => "rollback-failed",
        /// Somebody activated another system meanwhile.
        OtherSystemRuns = 81 => "other-system-runs",
        /// Old generations could not be deleted; the order is done all the same.
        NotPruned = 82 => "not-pruned",
    }
}

/// A message that failed verification. Its sequence counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not deterministic CBOR, or not this message.
    #[error("this version can't read it: {0}")]
    Malformed(#[from] Malformed),
    /// The envelope is not in the one accepted form.
    #[error("{0}")]
    Envelope(#[from] BadEnvelope),
    /// Another wire version.
    #[error("wire version {found}; this program knows version {known}")]
    Version {
        /// What the message says.
        found: u16,
        /// What is known here.
        known: u16,
    },
    /// Another fleet.
    #[error("it is for the fleet {found}; this is {own}")]
    Fleet {
        /// The message's fleet.
        found: FleetId,
        /// The reader's fleet.
        own: FleetId,
    },
    /// Another host.
    #[error("it is for the host {found}; this is {own}")]
    Host {
        /// The message's host.
        found: HostId,
        /// The reader, or the host that the reader asked for.
        own: HostId,
    },
    /// Another profile.
    #[error("it is for the profile {found}; this is {own}")]
    Profile {
        /// The message's profile.
        found: ProfileName,
        /// The reader's profile.
        own: ProfileName,
    },
    /// Another system type.
    #[error("it is for {found} systems; this is {own}")]
    System {
        /// The message's system type.
        found: System,
        /// The reader's.
        own: System,
    },
    /// Too few trusted signatures.
    #[error("{valid} of {threshold} needed signatures by trusted keys")]
    UnderSigned {
        /// How many different trusted keys signed.
        valid: usize,
        /// How many must.
        threshold: usize,
    },
    /// Too few trusted signatures, and one by a key that was removed.
    #[error(
        "{valid} of {threshold} needed signatures by trusted keys; the one by {key} counts for \
         nothing, as a system that this host committed has removed that key: sign with a key that \
         stayed, or with a new one"
    )]
    Revoked {
        /// The name of the key.
        key: KeyName,
        /// How many different trusted keys signed.
        valid: usize,
        /// How many must.
        threshold: usize,
    },
    /// Nobody may sign such a message.
    #[error("the trust file gives nobody the role {role}")]
    NoRole {
        /// The role that it takes.
        role: &'static str,
    },
    /// A wrong signature under a trusted key's id.
    #[error("the signature that claims to be by {key} is wrong")]
    BadSignature {
        /// The name of the key.
        key: KeyName,
    },
    /// The proof does not lead to the release's root.
    #[error("the target is not part of the release: the proof does not lead to its root")]
    NotInRelease,
}

impl Rejection {
    /// Gives the code for a report.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(Malformed::TooLarge { .. })
            | Self::Envelope(BadEnvelope::Malformed(Malformed::TooLarge { .. })) => Code::TooLarge,
            Self::Malformed(_) | Self::Envelope(BadEnvelope::Malformed(_)) => Code::Malformed,
            Self::Envelope(_) => Code::BadEnvelope,
            Self::Version { .. } => Code::WrongVersion,
            Self::Fleet { .. } => Code::WrongFleet,
            Self::Host { .. } => Code::WrongHost,
            Self::Profile { .. } => Code::WrongProfile,
            Self::System { .. } => Code::WrongSystem,
            Self::UnderSigned { .. } | Self::Revoked { .. } | Self::NoRole { .. } => {
                Code::UnderSigned
            }
            Self::BadSignature { .. } => Code::BadSignature,
            Self::NotInRelease => Code::NotInRelease,
        }
    }
}

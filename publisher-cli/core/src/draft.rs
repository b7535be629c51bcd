//! A release before it is signed, and the checks on it.
//!
//! What a host would refuse whatever its state is refused here, before anybody has signed it.

use std::{collections::BTreeSet, time::Duration};

use herald_proto::{
    WIRE_VERSION,
    codec::{self, MAX_MESSAGE, Malformed},
    envelope::MAX_SIGNATURES,
    host::{FleetId, HostId, ProfileName},
    id::{MerkleHash, ReleaseId, Sequence},
    key::KeyName,
    merkle::{MAX_TARGETS, TargetTree},
    plan::Plan,
    release::{MAX_AHEAD, Release},
    substituter::MAX_SUBSTITUTERS,
    target::{Action, Check, IfRebootNeeded, Mark, Target},
    text::Prose,
    time::Timestamp,
};

/// A release that nobody has signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The fleet.
    pub fleet: FleetId,
    /// The release's name.
    pub id: ReleaseId,
    /// Its place in the order of releases.
    pub sequence: Sequence,
    /// The time of signing.
    pub issued_at: Timestamp,
    /// Before this no host activates it.
    pub not_before: Timestamp,
    /// From this on no host starts with it.
    pub expires_at: Timestamp,
    /// The revision of the source.
    pub revision: Option<Prose>,
    /// Why it is made.
    pub reason: Option<Prose>,
    /// Each host's part.
    pub targets: Vec<Target>,
}

/// A draft that hosts would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDraft {
    /// There is nothing to do.
    #[error("the release has no targets")]
    NoTargets,
    /// More targets than a release has.
    #[error("{count} targets are more than the {MAX_TARGETS} that a release may have")]
    TooManyTargets {
        /// How many there are.
        count: usize,
    },
    /// Nobody signs.
    #[error("there is no key to sign with")]
    NoKeys,
    /// More keys than an envelope has signatures.
    #[error("{count} keys are more than the {MAX_SIGNATURES} that may sign a release")]
    TooManyKeys {
        /// How many there are.
        count: usize,
    },
    /// One key twice.
    #[error("the key {name} is given twice: each key signs once")]
    SameKey {
        /// The name under which it came the second time.
        name: KeyName,
    },
    /// It is over before it begins.
    #[error("the release expires before it may start: let it start earlier or be valid for longer")]
    EmptyWindow,
    /// It is over already.
    #[error("the release has already expired: let it be valid for longer")]
    Expired,
    /// A sequence so far ahead that hosts with a right clock refuse it.
    #[error(
        "sequence {sequence} is more than a day ahead of this machine's clock, and hosts refuse \
         that: check the clock here, and that of whoever published last"
    )]
    TooFarAhead {
        /// The sequence.
        sequence: Sequence,
    },
    /// Two targets for one profile of a host.
    #[error("{host}: the profile {profile} has two targets in one release")]
    Twice {
        /// The host.
        host: HostId,
        /// The profile.
        profile: ProfileName,
    },
    /// A value that messages can't have.
    #[error("{host}: {source}")]
    Malformed {
        /// The host.
        host: HostId,
        /// What is wrong.
        source: Malformed,
    },
    /// An action, or terms, that no host knows.
    #[error("{host}: the action {action}, or a term of the order, is not supported")]
    Unsupported {
        /// The host.
        host: HostId,
        /// The action.
        action: Action,
    },
    /// A reboot that nothing may undo.
    #[error(
        "{host}: a reboot falls back to the old system by itself, so it can't be irreversible: \
         let the action be switch"
    )]
    FallsBack {
        /// The host.
        host: HostId,
    },
    /// More caches than a host asks.
    #[error(
        "{host}: {count} binary caches are more than the {MAX_SUBSTITUTERS} that a release may name"
    )]
    TooManySubstituters {
        /// The host.
        host: HostId,
        /// How many there are.
        count: usize,
    },
    /// A command check with nothing to run.
    #[error("{host}: a health command has no program")]
    NoProgram {
        /// The host.
        host: HostId,
    },
    /// A limit that nothing could keep.
    #[error("{host}: the limit to {limit} is zero")]
    ZeroLimit {
        /// The host.
        host: HostId,
        /// Which limit.
        limit: &'static str,
    },
    /// Health that can't be shown in time.
    #[error(
        "{host}: checks must hold for {stable_for:?}, but there are only {confirm:?} to confirm in"
    )]
    NeverStable {
        /// The host.
        host: HostId,
        /// How long checks must hold.
        stable_for: Duration,
        /// How long confirming may take.
        confirm: Duration,
    },
    /// An order above the size of a message.
    #[error(
        "{host}: the order would have {size} bytes, more than {MAX_MESSAGE}: shorten its checks"
    )]
    TooLarge {
        /// The host.
        host: HostId,
        /// How many bytes it might have.
        size: usize,
    },
}

impl Draft {
    /// Checks all that can be known before signing, for a number of signatures.
    ///
    /// # Errors
    /// The first reason why hosts would refuse it.
    pub fn check(&self, signatures: usize) -> Result<(), BadDraft> {
        self.check_release()?;
        let most_bytes = self.most_bytes(signatures);
        let mut seen = BTreeSet::new();
        for target in &self.targets {
            if !seen.insert((&target.host, &target.profile)) {
                return Err(BadDraft::Twice {
                    host: target.host.clone(),
                    profile: target.profile.clone(),
                });
            }
            let size = most_bytes(target);
            if size > MAX_MESSAGE {
                return Err(BadDraft::TooLarge { host: target.host.clone(), size });
            }
            check_target(target)?;
        }
        Ok(())
    }

    /// Gives the release as it would be signed.
    pub fn unsigned(&self) -> Release {
        self.release(self.tree().root())
    }

    /// Builds the tree of the targets.
    pub(crate) fn tree(&self) -> TargetTree {
        TargetTree::new(self.targets.iter().map(codec::encode))
    }

    /// Gives the release that is to be signed.
    pub(crate) fn release(&self, root: MerkleHash) -> Release {
        Release {
            version: WIRE_VERSION,
            fleet: self.fleet.clone(),
            id: self.id,
            sequence: self.sequence,
            issued_at: self.issued_at,
            not_before: self.not_before,
            expires_at: self.expires_at,
            targets_root: root,
            targets_count: self.targets.len() as u64,
            plan: Plan::Immediate,
            revision: self.revision.clone(),
            reason: self.reason.clone(),
        }
    }

    /// Bounds the size of each target's order from above, by some tens of bytes.
    pub(crate) fn most_bytes(&self, signatures: usize) -> impl Fn(&Target) -> usize {
        const HEADS: usize = 64; // of the envelope and of the order, and the index
        const SIGNATURE: usize = 1 + 2 + 38 + 1 + 2 + 64; // array, {alg, kid}, {}, signature
        const HASH: usize = 2 + 32;
        let release = codec::encode(&self.release(MerkleHash::from_bytes([0; 32]))).len();
        let depth = self.targets.len().next_power_of_two().trailing_zeros() as usize;
        let shared = HEADS + release + signatures * SIGNATURE + depth * HASH;
        move |target| shared + codec::encode(target).len()
    }

    fn check_release(&self) -> Result<(), BadDraft> {
        match self.targets.len() {
            0 => return Err(BadDraft::NoTargets),
            count if count as u64 > MAX_TARGETS => return Err(BadDraft::TooManyTargets { count }),
            _ => {}
        }
        if self.expires_at <= self.issued_at {
            return Err(BadDraft::Expired);
        }
        if self.expires_at <= self.not_before {
            return Err(BadDraft::EmptyWindow);
        }
        if self.sequence.number() > self.issued_at.plus(MAX_AHEAD).as_millis() {
            return Err(BadDraft::TooFarAhead { sequence: self.sequence });
        }
        Ok(())
    }
}

fn check_target(target: &Target) -> Result<(), BadDraft> {
    let host = || target.host.clone();
    let unknown = target.marks.iter().any(|mark| matches!(mark, Mark::Unknown(_)))
        || matches!(target.if_reboot_needed, Some(IfRebootNeeded::Unknown(_)));
    if unknown || matches!(target.action, Action::Unknown(_)) {
        return Err(BadDraft::Unsupported { host: host(), action: target.action });
    }
    if target.action == Action::Reboot && target.is(Mark::Irreversible) {
        return Err(BadDraft::FallsBack { host: host() });
    }
    let count = target.substituters.len();
    if count > MAX_SUBSTITUTERS {
        return Err(BadDraft::TooManySubstituters { host: host(), count });
    }
    if limits_wait_is_zero(target) {
        return Err(BadDraft::ZeroLimit { host: host(), limit: "wait" });
    }
    let limits = &target.limits;
    for (limit, span) in
        [("realise", limits.realise), ("activate", limits.activate), ("confirm", limits.confirm)]
    {
        if span.as_millis() == 0 {
            return Err(BadDraft::ZeroLimit { host: host(), limit });
        }
    }
    let (stable_for, confirm) = (target.health.stable_for, limits.confirm);
    if stable_for >= confirm {
        return Err(BadDraft::NeverStable { host: host(), stable_for, confirm });
    }
    let no_program = |check: &Check| matches!(check, Check::Command(argv) if argv.first().is_none_or(String::is_empty));
    if target.health.checks.iter().any(no_program) {
        return Err(BadDraft::NoProgram { host: host() });
    }
    // What is left is what the host's own parser refuses: spans above a year, NUL in a command.
    match codec::decode::<Target>(&codec::encode(target)) {
        Ok(_) => Ok(()),
        Err(source) => Err(BadDraft::Malformed { host: host(), source }),
    }
}

fn limits_wait_is_zero(target: &Target) -> bool {
    target.limits.wait.is_some_and(|wait| wait.as_millis() == 0)
}

#[cfg(test)]
mod tests;

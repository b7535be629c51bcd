//! Whether an order that is signed well is one to follow now: sequence, time, and this host.

use std::time::Duration;

use herald_proto::{
    codec,
    id::Sequence,
    id::{ReleaseId, TargetHash},
    order::Order,
    plan::Plan,
    rejection::Code,
    release::{MAX_AHEAD, Release},
    report::OrderName,
    signing::Verified,
    store_path::StorePath,
    substituter::MAX_SUBSTITUTERS,
    target::{Action, Check, IfRebootNeeded, Integrity, Mark, Target},
    time::Timestamp,
};

use crate::{
    ending::Cause,
    event::Capabilities,
    evidence::Evidence,
    state::{Standing, State},
};

/// For how long an order of somebody at the host may wait for its turn.
const BY_HAND: Duration = Duration::from_secs(60 * 60);

/// An order that this host took. It comes from a verified order by [`admit()`], or from the
/// host's own durable state: it is not verified again under a trust that came later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accepted {
    release: ReleaseId,
    sequence: Sequence,
    not_before: Timestamp,
    expires_at: Timestamp,
    hash: TargetHash,
    target: Target,
    #[serde(default)]
    origin: Origin,
    /// The message that it came in; none where somebody at the host wants it, and in states of
    /// versions that kept none.
    #[serde(default)]
    evidence: Option<Evidence>,
}

/// Who wants an order done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Origin {
    /// Whoever signed the release.
    #[default]
    Release,
    /// Somebody at the host: it waits for nobody's consent, window or hold.
    Host,
}

impl Accepted {
    /// Makes an order of somebody at the host. Its names are its own, but its sequence is that of
    /// the order that was taken last, as it takes none.
    pub(crate) fn by_hand(target: Target, state: &State, time: Timestamp) -> Self {
        let mut random = [0; 10];
        random.iter_mut().zip(state.incarnation.as_bytes()).for_each(|(to, from)| *to = *from);
        Self {
            release: ReleaseId::new(time, &random),
            sequence: state.taken.map_or(Sequence::new(0), |taken| taken.sequence),
            not_before: time,
            expires_at: time.plus(BY_HAND),
            hash: TargetHash::of(&codec::encode(&target)),
            target,
            origin: Origin::Host,
            evidence: None,
        }
    }

    /// Tells whether somebody at the host wants it.
    pub(crate) fn is_by_hand(&self) -> bool {
        self.origin == Origin::Host
    }

    /// Gives the names by which reports call the order.
    pub fn name(&self) -> OrderName {
        OrderName { release: self.release, target: self.hash, sequence: self.sequence }
    }

    /// Gives the time from which nothing starts any more.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Gives what is asked for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Gives the message that it came in, to be verified again.
    pub fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref()
    }

    /// Gives the time before which nothing is activated.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Tells whether it is too late to start with the order.
    pub fn is_expired(&self, time: Timestamp) -> bool {
        time >= self.expires_at
    }

    /// Tells whether the operator's condition on what runs now holds.
    pub fn expects(&self, running: Option<&StorePath>) -> Result<(), Cause> {
        let expected = &self.target.expect_current;
        if expected.is_empty() || running.is_some_and(|path| expected.contains(path)) {
            return Ok(());
        }
        let running = running.map_or("nothing that is a store path", StorePath::as_str);
        let detail = format!("{running} runs, which is not what the release expects to replace");
        Err(Cause::new(Code::UnexpectedCurrent, &detail))
    }
}

/// What becomes of an order that is signed well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is taken; its sequence counts.
    Take(Box<Accepted>),
    /// It was taken before.
    Again,
    /// It is not for now, or too old. It changes nothing, its sequence does not count.
    Refuse(Cause),
    /// It can't be done here. Its sequence counts, so that it can't be done later either.
    Reject(OrderName, Cause),
}

/// Decides about a verified order.
pub fn admit(
    state: &State,
    order: &Verified<Order>,
    host: &Capabilities,
    time: Timestamp,
) -> Admission {
    let accepted = Accepted {
        release: order.release.id,
        sequence: order.release.sequence,
        not_before: order.release.not_before,
        expires_at: order.release.expires_at,
        hash: order.hash,
        target: order.target.clone(),
        origin: Origin::Release,
        evidence: Some(Evidence::new(&order.sealed.0)),
    };
    if let Some(taken) = &state.taken {
        if accepted.sequence < taken.sequence {
            let detail = format!(
                "its sequence {} is below {}, which this host took before",
                accepted.sequence, taken.sequence
            );
            return Admission::Refuse(Cause::new(Code::Replayed, &detail));
        }
        if accepted.sequence == taken.sequence {
            if accepted.hash == taken.target {
                return Admission::Again;
            }
            let detail = format!("sequence {} was taken with another target", taken.sequence);
            return Admission::Refuse(Cause::new(Code::Conflict, &detail));
        }
    }
    let for_now = check_clock(order, time)
        .and_then(|()| check_incarnation(state, &accepted))
        .and_then(|()| check_memory(state, host))
        .and_then(|()| check_freshness(state, host, time));
    if let Err(cause) = for_now {
        return Admission::Refuse(cause);
    }
    match check_order(state, &accepted, &order.release, host, time) {
        Ok(()) => Admission::Take(Box::new(accepted)),
        Err(cause) => Admission::Reject(accepted.name(), cause),
    }
}

fn check_clock(order: &Verified<Order>, time: Timestamp) -> Result<(), Cause> {
    let latest = time.plus(MAX_AHEAD);
    let (sequence, issued_at) = (order.release.sequence, order.release.issued_at);
    if sequence.number() <= latest.as_millis() && issued_at <= latest {
        return Ok(());
    }
    let detail = format!(
        "sequence {sequence}, signed at {issued_at}, is more than a day ahead of this host's clock \
         ({time}); check both clocks"
    );
    Err(Cause::new(Code::TooFarAhead, &detail))
}

fn check_incarnation(state: &State, order: &Accepted) -> Result<(), Cause> {
    let named = order.target.incarnation;
    let fits = match state.standing {
        Standing::Known => named.is_none_or(|incarnation| incarnation == state.incarnation),
        Standing::Lost => named == Some(state.incarnation),
    };
    if fits {
        return Ok(());
    }
    let detail = format!(
        "the state of this host is a new one, {}; look at the host, then publish with --recover",
        state.incarnation
    );
    Err(Cause::new(Code::StateLost, &detail))
}

/// A host that remembers nothing of before its start knows no sequence that would show an old order
/// for what it is: somebody has to have vouched for the broker since.
fn check_memory(state: &State, host: &Capabilities) -> Result<(), Cause> {
    let Some(start) = host.forgot_at.filter(|start| state.beacon.is_none_or(|at| at <= *start))
    else {
        return Ok(());
    };
    let detail = format!(
        "this host remembers nothing of before its start at {start}, and no beacon came that was \
         signed later. The order is taken once one comes: does `herald beacon` run, and does the \
         trust file have [rollout]?"
    );
    Err(Cause::new(Code::Stale, &detail))
}

/// Without a beacon, a broker may be holding back a newer order, or this is an image that slept for
/// months: the order is looked at again once one comes.
fn check_freshness(state: &State, host: &Capabilities, time: Timestamp) -> Result<(), Cause> {
    let Some(freshness) = host.freshness.filter(|freshness| !state.hears(*freshness, time)) else {
        return Ok(());
    };
    let interval = freshness.interval();
    let last = match state.beacon {
        Some(beacon) => format!("the last beacon was signed at {beacon}"),
        None => "no beacon was ever heard".to_owned(),
    };
    let detail = format!(
        "{last}, and one is due every {interval:?}; this host's time is {time}. The order is taken \
         once a beacon comes: does `herald beacon` run, does the broker pass it on?"
    );
    Err(Cause::new(Code::Stale, &detail))
}

fn check_order(
    state: &State,
    order: &Accepted,
    release: &Release,
    host: &Capabilities,
    time: Timestamp,
) -> Result<(), Cause> {
    let target = &order.target;
    if order.not_before.max(release.issued_at) >= order.expires_at {
        return Err(Cause::new(Code::BadValidity, "it expires before it may start"));
    }
    if order.is_expired(time) {
        let detail = format!("it expired at {}; this host's time is {time}", order.expires_at);
        return Err(Cause::new(Code::Expired, &detail));
    }
    if release.plan != Plan::Immediate {
        let detail = format!("the plan {} is not known here", release.plan);
        return Err(Cause::new(Code::Unsupported, &detail));
    }
    if let Action::Unknown(_) = target.action {
        let detail = format!("the action {} is not known here", target.action);
        return Err(Cause::new(Code::Unsupported, &detail));
    }
    let unknown = target.marks.iter().any(|mark| matches!(mark, Mark::Unknown(_)));
    if unknown || matches!(target.if_reboot_needed, Some(IfRebootNeeded::Unknown(_))) {
        let detail = "the order has terms that are not known here";
        return Err(Cause::new(Code::Unsupported, detail));
    }
    if target.substituters.len() > MAX_SUBSTITUTERS {
        let detail = format!("it names more than {MAX_SUBSTITUTERS} binary caches");
        return Err(Cause::new(Code::Unsupported, &detail));
    }
    if target.action == Action::Reboot {
        if !host.one_shot_boot {
            let detail = "the boot loader here can't boot a system once and fall back; use boot";
            return Err(Cause::new(Code::Unsupported, detail));
        }
        if target.is(Mark::Irreversible) {
            let detail = "a reboot falls back by itself, so it can't be irreversible; use switch";
            return Err(Cause::new(Code::Unsupported, detail));
        }
    }
    if !host.units && target.health.checks.iter().any(|check| matches!(check, Check::Unit(_))) {
        return Err(Cause::new(Code::Unsupported, "this host has no systemd to ask about units"));
    }
    if target.toplevel.store_dir() != host.store_dir {
        let detail = format!("{} is not in this host's store {}", target.toplevel, host.store_dir);
        return Err(Cause::new(Code::WrongStore, &detail));
    }
    if target.integrity == Integrity::Recorded && state.recorded(&target.toplevel).is_none() {
        let detail = format!("this host has no record of the bytes of {}", target.toplevel);
        return Err(Cause::new(Code::NotRecorded, &detail));
    }
    Ok(())
}

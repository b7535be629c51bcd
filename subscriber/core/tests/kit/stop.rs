//! Places on the way of an order, each reached by the events that lead there.

use herald_core::Event;
use herald_proto::{rejection::Code, target::Action, text::Prose};

use super::{
    Draft, HOUR, SECOND, draft, failure,
    machine::{Host, exited},
    other,
};

/// Where a test stops the host to see what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    Idle,
    Realising,
    /// Waits for the time before which nothing is activated.
    WaitingForTime,
    WaitingForPermit,
    /// Somebody at the host holds it.
    Held,
    WaitingForWindow,
    WaitingForConsent,
    Armed,
    Activating,
    /// Nothing is proved yet but the trust.
    Confirming,
    /// The broker was reached, the trust is proved, and the checks held once, a second ago: one round is left.
    AlmostProved,
    Committing,
    RollingBack,
    /// The old system runs again, and is to reach the broker.
    Reconnecting,
    /// The machine was told to restart, to boot the new system once.
    Rebooting,
    Ended(Ended),
}

/// The ways in which an order ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Succeeded,
    Rejected,
    Failed,
    TimedOut,
    Expired,
    RolledBack,
    Overridden,
    Degraded,
}

impl Stop {
    pub(crate) const ALL: [Self; 23] = [
        Self::Idle,
        Self::Realising,
        Self::WaitingForTime,
        Self::WaitingForPermit,
        Self::Held,
        Self::WaitingForWindow,
        Self::WaitingForConsent,
        Self::Armed,
        Self::Activating,
        Self::Confirming,
        Self::AlmostProved,
        Self::Committing,
        Self::RollingBack,
        Self::Reconnecting,
        Self::Rebooting,
        Self::Ended(Ended::Succeeded),
        Self::Ended(Ended::Rejected),
        Self::Ended(Ended::Failed),
        Self::Ended(Ended::TimedOut),
        Self::Ended(Ended::Expired),
        Self::Ended(Ended::RolledBack),
        Self::Ended(Ended::Overridden),
        Self::Ended(Ended::Degraded),
    ];

    /// Gives the name by which the tables call it; all endings have one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Realising => "realising",
            Self::WaitingForTime => "waiting-for-time",
            Self::WaitingForPermit => "waiting-for-permit",
            Self::Held => "held",
            Self::WaitingForWindow => "waiting-for-window",
            Self::WaitingForConsent => "waiting-for-consent",
            Self::Armed => "armed",
            Self::Activating => "activating",
            Self::Confirming => "confirming",
            Self::AlmostProved => "almost-proved",
            Self::Committing => "committing",
            Self::RollingBack => "rolling-back",
            Self::Reconnecting => "reconnecting",
            Self::Rebooting => "rebooting",
            Self::Ended(_) => "ended",
        }
    }

    /// Brings a new host there by a switch.
    pub(crate) fn reach(self) -> Host {
        self.reach_with(draft(1))
    }

    /// Brings a new host there by an order, as far as its action goes that way.
    pub(crate) fn reach_with(self, draft: Draft) -> Host {
        let mut host = Host::new();
        let before: &[fn(&mut Host)] = match self {
            Self::Idle => return host,
            Self::Ended(ending) => return ending.reach_with(host, draft),
            Self::Realising => &[],
            Self::WaitingForTime => {
                host.order(draft.with(|release, _| {
                    release.not_before = release.issued_at.plus(HOUR);
                }));
                host.realise();
                return host;
            }
            Self::WaitingForPermit => &[REALISE],
            Self::Held => &[REALISE, HELD],
            Self::WaitingForWindow => &[WITH_WINDOWS, REALISE],
            Self::WaitingForConsent => &[WITH_CONSENT, REALISE],
            Self::Armed => &[REALISE, PERMIT],
            Self::Activating => &[REALISE, PERMIT, ARM],
            Self::Confirming => &[REALISE, PERMIT, ARM, ACTIVATE, TRUST],
            Self::AlmostProved => &[REALISE, PERMIT, ARM, ACTIVATE, TRUST, PROVE],
            Self::Committing => &[REALISE, PERMIT, ARM, ACTIVATE, TRUST, PROVE, HOLD],
            Self::RollingBack => &[REALISE, PERMIT, ARM, ACTIVATE, OVERRUN],
            Self::Reconnecting => {
                &[WITH_RESORT, REALISE, PERMIT, ARM, ACTIVATE, OVERRUN, ROLL_BACK]
            }
            Self::Rebooting => {
                host.can.one_shot_boot = true;
                host.order(draft.to(Action::Reboot));
                for next in [REALISE, PERMIT, ARM] {
                    next(&mut host);
                }
                return host;
            }
        };
        host.order(draft);
        for next in before {
            next(&mut host);
        }
        host
    }
}

const HELD: fn(&mut Host) =
    |host| drop(host.take(Event::Held { reason: Prose::lossy("a backup runs") }));
const WITH_RESORT: fn(&mut Host) = |host| host.can.last_resort = true;
const ROLL_BACK: fn(&mut Host) = |host| drop(host.roll_back());
const WITH_WINDOWS: fn(&mut Host) = |host| host.can.windows = true;
const WITH_CONSENT: fn(&mut Host) = |host| host.can.consent = Some(HOUR);
const REALISE: fn(&mut Host) = |host| drop(host.realise());
const PERMIT: fn(&mut Host) = |host| drop(host.permit());
const ARM: fn(&mut Host) = |host| {
    // Only what activates is armed.
    if host.state.phase.name().to_string() == "armed" {
        host.arm(Ok(()));
    }
};
const ACTIVATE: fn(&mut Host) = |host| drop(host.activate(exited(0)));
const TRUST: fn(&mut Host) = |host| {
    // Only what is activated is asked.
    if host.state.phase.name().to_string() == "confirming" {
        host.trust(Ok(()));
    }
};
const PROVE: fn(&mut Host) = |host| {
    host.link();
    host.check(Ok(()));
    host.pass(SECOND);
};
const HOLD: fn(&mut Host) = |host| drop(host.check(Ok(())));
const OVERRUN: fn(&mut Host) = |host| drop(host.overrun());

impl Ended {
    fn reach_with(self, mut host: Host, draft: Draft) -> Host {
        let stop = match self {
            Self::Succeeded => Stop::Committing,
            Self::Rejected => {
                host.order(draft.to(Action::Reboot));
                return host;
            }
            Self::Failed | Self::TimedOut => Stop::Realising,
            Self::Expired => {
                let draft = draft.with(|release, _| {
                    release.expires_at = release.issued_at.plus(HOUR);
                });
                host = Stop::WaitingForPermit.reach_with(draft);
                host.overrun();
                return host;
            }
            Self::RolledBack | Self::Degraded => Stop::RollingBack,
            Self::Overridden => Stop::Confirming,
        };
        host = stop.reach_with(draft);
        match self {
            Self::Succeeded => host.commit(),
            Self::Failed => host.fail_to_realise(failure(Code::ClosureMismatch, false)),
            Self::TimedOut => host.overrun(),
            Self::RolledBack => host.roll_back(),
            Self::Degraded => host.end_rollback(Err(failure(Code::RollbackFailed, false))),
            Self::Overridden => {
                host.seen.running = Some(other());
                host.check(Ok(()))
            }
            Self::Rejected | Self::Expired => vec![],
        };
        host
    }
}

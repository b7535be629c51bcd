//! What people at the host ask of a profile's driver, and what they are told.

use herald_core::{Cause, Event, Illegal, Phase, Seen, State, Wait};
use herald_proto::{
    order::Addressee,
    report::{Hold, OrderName, PhaseName, Refusal, Systems},
    target::{Action, Health, Integrity, Limits, Mark, Target},
    text::Prose,
    time::Timestamp,
};
use tokio::sync::oneshot;

/// For how long the system of before must be healthy when somebody wants it back.
const STABLE_FOR: std::time::Duration = std::time::Duration::from_secs(5);

/// Something that somebody at the host wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To know where the host is.
    Status,
    /// That nothing is activated until further notice.
    Hold {
        /// Why.
        reason: Prose,
    },
    /// That it goes on.
    Resume,
    /// An answer to what whoever uses the host was asked.
    Consent {
        /// Whether it may go on now; otherwise later.
        agrees: bool,
    },
    /// The system of before.
    RollBack,
    /// That an order is followed, which is as signed as those that the broker brings.
    Apply {
        /// The order's bytes.
        order: Vec<u8>,
    },
}

/// A request, with where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: Request,
    /// Takes the answer, once what is wanted is durable.
    pub answer: oneshot::Sender<Result<Status, Refused>>,
}

/// Where a profile of the host is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// The phase.
    pub phase: PhaseName,
    /// Since when; none where that was before the daemon started.
    pub since: Option<Timestamp>,
    /// What it waits for.
    pub wait: Option<Wait>,
    /// Why, where the phase alone does not say.
    pub cause: Option<Cause>,
    /// The order that the phase is about.
    pub order: Option<OrderName>,
    /// That somebody holds the host.
    pub hold: Option<Hold>,
    /// The last message that was refused.
    pub refusal: Option<Refusal>,
    /// Which systems there are.
    pub systems: Systems,
    /// Whether the broker is connected.
    pub connected: bool,
}

/// A request that was not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// There is nothing in this phase that the request could change.
    #[error("nothing waits for that here: the host is {phase}")]
    NotNow {
        /// The phase.
        phase: PhaseName,
    },
    /// There is no system to go back to.
    #[error("no system is known that ran here before and did not roll back")]
    NothingBefore,
    /// The order was not taken.
    #[error("the order was refused: {code}: {detail}", code = .0.code, detail = .0.detail)]
    Order(Refusal),
}

impl From<Illegal> for Refused {
    fn from(illegal: Illegal) -> Self {
        Self::NotNow { phase: illegal.phase }
    }
}

impl Status {
    /// Tells where a profile is.
    pub fn of(state: &State, since: Option<Timestamp>, seen: &Seen) -> Self {
        Self {
            phase: state.phase.name(),
            since,
            wait: match state.phase {
                Phase::Waiting { wait, .. } => Some(wait),
                _ => None,
            },
            cause: state.cause(),
            order: state.phase.order(),
            hold: state.hold.clone(),
            refusal: state.refusal.clone(),
            systems: Systems {
                running: seen.running.clone(),
                booted: seen.booted.clone(),
                boot_default: seen.boot_default.clone(),
                profile: seen.profile.clone(),
                previous: state.previous(seen.running.as_ref()).cloned(),
            },
            connected: seen.connected,
        }
    }
}

/// Makes the event by which somebody wants the system of before back.
///
/// # Errors
/// When none is known.
pub(crate) fn wanted_back(state: &State, reader: &Addressee, seen: Seen) -> Result<Event, Refused> {
    if !matches!(state.phase, Phase::Idle | Phase::Ended { .. }) {
        return Ok(Event::WantedBack { target: None, seen });
    }
    let toplevel = state.previous(seen.running.as_ref()).ok_or(Refused::NothingBefore)?.clone();
    let integrity = match state.recorded(&toplevel) {
        Some(_) => Integrity::Recorded,
        None => Integrity::Toplevel,
    };
    let target = Box::new(Target {
        host: reader.host.clone(),
        profile: reader.profile.clone(),
        system: reader.system.clone(),
        toplevel,
        action: Action::Switch,
        integrity,
        limits: Limits::default(),
        health: Health { stable_for: STABLE_FOR, checks: Vec::new() },
        expect_current: Vec::new(),
        tolerated_units: Vec::new(),
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![Mark::Urgent],
        substituters: vec![],
    });
    Ok(Event::WantedBack { target: Some(target), seen })
}

//! What a staged order waits for, and how far it has come with that.

use std::time::Duration;

use herald_proto::{rejection::Code, report::Hold, time::Timestamp};

use crate::{
    admit::Accepted,
    ending::{Cause, Ending},
};

/// What a staged order waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// The time before which the operator wants nothing activated.
    NotBefore,
    /// That somebody at the host lets it go.
    Hold,
    /// A maintenance window.
    Window {
        /// When to look again; without it, somebody looks right now.
        opens: Option<Timestamp>,
    },
    /// That whoever uses the host agrees.
    Consent {
        /// When it goes ahead all the same.
        until: Timestamp,
    },
    /// The host's one activation permit: another profile has it.
    Permit,
    /// That systemd says which units are failed.
    Units {
        /// When it is asked again.
        again: Timestamp,
    },
}

/// How far an order has come with its waiting. It is kept when the closure is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Waited {
    /// When its closure was there for the first time; none before that.
    pub since: Option<Timestamp>,
    /// What whoever uses the host said.
    pub consent: Consent,
    /// When the maintenance window closes in which it may start; none where it needs none.
    pub closes: Option<Timestamp>,
    /// How often systemd did not say which units are failed.
    pub unanswered: u8,
}

/// What whoever uses the host said to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consent {
    /// Nobody was asked.
    #[default]
    NotAsked,
    /// They were asked.
    Asked {
        /// When it goes ahead all the same.
        until: Timestamp,
    },
    /// They want it later.
    Postponed {
        /// When it goes ahead all the same.
        until: Timestamp,
    },
    /// They agreed.
    Given,
}

/// Whether a maintenance window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// One is.
    Open {
        /// Until then.
        closes: Timestamp,
    },
    /// None is.
    Closed {
        /// When the next one opens, or when to look again.
        opens: Timestamp,
    },
}

impl Waited {
    /// Gives when it has waited for as long as it may: the order's limit counts from when it might
    /// have started. Its expiry ends it too.
    pub(crate) fn limit(&self, order: &Accepted) -> Option<Timestamp> {
        let wait: Duration = order.target().limits.wait?;
        Some(self.since?.max(order.not_before()).plus(wait))
    }

    /// Tells whether it may wait on, or start.
    pub(crate) fn allows(&self, order: &Accepted, time: Timestamp) -> Result<(), Ending> {
        if self.limit(order).is_none_or(|limit| time < limit) {
            return Ok(());
        }
        let span = order.target().limits.wait.unwrap_or_default();
        let detail = format!("it could not start within {span:?} of when it might have");
        Err(Ending::TimedOut(Cause::new(Code::LimitReached, &detail)))
    }

    /// Gives when the waiting ends, one way or another.
    pub(crate) fn end(&self, order: &Accepted) -> Timestamp {
        let expires_at = order.expires_at();
        self.limit(order).map_or(expires_at, |limit| limit.min(expires_at))
    }
}

impl Consent {
    /// Gives until when there is to be waited for an answer; none where one was given.
    pub(crate) fn until(self) -> Option<Timestamp> {
        match self {
            Self::Asked { until } | Self::Postponed { until } => Some(until),
            Self::NotAsked | Self::Given => None,
        }
    }
}

impl Wait {
    /// Gives when it is worth looking again; none where something else has to happen.
    pub(crate) fn due(self, order: &Accepted) -> Option<Timestamp> {
        match self {
            Self::NotBefore => Some(order.not_before()),
            Self::Window { opens } => opens,
            Self::Consent { until } => Some(until),
            Self::Units { again } => Some(again),
            Self::Hold | Self::Permit => None,
        }
    }

    /// Says for people what it waits for; nothing where that needs no words.
    pub(crate) fn cause(
        self,
        order: &Accepted,
        waited: &Waited,
        hold: Option<&Hold>,
    ) -> Option<Cause> {
        match (self, waited.consent) {
            (Self::Hold, _) => hold.map(|hold| Cause::new(Code::Held, hold.reason.as_str())),
            (Self::Window { opens: Some(opens) }, _) => {
                let end = waited.end(order);
                let detail = if opens < end {
                    format!("the next maintenance window opens at {opens}")
                } else {
                    format!(
                        "the next maintenance window opens at {opens}, and this order ends at {end}: \
                         publish one that is valid for longer, or does not wait for windows"
                    )
                };
                Some(Cause::new(Code::OutsideWindow, &detail))
            }
            (Self::Consent { until }, Consent::Postponed { .. }) => {
                let detail = format!("whoever uses the host wants it later; it goes on at {until}");
                Some(Cause::new(Code::Postponed, &detail))
            }
            (Self::Consent { until }, _) => {
                let detail = format!("whoever uses the host was asked; it goes on at {until}");
                Some(Cause::new(Code::AwaitingConsent, &detail))
            }
            (Self::Units { again }, _) => {
                let detail = format!(
                    "systemd does not say which units are failed; it is asked again at {again}"
                );
                Some(Cause::new(Code::UnitsUnknown, &detail))
            }
            (Self::NotBefore | Self::Window { opens: None } | Self::Permit, _) => None,
        }
    }
}

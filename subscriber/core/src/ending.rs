//! How an order ends, and why.

use herald_proto::{rejection::Code, report::PhaseName, text::Prose};

/// How an order ended. No edge leads out of an ending but a newer order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// What was asked for is done.
    Succeeded,
    /// What was asked for is done, and takes a reboot to have its whole effect.
    RebootNeeded(Cause),
    /// It can't be done here.
    Rejected(Cause),
    /// It could not be done, and nothing was activated.
    Failed(Cause),
    /// A limit was reached, and nothing was activated.
    TimedOut(Cause),
    /// Its time ran out, and nothing was activated.
    Expired(Cause),
    /// The previous system runs again.
    RolledBack(Cause),
    /// Somebody activated another system meanwhile.
    Overridden(Cause),
    /// The roll back did not bring the previous system back.
    Degraded(Cause),
}

/// Why something ended as it did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cause {
    /// For programs.
    pub code: Code,
    /// For people.
    pub detail: Prose,
}

impl Ending {
    /// Gives the terminal phase's name in reports.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Succeeded | Self::RebootNeeded(_) => PhaseName::Succeeded,
            Self::Rejected(_) => PhaseName::Rejected,
            Self::Failed(_) => PhaseName::Failed,
            Self::TimedOut(_) => PhaseName::TimedOut,
            Self::Expired(_) => PhaseName::Expired,
            Self::RolledBack(_) => PhaseName::RolledBack,
            Self::Overridden(_) => PhaseName::Overridden,
            Self::Degraded(_) => PhaseName::Degraded,
        }
    }

    /// Gives why, where the name does not say.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Succeeded => None,
            Self::RebootNeeded(cause)
            | Self::Rejected(cause)
            | Self::Failed(cause)
            | Self::TimedOut(cause)
            | Self::Expired(cause)
            | Self::RolledBack(cause)
            | Self::Overridden(cause)
            | Self::Degraded(cause) => Some(cause),
        }
    }
}

impl Cause {
    /// Makes a cause; the detail is made printable.
    pub fn new(code: Code, detail: &str) -> Self {
        Self { code, detail: Prose::lossy(detail) }
    }
}

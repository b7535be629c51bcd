//! How an order stands at its host, and what that means for whoever waits.

use std::fmt;

use herald_proto::{
    id::Sequence,
    rejection::Code,
    report::{PhaseName, Progress},
    text::Prose,
};

/// How one order stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The host has said nothing about it.
    Silent,
    /// The host is at it.
    UnderWay {
        /// Where it is.
        phase: PhaseName,
        /// Why, where the phase alone does not say.
        cause: Cause,
        /// How far the realising is.
        progress: Option<Progress>,
    },
    /// There is nothing more to wait for.
    Ended(Outcome),
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The host did what was asked. There can be more to say, such as that it takes a reboot.
    Succeeded(Cause),
    /// The host went back to its old system.
    RolledBack(Cause),
    /// The host ended the order in another phase: rejected, failed, cancelled, superseded,
    /// expired, overridden-locally or degraded.
    Failed {
        /// In which.
        phase: PhaseName,
        /// Why.
        cause: Cause,
    },
    /// The host refused the message, which changed nothing there.
    Refused(Cause),
    /// The host refused the message because it had taken this sequence, or a higher one, before.
    Outrun {
        /// What it had taken.
        taken: Sequence,
        /// Why, in the host's words.
        cause: Cause,
    },
    /// The host reached one of the order's limits before it activated anything.
    TimedOut(Cause),
    /// The time for waiting is over, and the host had not ended the order.
    Unfinished {
        /// Where it was, if it had said anything.
        phase: Option<PhaseName>,
    },
}

/// Why, as a host tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The reason.
    pub code: Option<Code>,
    /// More about it, for people.
    pub detail: Option<Prose>,
}

/// What a program that waited for orders exits with. The greater is the worse, and the worst of
/// all hosts is the program's: 4 over 5 over 3 over 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Every order succeeded: 0.
    Succeeded,
    /// A host rolled back, as it should: 3.
    RolledBack,
    /// A host did not end in time, by its own limits or by the operator's: 5.
    TimedOut,
    /// A host refused, rejected or failed the order, gave it up or is degraded: 4.
    Failed,
}

impl Exit {
    /// Gives the exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::RolledBack => 3,
            Self::Failed => 4,
            Self::TimedOut => 5,
        }
    }
}

impl Outcome {
    /// Gives what it means for the exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Succeeded(_) => Exit::Succeeded,
            Self::RolledBack(_) => Exit::RolledBack,
            Self::Failed { .. } | Self::Refused(_) | Self::Outrun { .. } => Exit::Failed,
            Self::TimedOut(_) | Self::Unfinished { .. } => Exit::TimedOut,
        }
    }
}

impl Standing {
    /// Judges a report about the order itself.
    pub(crate) fn of_phase(phase: PhaseName, cause: Cause, progress: Option<Progress>) -> Self {
        Self::Ended(match phase {
            PhaseName::Succeeded => Outcome::Succeeded(cause),
            PhaseName::RolledBack => Outcome::RolledBack(cause),
            PhaseName::TimedOut => Outcome::TimedOut(cause),
            phase if phase.is_terminal() => Outcome::Failed { phase, cause },
            phase => {
                return Self::UnderWay { phase, cause, progress };
            }
        })
    }

    /// Gives the outcome, if there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Gives the phase that the host reported last for the order, if it reported any.
    pub fn phase(&self) -> Option<PhaseName> {
        match self {
            Self::Silent => None,
            Self::UnderWay { phase, .. } => Some(*phase),
            Self::Ended(outcome) => match outcome {
                Outcome::Succeeded(_) => Some(PhaseName::Succeeded),
                Outcome::RolledBack(_) => Some(PhaseName::RolledBack),
                Outcome::Failed { phase, .. } => Some(*phase),
                Outcome::Refused(_) | Outcome::Outrun { .. } => None,
                Outcome::TimedOut(_) => Some(PhaseName::TimedOut),
                Outcome::Unfinished { phase } => *phase,
            },
        }
    }

    /// Gives why, in the host's words.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::UnderWay { cause, .. } => Some(cause),
            Self::Ended(
                Outcome::Succeeded(cause)
                | Outcome::RolledBack(cause)
                | Outcome::Failed { cause, .. }
                | Outcome::Refused(cause)
                | Outcome::Outrun { cause, .. }
                | Outcome::TimedOut(cause),
            ) => Some(cause),
            Self::Silent | Self::Ended(Outcome::Unfinished { .. }) => None,
        }
    }

    /// Gives the one word for it: a phase, `no-answer`, `refused` or `unfinished`.
    pub fn word(&self) -> String {
        match self {
            Self::Silent => "no-answer".to_owned(),
            Self::Ended(Outcome::Refused(_) | Outcome::Outrun { .. }) => "refused".to_owned(),
            Self::Ended(Outcome::Unfinished { phase: None }) => "no-answer".to_owned(),
            Self::Ended(Outcome::Unfinished { phase: Some(_) }) => "unfinished".to_owned(),
            other => other.phase().map(|phase| phase.to_string()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())?;
        match self {
            Self::UnderWay { progress: Some(Progress { done, total }), .. } => {
                write!(f, " {done}/{total}")?
            }
            Self::Ended(Outcome::Unfinished { phase: Some(phase) }) => write!(f, ": {phase}")?,
            _ => {}
        }
        match self.cause() {
            Some(cause) => cause.fmt(f),
            None => Ok(()),
        }
    }
}

/// Follows a phase: nothing, or a colon and what there is to say.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = &self.code {
            write!(f, ": {code}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each phase that ends an order, with the exit code that it gives.
    const ENDS: &[(PhaseName, u8)] = &[
        (PhaseName::Succeeded, 0),
        (PhaseName::RolledBack, 3),
        (PhaseName::Rejected, 4),
        (PhaseName::Failed, 4),
        (PhaseName::Superseded, 4),
        (PhaseName::Cancelled, 4),
        (PhaseName::Expired, 4),
        (PhaseName::Overridden, 4),
        (PhaseName::Degraded, 4),
        (PhaseName::TimedOut, 5),
    ];

    #[test]
    fn every_phase_goes_on_or_gives_its_exit_code() {
        let every = PhaseName::KNOWN.iter().copied();
        for phase in every.chain([PhaseName::Unknown(99)]) {
            let standing = Standing::of_phase(phase, Cause::default(), None);
            let code = standing.outcome().map(|outcome| outcome.exit().code());
            let expected = ENDS.iter().find(|(end, _)| *end == phase);
            assert_eq!(code, expected.map(|(_, code)| *code), "{phase}");
            assert_eq!(standing.phase(), Some(phase));
        }
        assert!(ENDS.iter().all(|(phase, _)| phase.is_terminal()));
    }

    #[test]
    fn the_worst_is_a_failure_then_a_time_out_then_a_roll_back() {
        let mut exits = [Exit::Failed, Exit::Succeeded, Exit::TimedOut, Exit::RolledBack];
        exits.sort();
        assert_eq!(exits.map(Exit::code), [0, 3, 5, 4]);
    }

    #[test]
    fn a_standing_says_all_that_the_host_said() {
        let cause =
            Cause { code: Some(Code::Unhealthy), detail: Some(Prose::lossy("web answers 500")) };
        let rolled_back = Standing::Ended(Outcome::RolledBack(cause.clone()));
        assert_eq!(rolled_back.to_string(), "rolled-back: unhealthy: web answers 500");
        let progress = Some(Progress { done: 3, total: 9 });
        let realising = Standing::of_phase(PhaseName::Realising, Cause::default(), progress);
        assert_eq!(realising.to_string(), "realising 3/9");
        assert_eq!(
            Standing::Ended(Outcome::Refused(cause)).to_string(),
            "refused: unhealthy: web answers 500"
        );
        let phase = Some(PhaseName::Realising);
        let unfinished = Standing::Ended(Outcome::Unfinished { phase });
        assert_eq!(unfinished.to_string(), "unfinished: realising");
    }
}

//! What a host does next: a pure function of its durable state, an event, and the time.
//!
//! [`step()`] does no IO, reads no clock and logs nothing. The driver persists the state that it
//! returns and then runs its effects, each of which may be run twice. After a start the driver
//! loads the state, looks at the machine, and tells what it saw in [`Event::Started`].
//!
//! The phases, and what a crash in each of them leads to, are in `docs/states.md`, which is tested
//! against this crate.

mod activate;
mod admit;
mod attempt;
mod effect;
mod ending;
mod event;
mod evidence;
mod now;
mod prepare;
mod reboot;
mod roll_back;
mod start;
mod state;
mod step;
mod verdict;
mod wait;
mod waiting;

pub use admit::{Accepted, Admission, admit};
pub use attempt::{Attempt, Baseline, HealthProof, LinkProof, Procedure, TrustProof};
pub use effect::{Effect, ReportBody};
pub use ending::{Cause, Ending};
pub use event::{
    ActivationEnd, Capabilities, Claim, Event, Failure, Found, Realised, RunnerTrace, Seen,
};
pub use evidence::Evidence;
pub use now::{Monotonic, Now};
pub use roll_back::WAY_BACK_LIMIT;
pub use state::{Confirmed, Phase, Resort, Standing, State, Taken, Wake};
pub use step::{Illegal, Step, step};
pub use wait::{Consent, Wait, Waited, Window};

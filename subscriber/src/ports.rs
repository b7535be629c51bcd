//! What the driver needs from the machine, so that it can be driven without one.

use std::{future::Future, pin::Pin};

use herald_core::{
    ActivationEnd, Attempt, Failure, Found, Monotonic, Now, ReportBody, Seen, State, Window,
};
use herald_proto::{
    id::{ClosureDigest, Incarnation},
    log::Program,
    report::Progress,
    store_path::StorePath,
    target::Target,
    text::Prose,
    time::Timestamp,
};

/// Something that takes time, on the driver's own thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// All the ports of one profile.
pub struct Ports {
    /// Reads the clocks.
    pub clock: Box<dyn Fn() -> Now>,
    /// Keeps the state.
    pub memory: Box<dyn Memory>,
    /// Looks at the machine.
    pub machine: Box<dyn Machine>,
    /// Gets closures.
    pub closures: Box<dyn Closures>,
    /// Activates, commits and rolls back.
    pub activation: Box<dyn Activation>,
    /// Knows when the host may be changed.
    pub windows: Box<dyn Windows>,
    /// Asks whoever uses the host.
    pub people: Box<dyn People>,
    /// Checks health.
    pub health: Box<dyn Health>,
    /// Deletes what is not kept.
    pub prune: Box<dyn Prune>,
    /// Speaks to the fleet.
    pub voice: Box<dyn Voice>,
    /// Tells the fleet what programs print; none where that stays on the host.
    pub scribe: Option<Box<dyn Scribe>>,
}

/// Keeps the state.
pub trait Memory {
    /// Replaces the durable state. When this returns, the new one survives a power cut.
    ///
    /// # Errors
    /// What the file system said; the old state is still there whole.
    fn save(&self, state: &State) -> std::io::Result<()>;
}

/// Looks at the machine.
pub trait Machine {
    /// Tells what runs, what is set, and which units are failed.
    fn seen(&self) -> Pending<'_, Seen>;

    /// Says what a system needs a reboot for; none where a switch is enough.
    fn reboot_needed(&self, toplevel: &StorePath) -> Option<Prose>;
}

/// Gets closures into the store and keeps them there.
pub trait Closures {
    /// Gets a target's closure, roots it, and compares it with what was signed.
    fn realise<'a>(
        &'a self,
        target: &'a Target,
        recorded: Option<ClosureDigest>,
        progress: &'a dyn Fn(Progress),
    ) -> Pending<'a, Result<ClosureDigest, Failure>>;

    /// Computes the digest of a closure that is in the store.
    fn measure<'a>(
        &'a self,
        toplevel: &'a StorePath,
    ) -> Pending<'a, Result<ClosureDigest, Failure>>;

    /// Keeps a system from the garbage collector; fails when it is not whole in the store.
    fn root<'a>(&'a self, toplevel: &'a StorePath) -> Pending<'a, Result<(), Failure>>;

    /// Gives up the roots of all other systems.
    fn keep_only(&self, keep: &[StorePath]);
}

/// Activates, commits and rolls back. What it starts outlives the subscriber.
pub trait Activation {
    /// Makes sure that there is a way forward and back, and starts the dead-man.
    fn arm<'a>(
        &'a self,
        attempt: &'a Attempt,
        dead_man_at: Option<Monotonic>,
    ) -> Pending<'a, Result<(), Failure>>;

    /// Restarts the machine. When this returns, it may still be on its way down.
    fn reboot<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, ()>;

    /// Has a dead-man watch over a system that was booted.
    fn guard<'a>(&'a self, attempt: &'a Attempt, dead_man_at: Monotonic) -> Pending<'a, ()>;

    /// Stops the dead-man and takes the record away, touching nothing else.
    fn disarm(&self, attempt: u64) -> Pending<'_, ()>;

    /// Runs the switch program, or goes on waiting for it.
    fn activate<'a>(
        &'a self,
        attempt: &'a Attempt,
        deadline: Monotonic,
    ) -> Pending<'a, ActivationEnd>;

    /// Makes the system the profile's and the boot's, as the procedure says.
    fn commit<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>>;

    /// Brings the previous system back.
    fn roll_back<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>>;

    /// Tells what there is of an attempt.
    fn found(&self, attempt: Option<u64>) -> Pending<'_, Found>;

    /// Gives the numbers of all attempts of which something is left.
    fn left_over(&self) -> Vec<u64>;

    /// Removes what an ended attempt left.
    fn clean_up(&self, attempt: u64) -> Pending<'_, ()>;
}

/// Knows when the host may be changed.
pub trait Windows {
    /// Tells whether a maintenance window is open at a time.
    fn look(&self, at: Timestamp) -> Pending<'_, Result<Window, Failure>>;
}

/// Asks whoever uses the host.
pub trait People {
    /// Asks for consent, and gives the answer; none where no answer will come this way.
    fn ask<'a>(&'a self, target: &'a Target, until: Timestamp) -> Pending<'a, Option<bool>>;
}

/// Checks health.
pub trait Health {
    /// Runs one round of checks; the error says which one failed and how.
    fn check<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Prose>>;
}

/// Deletes what is not kept of earlier systems.
pub trait Prune {
    /// Deletes generations of the profile, after an attempt that was committed.
    fn prune<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>>;
}

/// Speaks to the fleet.
pub trait Voice {
    /// Signs and publishes a report. It is queued while there is no connection.
    fn report(&self, state: &State, body: ReportBody, seen: &Seen);

    /// Takes note of what the host's heartbeats say about the profile.
    fn keep_in_mind(&self, state: &State);

    /// Waits for a fresh connection that the broker has answered.
    fn prove_link(&self) -> Pending<'_, ()>;
}

/// Tells the fleet what programs print.
pub trait Scribe {
    /// Takes what these programs of an attempt have printed, which have ended, and publishes it by
    /// and by. Nobody waits for that. A program of which it was told before is passed over.
    fn ended(&self, attempt: &Attempt, incarnation: Incarnation, programs: &[Program]);
}

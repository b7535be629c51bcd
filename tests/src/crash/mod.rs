//! A simulated machine on which the real subscriber runs, so that it can be stopped anywhere.
//!
//! The driver, the core, the adapters and the processes that outlive the daemon are the real
//! ones; they ask the machine through `herald_subscriber::os`. Simulated is what is below: a disk
//! that forgets what was not synced (`disk`), systemd's units, Nix and switch programs
//! (`programs`), clocks, the network and the broker (`world`, `subscriber`). Time is virtual.
//!
//! Each step that changes something is a *point*, and so is each look at something in a phase for
//! the first time. Before a point something can come in between (`scenario`). What must hold is
//! checked at every step (`monitor`), and at the end (`run`), also after one more power cut.

mod campaign;
mod disk;
mod disturb;
mod monitor;
mod mutant;
mod order;
mod process;
mod programs;
mod rng;
mod run;
mod scenario;
mod subscriber;
mod supervisor;
mod systems;
mod world;

pub use campaign::{Plan, Settings, Sum, campaign, kept};
pub use mutant::Mutant;
pub(crate) use rng::Rng;
pub use run::{Outturn, run};
pub use scenario::{Case, Disturbance, Event, Outcome, Scenario};
pub use world::Hit;

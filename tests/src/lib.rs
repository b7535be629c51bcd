//! A whole fleet on one machine, for tests: a broker, an operator, and hosts with real Nix stores
//! of their own. Everything is in one temporary folder, and gone when the fleet is dropped.

#![allow(clippy::panic, reason = "what a test can't set up ends it")]

mod brokers;
mod built;
mod cache;
pub mod crash;
pub mod durability;
mod fleet;
mod forge;
pub mod fuzz;
mod guarded;
mod host;
pub mod hostile;
pub mod load;
mod process;
mod retain;
mod schema;
mod wait;
mod wire;

pub use brokers::{BrokerKind, Brokers, NatsExample, Secured};
pub use built::{NotBuilt, build_all, built, built_from};
pub use cache::{Cache, Manner};
pub use fleet::{Broker, Fleet, Outcome, Ports, binary};
pub use forge::Forgery;
pub use guarded::Guarded;
pub use host::Host;
pub use process::Process;
pub use retain::retain;
pub use schema::documented;
pub use wait::{LIMIT, wait_for};
pub use wire::Wire;

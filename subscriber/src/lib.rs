//! The daemon on each host: one loop that drives the pure core of `herald-core`, and the ports
//! between that loop and the machine.
//!
//! `driver` is the loop and knows only `ports`; `adapters` are their real sides. `runner`,
//! `prepare_reboot`, `commit` and `roll_back` are processes of their own, which outlive the daemon.
//! `commands` are what people at the machine run; they ask the daemon through `control`.

pub mod access;
pub mod adapters;
pub mod clock;
pub mod commands;
pub mod commit;
pub mod config;
pub mod control;
pub mod daemon;
pub mod driver;
pub mod durable;
pub mod enrolment;
pub mod heartbeat;
pub mod identity;
pub mod lasting;
pub mod link;
pub mod os;
pub mod own_update;
pub mod permits;
pub mod ports;
pub mod prepare_reboot;
pub mod request;
pub mod retention;
pub mod revocations;
pub mod roll_back;
pub mod room;
pub mod runner;
pub mod trust_file;
mod watchdog;

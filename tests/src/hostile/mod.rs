//! Real processes at a broker that lies: what it does comes from a seed, and whatever it does, no
//! host may run what no operator signed for it, none may be stuck once the broker behaves, and who
//! is kept in the dark says so within two intervals.
//!
//! One fleet serves many seeds. Each is a release or two with attacks around them, and then the
//! broker behaves. What is judged comes from outside of Herald where it can: a journal that the
//! hosts' systems keep of their activations. Decisions of roll-outs do not exist yet, and are not
//! attacked.

mod broker;
mod campaign;
mod judge;
mod ledger;
mod lies;
mod outturn;
mod packet;
mod seed;
mod world;

pub use campaign::{Settings, campaign};
pub use outturn::{Mutant, Outturn, Sum};

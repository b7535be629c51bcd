//! Real processes at a broker that lies: what it does comes from a seed, and whatever it does, no
//! host may run what no operator signed for it, and none may be stuck once the broker behaves.
//!
//! One fleet serves many seeds: each seed is a release or two with attacks around them, and then
//! the broker behaves for a while. Decisions of roll-outs do not exist yet, and are not attacked.

mod broker;
mod campaign;
mod packet;
mod world;

pub use broker::{EvilBroker, Mischief};
pub use campaign::{Settings, Sum, campaign};
pub use world::{Mutant, Outturn, World};

//! The ports' real sides: files, Nix, processes, the broker.

pub mod activation;
pub mod command;
pub mod health;
pub mod launcher;
pub mod nix;
pub mod record;
pub mod state_store;
pub mod systems;
pub mod unsynced;

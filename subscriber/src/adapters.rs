//! The ports' real sides: files, Nix, processes, the broker.

pub mod activation;
pub mod boot_loader;
pub mod command;
pub mod health;
pub mod launcher;
pub mod nix;
pub mod people;
pub mod reboot_need;
pub mod record;
pub mod state_store;
pub mod systems;
pub mod windows;

//! The ports' real sides: files, Nix, processes, the broker.

pub mod activation;
pub mod boot_loader;
pub mod command;
mod fetched;
pub mod health;
pub mod health_folder;
mod http_status;
pub mod launcher;
pub mod link_watch;
pub mod nix;
mod nix_log;
pub mod nix_settings;
pub mod own_unit;
pub mod people;
mod poisoned;
pub mod printed;
pub mod pruner;
pub mod reboot_need;
pub mod record;
pub mod state_store;
pub mod switch_folder;
pub mod systems;
pub mod toplevel_mark;
pub mod unsynced;
pub mod windows;

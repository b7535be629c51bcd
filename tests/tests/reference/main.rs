//! The pages in `docs/reference` say what the programs say: each is written from them, or compared.
//!
//! `HERALD_BLESS=1 cargo test -p herald-tests --test reference` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is missing")]

mod codes;
mod commands;
mod help;
mod json;
mod page;
mod settings;
mod topics;

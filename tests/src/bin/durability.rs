//! Kills our broker under load and checks that nothing acknowledged is lost, or comes back older.
//! Progress on stderr, and as the last line of stdout JSON:
//! `cargo run --release -p herald-tests --bin durability -- --times 200`.

use std::process::ExitCode;

use clap::Parser;
use herald_tests::durability::{self, Settings};

fn main() -> ExitCode {
    match durability::run(&Settings::parse()) {
        Ok(outcome) => {
            println!("{}", outcome.json());
            if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("durability: {failure}");
            ExitCode::FAILURE
        }
    }
}

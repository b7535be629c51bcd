//! Holds a fleet of simulated hosts on our broker and on mosquitto, in one run, and compares them.
//! Prints a table on stderr, and as the last line of stdout JSON:
//! `cargo run --release -p herald-tests --bin load -- --hosts 10000`.

use std::process::ExitCode;

use clap::Parser;
use herald_tests::load::{self, Settings};

fn main() -> ExitCode {
    match load::run(&Settings::parse()) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

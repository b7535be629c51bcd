//! Real subscribers and operators at a broker that lies, from seeds. The last line says how often it
//! won: `cargo run --release -p herald-tests --bin hostile -- --seeds 1000`.

use std::process::ExitCode;

use clap::Parser;
use herald_tests::{
    build_all,
    hostile::{Settings, campaign},
};

fn main() -> ExitCode {
    let settings = Settings::parse();
    if let Err(failure) = build_all() {
        eprintln!("hostile: {failure}");
        return ExitCode::FAILURE;
    }
    let sum = campaign(&settings, None);
    for fault in sum.all.faults() {
        println!("wrong: {fault}");
    }
    println!("{sum}");
    if sum.all.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

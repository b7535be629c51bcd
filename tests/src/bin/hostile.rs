//! Real subscribers and operators at a broker that lies, from seeds. The last line says how often it
//! won: `cargo run --release -p herald-tests --bin hostile -- --seeds 1000`.

use std::process::ExitCode;

use clap::Parser;
use herald_tests::{
    build_all,
    hostile::{Settings, campaign},
};

fn main() -> ExitCode {
    if let Err(failure) = build_all() {
        eprintln!("hostile: {failure}");
        return ExitCode::FAILURE;
    }
    let sum = campaign(&Settings::parse(), None);
    let all = &sum.all;
    for fault in all.faults() {
        println!("wrong: {fault}");
    }
    println!(
        "{} activations; at the latest a freeze was noticed after {:?}, a held back order after {:?}",
        all.activations, all.freeze, all.withheld
    );
    println!("{}", sum.line());
    if all.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

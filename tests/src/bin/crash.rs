//! Stops the subscriber at every point of its way on a simulated machine, and checks that the
//! host stands at the end. The last line says how many runs did not:
//! `cargo run --release -p herald-tests --bin crash -- --runs 18000`.

use std::process::ExitCode;

use clap::Parser;
use herald_tests::crash::{Plan, Settings, campaign, run};

fn main() -> ExitCode {
    let settings = Settings::parse();
    if let Some(case) = &settings.only {
        let outturn = run(case, None, true);
        for line in outturn.trace {
            println!("{line}");
        }
        for violation in &outturn.violations {
            println!("wrong: {violation}");
        }
        println!("{case}: {} after {:?}", outturn.ending, outturn.took);
        return if outturn.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let plan = Plan::new(settings.seed);
    let sum = campaign(&plan, &settings, None);
    print!("{}", sum.report(&plan));
    print!("{}", sum.faults());
    println!("{} runs, {} bricked", sum.runs, sum.bricked.len());
    if sum.bricked.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

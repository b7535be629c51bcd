//! One round of health checks on a real machine.

use std::time::Duration;

use herald_core::Attempt;
use herald_proto::{target::Check, text::Prose};
use tokio::{net::TcpStream, time::timeout};

use super::{command, launcher::systemctl, systems::failed_units};
use crate::{
    config::Runner,
    os::{Os, System},
    ports::{Health, Pending},
};

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Runs the checks that a release asks for, and looks at the units.
pub struct Checks {
    /// The system that is checked.
    pub os: System,
    /// Whether there is a systemd to ask.
    pub runner: Runner,
}

impl Health for Checks {
    fn check<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Prose>> {
        Box::pin(async move {
            let target = attempt.order.target();
            let excused = |unit| {
                attempt.baseline.failed_units.contains(unit)
                    || target.tolerated_units.contains(unit)
            };
            let failed = match self.runner {
                Runner::Direct => Vec::new(),
                // A systemd that does not answer is no healthy one.
                Runner::Systemd => failed_units(&*self.os)
                    .await
                    .map_err(|error| Prose::lossy(&error.to_string()))?,
            };
            let failed: Vec<_> = failed.iter().filter(|unit| !excused(unit)).collect();
            if !failed.is_empty() {
                let names: Vec<_> = failed.iter().map(|unit| unit.as_str()).collect();
                return Err(Prose::lossy(&format!("failed units: {}", names.join(", "))));
            }
            for check in &target.health.checks {
                let toplevel = target.toplevel.as_str();
                run(&*self.os, check, toplevel)
                    .await
                    .map_err(|problem| Prose::lossy(&format!("{check}: {problem}")))?;
            }
            Ok(())
        })
    }
}

async fn run(os: &dyn Os, check: &Check, toplevel: &str) -> Result<(), String> {
    match check {
        Check::Command(argv) => {
            let (program, args) = argv.split_first().ok_or("it names no program")?;
            let mut command = command::program(program);
            command.args(args).current_dir("/").env("HERALD_TOPLEVEL", toplevel);
            run_program(os, &mut command).await
        }
        Check::Unit(unit) => {
            let ask = ["show", "--property=ActiveState", "--value", "--", unit.as_str()];
            match systemctl(os, &ask).await.map_err(|error| error.to_string())?.trim() {
                "active" => Ok(()),
                other => Err(format!("it is {other}")),
            }
        }
        Check::Tcp(address) => match timeout(CHECK_LIMIT, TcpStream::connect(address)).await {
            Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {CHECK_LIMIT:?}")),
        },
    }
}

async fn run_program(os: &dyn Os, command: &mut tokio::process::Command) -> Result<(), String> {
    let outcome = os.run(command, CHECK_LIMIT).await;
    outcome.map(drop).map_err(|error| error.to_string())
}

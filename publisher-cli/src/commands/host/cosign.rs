//! `herald host cosign`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use herald_fleet::generations;
use herald_proto::{enrol::RosterEntry, roster_file};

use crate::{
    cli::Global,
    output, prompt,
    release::{KeyOptions, Operator},
    roster::{self, Registrar, Told},
    signed_file,
};

/// Add a signature to what another operator wrote to a file, and publish it if that is enough.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `herald host enrol` or another of its kind wrote
    file: PathBuf,
    #[command(flatten)]
    keys: KeyOptions,
    /// Sign without being asked
    #[arg(long)]
    yes: bool,
    /// How long connecting, and each delivery, may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let operator = Operator::load(global, &args.keys.keys).await?;
    let shown = args.file.display();
    let bytes = signed_file::read(&args.file, roster_file::MAX_ROSTER_FILE)?;
    let mut entries =
        roster_file::read(&bytes).with_context(|| format!("{shown} can't be used"))?;
    if let Some(other) =
        entries.iter().find(|entry| entry.message().fleet != *operator.file.fleet.id())
    {
        bail!("{shown} is for the fleet {}", other.message().fleet);
    }
    // Refused before anything is shown: nobody should be asked about a forgery.
    roster::missing(&operator, &entries)?;
    for entry in &entries {
        output::note(&describe(entry.message()));
    }
    let names = operator.keys().map(|key| key.name().to_string()).collect::<Vec<_>>().join(" and ");
    if !args.yes && !prompt::confirmed(&format!("Sign this as {names}?"), "signed")? {
        bail!("nothing was signed");
    }
    for entry in &mut entries {
        for signer in operator.signers() {
            signer.sign(entry).await?;
        }
    }
    let missing = roster::missing(&operator, &entries)?;
    let told = if missing > 0 {
        signed_file::replace(&args.file, &roster_file::write(&entries))?;
        Told::Unfinished { path: args.file.clone(), missing }
    } else {
        let registrar = Registrar::open(operator, &[], args.connect_timeout).await?;
        registrar.publish(&entries).await?;
        registrar.close().await;
        Told::All
    };
    let hosts: Vec<_> = entries.iter().map(|entry| entry.message().host.clone()).collect();
    roster::note(
        &told,
        &format!("the broker has the roster's word on {}", generations::names(&hosts)),
    );
    Ok(ExitCode::SUCCESS)
}

/// Says what an entry does.
fn describe(entry: &RosterEntry) -> String {
    let RosterEntry { host, key, token, .. } = entry;
    let token = token.as_ref().map(|token| token.expires_at);
    match (key, token) {
        (Some(key), None) => format!("{host} is known by the key {}", key.id().fingerprint()),
        (Some(key), Some(until)) => format!(
            "{host} is known by the key {}, and may ask for another until {until}",
            key.id().fingerprint()
        ),
        (None, Some(until)) => format!("{host} may ask to be known until {until}"),
        (None, None) => format!("{host} is in the fleet no more"),
    }
}

//! `herald host token`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use herald_proto::{
    host::HostId,
    key::{KeyName, SecretKey},
};
use zeroize::Zeroizing;

use crate::{
    cli::Global,
    clock,
    keys::file,
    output, random,
    roster::{self, Registrar, RosterOptions},
};

/// Make a one-time token with which a new host may ask to be known.
///
/// Its secret half goes to stdout or to a file, and from there to the host, where [enrol] in its
/// configuration names the file. Its public half goes into the fleet file, and to the broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name that the host will have
    host: HostId,
    #[command(flatten)]
    invitation: InvitationOptions,
    #[command(flatten)]
    roster: RosterOptions,
}

/// What there is to say of a token.
#[derive(Debug, clap::Args)]
pub(super) struct InvitationOptions {
    /// For how long the host may ask
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = humantime::parse_duration)]
    valid_for: Duration,
    /// Write the token to a new file that nobody else can read [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let host = &args.host;
    let mut registrar = Registrar::load(global, &args.roster, host).await?;
    if registrar.operator.file.fleet.host(host).is_some() {
        bail!(
            "{host} is in the fleet already: have it make a new key with `herald host rotate \
             {host}`, or take it out with `herald host remove {host}`"
        );
    }
    invite(&mut registrar, host, &args.invitation, &args.roster, true).await?;
    registrar.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Makes a token, writes it down, and tells the broker.
pub(super) async fn invite(
    registrar: &mut Registrar,
    host: &HostId,
    invitation: &InvitationOptions,
    options: &RosterOptions,
    keeps_key: bool,
) -> anyhow::Result<()> {
    let name = KeyName::from(host);
    let token = match &invitation.out {
        Some(path) => file::generate(name, path)?,
        None => {
            let mut seed = Zeroizing::new([0; 32]);
            random::fill(seed.as_mut())?;
            SecretKey::from_seed(name, &seed)?
        }
    };
    let expires_at = clock::now().plus(invitation.valid_for);
    registrar.operator.file.edit(|file| {
        if !keeps_key {
            file.unpin(host);
        }
        file.invite(host, token.public(), expires_at)
    })?;
    // Before the broker is told: whoever has the token can wait for that, or have it told again.
    match &invitation.out {
        Some(path) => output::note(&format!("the token is in {}", path.display())),
        None => output::line(&token.to_secret_text())?,
    }
    let told = registrar.tell(std::slice::from_ref(host), options.roster_out.as_deref()).await?;
    let done =
        format!("{host} may ask to be known until {expires_at}: then `herald host enrol {host}`");
    roster::note(&told, &done);
    Ok(())
}

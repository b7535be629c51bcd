//! `herald host enrol`.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use herald_fleet::roster::{self as rules, Asked};
use herald_proto::{
    host::HostId,
    key::{BareKey, PublicKey},
};
use serde::Serialize;

use crate::{
    cli::Global,
    clock, output, prompt,
    roster::{self, Registrar, RosterOptions, Told},
};

/// Show the key with which a host asks to be known, and pin it.
///
/// Compare the fingerprint with what the host shows (`herald-subscriber public-key --fingerprint`, or its
/// log): a token that was stolen lets somebody else ask in its place. The key goes into the fleet file,
/// and to the broker; the token is used up by that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    host: HostId,
    /// Pin this key, which `herald-subscriber public-key` printed, and wait for no request
    #[arg(long, value_name = "KEY", conflicts_with_all = ["fingerprint", "yes", "wait"])]
    public_key: Option<PublicKey>,
    /// Go on without being asked if the key has this fingerprint, and else not at all
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "yes")]
    fingerprint: Option<String>,
    /// Pin whatever key is asked for with the token, without being asked
    #[arg(long)]
    yes: bool,
    /// How long to wait for the host to ask
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    roster: RosterOptions,
}

/// `herald host enrol --json`.
#[derive(Debug, Serialize)]
struct Enrolled<'a> {
    host: &'a HostId,
    key: String,
    fingerprint: String,
    /// How many more keys have to sign before the broker is told.
    missing_signatures: usize,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let host = &args.host;
    let mut registrar = Registrar::load(global, &args.roster, host).await?;
    let token = registrar.operator.file.fleet.token(host).map(|token| token.key().id());
    let key = match &args.public_key {
        Some(key) => BareKey::from(key),
        None => asked(args, &mut registrar).await?,
    };
    let pinned = rules::host_key(host, &key);
    registrar.operator.file.edit(|file| {
        file.uninvite(host);
        file.pin(host, &pinned)
    })?;
    output::note(&format!("{host} is pinned in {}", registrar.operator.file.path.display()));
    let told =
        registrar.tell(std::slice::from_ref(host), args.roster.roster_out.as_deref()).await?;
    roster::note(&told, &format!("{host} is in the fleet"));
    if let Some(token) = token {
        registrar.clear_request(token).await;
    }
    registrar.close().await;
    if args.json {
        let missing_signatures = match told {
            Told::All => 0,
            Told::Unfinished { missing, .. } => missing,
        };
        let (key, fingerprint) = (pinned.to_string(), key.id().fingerprint());
        output::json(&Enrolled { host, key, fingerprint, missing_signatures })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the key that the host asks with, if it is the right one.
async fn asked(args: &Args, registrar: &mut Registrar) -> anyhow::Result<BareKey> {
    let host = &args.host;
    if registrar.operator.file.fleet.token(host).is_none() {
        bail!(
            "the fleet file has no token for {host}: make one with `herald host token {host}`, or \
             name the key with --public-key"
        );
    }
    let wait = clock::span(args.wait);
    let Some(payload) = registrar.board.request(host, args.wait).await?.map(<[u8]>::to_vec) else {
        bail!(
            "{host} has not asked within {wait}: see that its subscriber runs with the token \
             ([enrol]), and what its log says"
        );
    };
    let fleet = &registrar.operator.file.fleet;
    let request = rules::verify_request(fleet, host, &payload, clock::now())?;
    let shown = Asked::of(&request);
    let found = shown.fingerprint.as_str();
    match &args.fingerprint {
        Some(expected) if expected == found => {}
        Some(expected) => bail!(
            "{host} asks with the key {found}, not {expected}: nothing was pinned; if that is not \
             what the host shows, somebody else has its token"
        ),
        None if args.yes => {}
        None => {
            output::note(&format!(
                "{host} asks to be known by a key\n  fingerprint  {found}\n  asked at     {}\n  \
                 system       {}, herald-subscriber {}",
                request.time, request.system, request.agent
            ));
            let question = "Does the host show the same fingerprint?";
            if !prompt::confirmed(question, "pinned")? {
                bail!("nothing was pinned");
            }
        }
    }
    Ok(request.key)
}

//! `herald verify`.

use std::{fs::File, io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use herald_fleet::json::{Part, Signed};
use herald_proto::{
    codec::MAX_MESSAGE,
    key::KeyId,
    order::Order,
    release_file::ReleaseFile,
    signing::{self, Verified},
    trust::Trust,
};
use serde::Serialize;

use crate::{
    cli::Global,
    clock, describe,
    fleet_file::{FleetFile, load_trust},
    output,
};

/// Check an order file and print what is in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order, as `publish --out` writes it and as it is on the wire
    file: PathBuf,
    /// Who may sign [default: the trust file that the fleet file names]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sound<'a> {
    verified: bool,
    #[serde(flatten)]
    release: Signed<'a>,
    #[serde(flatten)]
    target: Part<'a>,
    target_hash: String,
    message_digest: String,
    signers: Vec<String>,
}

#[derive(Serialize)]
struct Unsound {
    verified: bool,
    code: String,
    detail: String,
}

pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let trust = trust(args, global)?;
    let shown = args.file.display();
    let mut message = Vec::new();
    let file = File::open(&args.file).with_context(|| format!("cannot read {shown}"))?;
    file.take(MAX_MESSAGE as u64 + 1)
        .read_to_end(&mut message)
        .with_context(|| format!("cannot read {shown}"))?;
    if ReleaseFile::is_one(&message) {
        bail!("{shown} is a release file: `herald cosign {shown} --show` shows what is in it");
    }
    match signing::verify_any_order(&message, &trust) {
        Ok(order) if args.json => output::json(&Sound::of(&order, &trust))?,
        Ok(order) => output::line(summary(&order, &trust).trim_end())?,
        Err(refused) => {
            let code = refused.code().to_string();
            if args.json {
                let detail = refused.to_string();
                let unsound = Unsound { verified: false, code: code.clone(), detail };
                output::read_or_not(output::json(&unsound))?;
            }
            bail!("{shown} is refused: {code}: {refused}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn trust(args: &Args, global: &Global) -> anyhow::Result<Trust> {
    if let Some(path) = &args.trust {
        return load_trust(path);
    }
    let file = FleetFile::load(global).context("without --trust the fleet file is needed")?;
    let trust = file.require_trust().context("or give a trust file with --trust")?;
    Ok(trust.current().clone())
}

impl<'a> Sound<'a> {
    fn of(order: &'a Verified<Order>, trust: &Trust) -> Self {
        Self {
            verified: true,
            release: Signed::of(&order.release),
            target: Part::of(&order.target),
            target_hash: order.hash.to_string(),
            message_digest: order.message.to_string(),
            signers: signers(order, trust),
        }
    }
}

fn signers(order: &Verified<Order>, trust: &Trust) -> Vec<String> {
    let name = |id: &KeyId| trust.release().key(*id).map(|key| key.name().to_string());
    order.signers().iter().filter_map(name).collect()
}

fn summary(order: &Verified<Order>, trust: &Trust) -> String {
    let (release, target) = (&order.release, &order.target);
    let mut lines = vec![("host", format!("{} ({})", target.host, target.system))];
    lines.extend(describe::target(target));
    lines.extend(describe::release(release, clock::now()));
    lines.push(("signed by", signers(order, trust).join(", ")));
    describe::write(&lines, "")
}

//! `herald verify`.

use std::{fmt::Write as _, fs::File, io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use herald_fleet::json::{Part, Signed};
use herald_proto::{
    codec::MAX_MESSAGE,
    key::KeyId,
    order::Order,
    signing::{self, Verified},
    target::Integrity,
    trust::Trust,
};
use serde::Serialize;

use crate::{
    cli::Global,
    clock,
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
    match signing::verify_any_order(&message, &trust) {
        Ok(order) if args.json => output::json(&Sound::of(&order, &trust))?,
        Ok(order) => output::line(summary(&order, &trust)?.trim_end())?,
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
    let path = file.path.display();
    file.trust.with_context(|| format!("{path} names no trust file: give one with --trust"))
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

fn summary(order: &Verified<Order>, trust: &Trust) -> Result<String, std::fmt::Error> {
    let (release, target) = (&order.release, &order.target);
    let now = clock::now();
    let mut text = String::new();
    let mut say = |name: &str, value: &str| writeln!(text, "{name:12}{value}");
    say("host", &format!("{} ({})", target.host, target.system))?;
    say("profile", target.profile.as_str())?;
    say("action", &target.action.to_string())?;
    say("system", target.toplevel.as_str())?;
    say("integrity", &integrity(&target.integrity))?;
    let limits = [
        ("realise", target.limits.realise),
        ("activate", target.limits.activate),
        ("confirm", target.limits.confirm),
        ("healthy for", target.health.stable_for),
    ];
    let limits = limits.map(|(name, limit)| format!("{name} {}", clock::span(limit)));
    say("limits", &limits.join(", "))?;
    for check in &target.health.checks {
        say("check", &check.to_string())?;
    }
    for unit in &target.tolerated_units {
        say("tolerates", unit.as_str())?;
    }
    for path in &target.expect_current {
        say("expects", path.as_str())?;
    }
    if let Some(wait) = target.limits.wait {
        say("waits", &format!("for at most {}", clock::span(wait)))?;
    }
    if let Some(answer) = target.if_reboot_needed {
        say("reboot", &format!("if a switch needs one: {answer}"))?;
    }
    for mark in &target.marks {
        say("marked", &mark.to_string())?;
    }
    if let Some(incarnation) = target.incarnation {
        say("recovers", &format!("the state {incarnation}"))?;
    }
    say("release", &format!("{} of the fleet {}", release.id, release.fleet))?;
    say("sequence", &release.sequence.to_string())?;
    say("targets", &release.targets_count.to_string())?;
    say("issued", &release.issued_at.to_string())?;
    say("starts", &release.not_before.to_string())?;
    let over = if release.expires_at <= now { " (it has expired)" } else { "" };
    say("expires", &format!("{}{over}", release.expires_at))?;
    for (name, prose) in [("revision", &release.revision), ("reason", &release.reason)] {
        if let Some(prose) = prose {
            say(name, &prose.as_str().replace('\n', "\n            "))?;
        }
    }
    say("signed by", &signers(order, trust).join(", "))?;
    Ok(text)
}

fn integrity(integrity: &Integrity) -> String {
    match integrity {
        Integrity::Closure(closure) => {
            let (paths, size) = (closure.paths, closure.size);
            format!("closure {} ({paths} paths, {size} bytes)", closure.digest)
        }
        Integrity::Toplevel => "toplevel: as the host's caches sign it".to_owned(),
        Integrity::Recorded => "recorded: as the host confirmed it before".to_owned(),
    }
}

//! `herald sign`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use herald_fleet::json::Signed;
use serde::Serialize;

use crate::{
    cli::Global,
    clock, output,
    release::{self, Composing, Operator, composing::Composition, preview},
    release_file::Standing,
    signed_file,
};

/// Sign a release into a file, for others to sign it too.
///
/// For example `herald sign --host alpha=./result-alpha --out deploy.release`. They look at it and sign it with `herald cosign FILE`, and whoever has it when enough have signed
/// sends it with `herald publish --release FILE`. Its sequence and validity count from now.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("wanted").required(true).args(["host", "from"])))]
pub(crate) struct Args {
    #[command(flatten)]
    composing: Composing,
    /// The new file
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    #[arg(help_heading = "What happens")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    #[serde(flatten)]
    release: Signed<'a>,
    #[serde(flatten)]
    standing: Standing,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = &args.composing.options;
    let operator = Operator::load(global, &options.keys.keys).await?;
    let generations = operator.file.require_trust()?;
    let Composition { plan, online } = args.composing.compose(&operator, false).await?;
    let mut highest = None;
    if let Some((mut survey, mut connection)) = online {
        survey.settle(&operator, &mut connection).await?;
        connection.close().await;
        release::operator::note_unknown(&generations.reported(survey.reports()));
        highest = survey.highest(release::latest_sequence(clock::now()));
    }
    let draft = plan.draft(&operator, options, highest)?;
    if options.dry_run {
        return preview::print(&operator, &draft, options.json);
    }
    let out = args.out.context("--out names the file")?;
    let file = operator.sign(&draft).await?;
    signed_file::create(&out, &file.to_bytes())?;
    let standing = Standing::of(&file, generations, &operator.key_ids());
    let shown = out.display();
    output::note(&format!("signed by {}; it is in {shown}", standing.line()));
    if options.json {
        let (file, release) = (shown.to_string(), Signed::of(file.release()));
        output::json(&Shown { file, release, standing })?;
    } else {
        output::line(&file.release().id.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

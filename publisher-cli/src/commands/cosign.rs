//! `herald cosign`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use herald_fleet::{compose, generations::Generations};
use herald_proto::release_file::ReleaseFile;

use crate::{
    cli::Global,
    clock,
    connection::Connection,
    fleet_file::FleetFile,
    keys, output, prompt,
    release::{self, KeyOptions, Operator, Survey},
    release_file::{self, Standing},
    signed_file,
};

mod shown;

/// Show what is in a release file, and add a signature.
///
/// What is shown was compared with what is signed. Of several files of one release, which were
/// signed side by side, the first gets the signatures of all. What packages change is told where
/// this machine has both closures.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `herald sign` wrote, and other copies of it
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    keys: KeyOptions,
    /// Sign without being asked
    #[arg(long, conflicts_with = "show")]
    yes: bool,
    /// Only show it, and sign nothing
    #[arg(long)]
    show: bool,
    /// Only put the copies together, and sign nothing
    #[arg(long, conflicts_with_all = ["show", "yes"])]
    merge: bool,
    /// Write the result to a new file, and leave the first as it is
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask the broker what hosts run now, and which trust they have
    #[arg(long)]
    offline: bool,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let operator = Operator::without_keys(global)?;
    let generations = operator.file.require_trust()?;
    let first = &args.files[0];
    let mut file = gather(&args.files, generations)?;
    let signers = release_file::signers(&file, generations, first)?;
    let hosts: Vec<_> = file.targets().iter().map(|target| target.host.clone()).collect();
    operator.file.require(&hosts)?;
    let survey = survey(&args, &operator, &file).await;
    let reported = survey.iter().flat_map(Survey::reports);
    release::operator::note_unknown(&generations.reported(reported));
    let standing = Standing::of(&file, generations, &signers);
    if args.show || args.merge {
        shown::print(&args, &file, &standing, survey.as_ref(), None).await?;
        if args.merge {
            write(&args, &file)?;
        }
        return Ok(ExitCode::SUCCESS);
    }

    if args.json && !args.yes {
        bail!("with --json nobody is shown what to agree to: say --yes, or --show to sign nothing");
    }
    release_file::check_time(file.release(), clock::now())?;
    let keys = keys::signers(&args.keys.keys, Some(generations)).await?;
    generations.check_role(keys.iter().map(keys::Signer::public))?;
    // Said before anything is shown or asked: each key signs once.
    for key in &keys {
        if file.gathering().key_ids().any(|id| id == key.public().id()) {
            bail!(
                "the key {} has signed {} already: each key signs once, let another sign",
                key.public().name(),
                first.display()
            );
        }
    }
    if !args.json {
        shown::print(&args, &file, &standing, survey.as_ref(), None).await?;
    }
    let names: Vec<_> = keys.iter().map(|key| key.public().name().to_string()).collect();
    let names = names.join(" and ");
    if !args.yes && !prompt::confirmed(&format!("Sign this as {names}?"), "signed")? {
        bail!("nothing was signed");
    }
    for key in &keys {
        key.sign(file.gathering_mut()).await?;
    }
    compose::check_sizes(&file)?;
    write(&args, &file)?;
    let signers = release_file::signers(&file, generations, first)?;
    let standing = Standing::of(&file, generations, &signers);
    output::note(&format!("signed by {}", standing.line()));
    if let Some(survey) = &survey
        && operator.check_enough(&signers, None).is_ok()
        && let Err(why) =
            generations.check_enough(&signers, &generations.reported(survey.reports()))
    {
        output::note(&format!("not enough yet: {why}"));
    }
    if args.json {
        shown::print(&args, &file, &standing, survey.as_ref(), Some(&names)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the first file, and adds what the others have.
fn gather(paths: &[PathBuf], generations: &Generations) -> anyhow::Result<ReleaseFile> {
    let mut file = release_file::read(&paths[0])?;
    for path in &paths[1..] {
        let other = release_file::read(path)?;
        if other.release() != file.release() {
            bail!("{} and {} are different releases", paths[0].display(), path.display());
        }
        file.gathering_mut().merge(other.gathering(), generations.keys())?;
    }
    Ok(file)
}

/// Asks the broker, if it can be had: to sign, one can do without.
async fn survey(args: &Args, operator: &Operator, file: &ReleaseFile) -> Option<Survey> {
    if args.offline {
        return None;
    }
    let ask = async {
        let FleetFile { fleet, .. } = &operator.file;
        let filters = file
            .targets()
            .iter()
            .flat_map(|target| release::filters(fleet, &target.profile, &target.host, false));
        let access = operator.file.access()?;
        let mut connection =
            Connection::open(access, filters.collect(), args.connect_timeout).await?;
        let mut survey = Survey::new(operator, release_file::profiles(file), &mut connection);
        survey.settle(operator, &mut connection).await?;
        connection.close().await;
        anyhow::Ok(survey)
    };
    match ask.await {
        Ok(survey) => Some(survey),
        Err(why) => {
            let why = output::chain(&why);
            output::note(&format!("what hosts run now is not known (--offline): {why}"));
            None
        }
    }
}

fn write(args: &Args, file: &ReleaseFile) -> anyhow::Result<()> {
    let path: &Path = args.out.as_deref().unwrap_or(&args.files[0]);
    if args.out.is_some() {
        signed_file::create(path, &file.to_bytes())
    } else {
        signed_file::replace(path, &file.to_bytes())
    }
}

//! `herald publish`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;
use clap::ValueEnum;
use herald_proto::{
    host::HostId,
    store_path::StorePath,
    target::{Action, Closure, Integrity, Target},
    text::Prose,
};

use crate::{
    cli::{EXIT_CODES, Global},
    closure,
    connection::Connection,
    release::{self, Operator, Options, Plan, Survey, preview},
    wanted::{self, Wanted},
};

/// Sign a release and publish each host's order.
///
/// The systems must be built, and where the hosts can fetch them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
#[command(group(clap::ArgGroup::new("wanted").required(true).args(["host", "from"])))]
pub(crate) struct Args {
    /// A host, and the system that it should run, as a store path or a link to one; repeatable
    #[arg(long, value_name = "NAME=STORE_PATH", help_heading = "Targets")]
    host: Vec<Wanted>,
    /// The same for many hosts: a JSON object {"name": "store path"}; - is stdin
    #[arg(long, value_name = "FILE", help_heading = "Targets")]
    from: Option<PathBuf>,
    /// What hosts do with it
    #[arg(long, value_enum, default_value = "switch", help_heading = "Targets")]
    action: Choice,
    /// Only for hosts that run this system now; repeatable, for any of several
    #[arg(long, value_name = "STORE_PATH", help_heading = "Targets")]
    expect_current: Vec<StorePath>,
    /// How hosts make sure that they got the right bytes
    #[arg(long, value_enum, default_value = "closure", help_heading = "Targets")]
    integrity: Checked,
    /// The revision of the source, such as a git commit
    #[arg(long, value_name = "TEXT", help_heading = "Signing")]
    revision: Option<Prose>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Activate it, confirm it, and make it the boot default
    Switch,
    /// Make it the boot default, and activate nothing
    Boot,
    /// Boot into it, with the old system as the fall-back; confirm it, and make it the boot default
    Reboot,
    /// Activate and confirm it, and leave the boot default
    Test,
    /// Say what activating it would do
    DryActivate,
    /// Have it in the store
    Stage,
    /// Do nothing, but what was published before is cancelled, also for hosts that are offline
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Checked {
    /// By a digest of the whole closure, from this machine's Nix database
    Closure,
    /// By the name of the store path: the hosts' caches are trusted for the bytes
    Toplevel,
}

pub(crate) async fn run(args: Args, global: &Global, began: Instant) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let operator = Operator::load(global, options)?;
    let wanted = wanted::collect(&args.host, args.from.as_deref())?;
    operator.file.require(wanted.keys())?;
    if options.dry_run && !options.recover {
        let closures = closures(&args, &wanted).await?;
        let plan = plan(&args, &wanted, &closures, None)?;
        return preview::print(&operator, &plan.draft(&operator, options, None)?, options.json);
    }
    let filters = wanted.keys().flat_map(|host| release::filters(&operator, options, host));
    let connecting =
        Connection::open(operator.file.access()?, filters.collect(), options.connect_timeout);
    // Nix is asked while the connection is made.
    let (closures, mut connection) = tokio::try_join!(closures(&args, &wanted), connecting)?;
    let mut survey = Survey::new(&operator, &options.profile, wanted.keys(), &mut connection);
    if options.recover {
        survey.wait_for_reports(&operator, &mut connection).await?;
    }
    let plan = plan(&args, &wanted, &closures, Some(&survey))?;
    if options.dry_run {
        connection.close().await;
        return preview::print(&operator, &plan.draft(&operator, options, None)?, options.json);
    }
    release::send(operator, options, plan, survey, connection, began).await
}

async fn closures(
    args: &Args,
    wanted: &BTreeMap<HostId, StorePath>,
) -> anyhow::Result<BTreeMap<StorePath, Closure>> {
    // Whoever only takes the sequence gets no bytes.
    if args.integrity == Checked::Toplevel || args.action == Choice::None {
        return Ok(BTreeMap::new());
    }
    let paths: BTreeSet<_> = wanted.values().cloned().collect();
    Ok(closure::digests(paths).await?)
}

fn plan(
    args: &Args,
    wanted: &BTreeMap<HostId, StorePath>,
    closures: &BTreeMap<StorePath, Closure>,
    survey: Option<&Survey>,
) -> anyhow::Result<Plan> {
    let options = &args.options;
    let target = |(host, path): (&HostId, &StorePath)| -> anyhow::Result<Target> {
        let closure = closures.get(path).copied();
        let integrity = closure.map_or(Integrity::Toplevel, Integrity::Closure);
        let (action, expected) = (args.action.into(), args.expect_current.clone());
        let mut target = options.target(host.clone(), path.clone(), action, integrity, expected);
        if options.recover {
            let survey = survey.context("recovering needs the hosts' reports")?;
            target.incarnation = Some(survey.incarnation(host)?);
        }
        Ok(target)
    };
    let targets = wanted.iter().map(target).collect::<Result<_, _>>()?;
    Ok(Plan { targets, reason: options.reason.clone(), revision: args.revision.clone() })
}

impl From<Choice> for Action {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Switch => Self::Switch,
            Choice::Boot => Self::Boot,
            Choice::Reboot => Self::Reboot,
            Choice::Test => Self::Test,
            Choice::DryActivate => Self::DryActivate,
            Choice::Stage => Self::Stage,
            Choice::None => Self::None,
        }
    }
}

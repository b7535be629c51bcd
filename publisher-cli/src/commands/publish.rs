//! `herald publish`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, bail};
use herald_fleet::compose::{self, Composed};

use crate::{
    cli::{EXIT_CODES, Global},
    clock,
    connection::Connection,
    output,
    release::{
        self, Composing, Follow, Operator, Survey,
        composing::Composition,
        delivery::{self, Origin, Pace},
        preview,
    },
    release_file,
};

/// Sign a release and publish each host's order.
///
/// The systems must be built, and where the hosts can fetch them. To build one, copy it to the cache, deploy
/// it, and wait for the host: `nix build --out-link result-alpha
/// .#nixosConfigurations.alpha.config.system.build.toplevel`, then `herald publish --host
/// alpha=./result-alpha --copy-to s3://example-cache --watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
#[command(group(clap::ArgGroup::new("wanted").required(true).args(["host", "from", "release"])))]
pub(crate) struct Args {
    /// Publish what `herald sign` wrote and enough operators have signed, and sign nothing
    #[arg(long, value_name = "FILE", help_heading = "Targets", conflicts_with_all = [
        "action", "expect_current", "integrity", "copy_to", "revision", "valid_for", "not_before", "reason",
        "recover", "profile", "system", "realise_within", "activate_within", "confirm_within",
        "wait_within", "ignore_windows", "if_reboot_needed", "substituters",
        "irreversible", "stable_for",
        "health_command", "health_tcp", "health_unit", "tolerate", "dry_run",
    ])]
    release: Option<PathBuf>,
    #[command(flatten)]
    composing: Composing,
    #[command(flatten)]
    follow: Follow,
}

pub(crate) async fn run(args: Args, global: &Global, began: Instant) -> anyhow::Result<ExitCode> {
    if args.composing.offline && (args.follow.watch || args.composing.options.json) {
        bail!("--offline only writes files: leave --watch and --json out");
    }
    if args.release.is_some() {
        return publish_file(args, global, began).await;
    }
    let options = &args.composing.options;
    let operator = Operator::load(global, &options.keys.keys).await?;
    operator.check_enough(&operator.key_ids(), None)?;
    let Composition { plan, online } = args.composing.compose(&operator, args.follow.watch).await?;
    match online {
        Some((survey, connection)) if !options.dry_run => {
            release::send(operator, options, &args.follow, plan, survey, connection, began).await
        }
        None if args.composing.offline => {
            let draft = plan.draft(&operator, options, None)?;
            write(&args.follow, &operator.compose(&draft).await?)
        }
        online => {
            if let Some((_, connection)) = online {
                connection.close().await;
            }
            preview::print(&operator, &plan.draft(&operator, options, None)?, options.json)
        }
    }
}

/// Publishes what enough operators have signed.
async fn publish_file(args: Args, global: &Global, began: Instant) -> anyhow::Result<ExitCode> {
    let options = &args.composing.options;
    let path = args.release.as_deref().context("--release names the file")?;
    if !options.keys.keys.is_empty() && std::env::var_os("HERALD_KEY").is_none() {
        bail!(
            "--release publishes what is signed already: add a signature with `herald cosign {}`",
            path.display()
        );
    }
    let operator = Operator::without_keys(global)?;
    let file = release_file::read(path)?;
    let generations = operator.file.require_trust()?;
    let signers = release_file::signers(&file, generations, path)?;
    operator.check_enough(&signers, None).with_context(|| {
        format!("{} can't be published yet: `herald cosign` adds a signature", path.display())
    })?;
    release_file::check_time(file.release(), clock::now())?;
    let hosts: Vec<_> = file.targets().iter().map(|target| target.host.clone()).collect();
    operator.file.require(&hosts)?;
    compose::check_sizes(&file)?;
    if args.composing.offline {
        return write(&args.follow, &compose::orders(&file));
    }

    let fleet = &operator.file.fleet;
    let filters = file.targets().iter().flat_map(|target| {
        release::filters(fleet, &target.profile, &target.host, args.follow.watch)
    });
    let access = operator.file.access()?;
    let mut connection =
        Connection::open(access, filters.collect(), options.connect_timeout).await?;
    let mut survey = Survey::new(&operator, release_file::profiles(&file), &mut connection);
    survey.settle(&operator, &mut connection).await?;
    operator.check_enough(&signers, Some(&survey))?;
    let sequence = file.release().sequence;
    if let Some(highest) = survey.highest(release::latest_sequence(clock::now()))
        && highest > sequence
    {
        bail!(
            "a release with the sequence {highest} was published since this one ({sequence}) was \
             signed: hosts refuse this one; sign a new one"
        );
    }
    let now = clock::now();
    let patience = args.follow.patience(file.targets(), file.release().not_before, now);
    let pace = Pace { silence: options.connect_timeout, patience, began };
    let composed = compose::orders(&file);
    let run = delivery::run(&operator, &args.follow, Origin::File, composed, connection, pace);
    let ended = run.await?;
    output::read_or_not(ended.print(operator.file.fleet.id(), options.json))?;
    Ok(ended.exit())
}

/// Writes the orders and nothing else, for hosts that the broker does not reach; prints the files.
fn write(follow: &Follow, composed: &Composed) -> anyhow::Result<ExitCode> {
    let folder = follow.out.as_deref().context("--offline needs --out")?;
    let written = delivery::write_orders(composed, folder)?;
    output::note(
        "nothing is published: `herald-subscriber apply FILE` as root at each host follows its own",
    );
    let lines: Vec<_> = written.iter().map(|path| path.display().to_string()).collect();
    output::line(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

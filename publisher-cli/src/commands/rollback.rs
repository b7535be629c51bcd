//! `herald rollback`.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, bail};
use herald_fleet::recall;
use herald_proto::{
    host::HostId,
    target::{Action, Integrity},
    text::Prose,
};

use crate::{
    cli::{EXIT_CODES, Global},
    connection::Connection,
    release::{self, Follow, Operator, Options, Plan, Survey, preview},
};

/// Publish the system that hosts ran before.
///
/// It is a new release: each host's own latest report says what it ran before, and the host takes
/// it only if it still runs what it reported. A roll back restores software, not data.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// A host that shall run again what it ran before; several, one after the other
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<HostId>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    follow: Follow,
}

pub(crate) async fn run(args: Args, global: &Global, began: Instant) -> anyhow::Result<ExitCode> {
    let Args { hosts, options, follow } = args;
    let operator = Operator::load(global, &options.keys.keys).await?;
    operator.check_enough(&operator.key_ids(), None)?;
    operator.file.require(&hosts)?;
    let (fleet, profile) = (&operator.file.fleet, &options.profile);
    let filters =
        hosts.iter().flat_map(|host| release::filters(fleet, profile, host, follow.watch));
    let (access, within) = (operator.file.access()?, options.connect_timeout);
    let mut connection = Connection::open(access, filters.collect(), within).await?;
    let mut survey =
        Survey::new(&operator, hosts.iter().map(|host| (host, profile)), &mut connection);
    survey.wait_for_reports(&operator, &mut connection).await?;
    let plan = plan(&hosts, &options, &survey)?;
    if options.dry_run {
        connection.close().await;
        return preview::print(&operator, &plan.draft(&operator, &options, None)?, options.json);
    }
    release::send(operator, &options, &follow, plan, survey, connection, began).await
}

fn plan(hosts: &[HostId], options: &Options, survey: &Survey) -> anyhow::Result<Plan> {
    let mut targets = Vec::new();
    for host in hosts {
        let report = survey.report(host, &options.profile)?;
        let way =
            recall::way_back(report).with_context(|| format!("{host} can't be rolled back"))?;
        if !report.phase.is_terminal() && report.phase != herald_proto::report::PhaseName::Idle {
            bail!(
                "{host} is at work on an order ({}): wait for its end; before it activates anything, \
                 `herald publish --action none --host {host}=PATH` takes it back",
                report.phase
            );
        }
        let mut target = options.target(
            host.clone(),
            way.to,
            Action::Switch,
            Integrity::Recorded,
            vec![way.from],
        );
        target.incarnation = options.recover.then_some(report.incarnation);
        targets.push(target);
    }
    let reason = || Prose::lossy("roll back to the previous system");
    let reason = Some(options.reason.clone().unwrap_or_else(reason));
    Ok(Plan { targets, reason, revision: None })
}

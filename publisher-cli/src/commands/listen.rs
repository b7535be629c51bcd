//! `herald listen`.

use std::{process::ExitCode, time::Duration};

use herald_fleet::{
    heard::Heard,
    json::{Line, LogLine},
    outcome::Cause,
    view::FleetView,
};
use herald_proto::{
    host::{HostId, ProfileName},
    report::Report,
    topic::{Filter, Subject},
};

use crate::{
    cli::Global,
    connection::{Arrival, Connection},
    fleet_file::FleetFile,
    output,
    progress::one_line,
    release::printed::lines,
};

/// Print verified reports and roll backs as they come.
///
/// It begins with the latest of each host. A line is written as soon as it is there; when its
/// reader goes away, or on ctrl-c, the command ends with 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen to this host only; again for more [default: all of the fleet file]
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<HostId>,
    /// Which profile of the hosts
    #[arg(long, value_name = "NAME", default_value = "system")]
    profile: ProfileName,
    /// Print what activations, commits and roll backs printed, too
    #[arg(long)]
    logs: bool,
    /// End after so many reports and logs
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Print JSON objects, one on a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let file = FleetFile::load(global)?;
    file.require_hosts()?;
    file.require(&args.hosts)?;
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        ended = listen(args, &file) => ended?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn listen(args: &Args, file: &FleetFile) -> anyhow::Result<()> {
    let fleet = &file.fleet;
    let chosen = |host: &&HostId| args.hosts.is_empty() || args.hosts.contains(host);
    let hosts: Vec<_> = fleet.hosts().filter(chosen).collect();
    let filters = hosts.iter().flat_map(|host| filters(file, host, args)).collect();
    let mut connection = Connection::open(file.access()?, filters, args.connect_timeout).await?;
    let mut view = FleetView::new(args.profile.clone(), hosts);
    let mut left = args.count;
    while left != Some(0) {
        let (topic, payload) = match connection.next().await? {
            Arrival::Message { topic, payload, .. } => (topic, payload),
            Arrival::Lost(why) => {
                output::note(&format!("{why}; trying again"));
                continue;
            }
            Arrival::Back => {
                output::note("connected again");
                continue;
            }
        };
        let heard = match view.observe(fleet, &topic, &payload) {
            Ok(Some(heard)) => heard,
            Ok(None) => continue,
            Err(why) => {
                output::note(&format!("ignored a message on {topic}: {why}"));
                continue;
            }
        };
        match (&heard, args.json) {
            (Heard::Presence(_), _) => continue,
            (Heard::Report(report), true) => output::json(&Line::of(report, false))?,
            (Heard::Rollback(report), true) => output::json(&Line::of(report, true))?,
            (Heard::Log(log), true) => output::json(&LogLine::of(log))?,
            (Heard::Report(report), false) => output::line(&text(report, false))?,
            (Heard::Rollback(report), false) => output::line(&text(report, true))?,
            (Heard::Log(log), false) => {
                for line in lines(log) {
                    output::line(&format!("{}  {line}", log.time))?;
                }
            }
        }
        left = left.map(|left| left - 1);
    }
    connection.close().await;
    Ok(())
}

/// Reports are on two topics: the latest is retained, and every one is an event.
/// Not every login may read logs.
fn filters(file: &FleetFile, host: &HostId, args: &Args) -> Vec<Filter> {
    let subjects = [
        Subject::Status(host.clone(), args.profile.clone()),
        Subject::Rollback(host.clone(), args.profile.clone()),
        Subject::Event(host.clone()),
    ];
    let log = args.logs.then(|| Subject::Log(host.clone()));
    let exactly = |subject| Filter::Exactly(file.fleet.topic(subject));
    subjects.into_iter().chain(log).map(exactly).collect()
}

fn text(report: &Report, rollback: bool) -> String {
    let cause = Cause { code: report.code, detail: report.detail.clone() };
    let kind = if rollback { "roll back: " } else { "" };
    let what = format!("{kind}{}{cause}", report.phase);
    let time = report.time;
    format!("{time}  {}  {}", report.host, one_line(&what))
}

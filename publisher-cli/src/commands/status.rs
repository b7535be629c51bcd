//! `herald status`.

use std::{process::ExitCode, time::Duration};

use herald_fleet::view::{Connection as Presence, FleetView, HostView};
use herald_proto::{
    host::{HostId, ProfileName, UnitName},
    rejection::Code,
    report::Report,
    store_path::StorePath,
    time::Timestamp,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    cli::Global,
    clock,
    connection::{Arrival, Connection},
    fleet_file::FleetFile,
    output,
    progress::one_line,
};

/// Show how every host of the fleet stands.
///
/// Only what a host signed with the key that the fleet file pins is shown as a fact.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which profile of the hosts
    #[arg(long, default_value = "system")]
    profile: ProfileName,
    /// How long to wait for hosts of which the broker has no report
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let file = FleetFile::load(global)?;
    file.require_hosts()?;
    let fleet = &file.fleet;
    let filters = fleet.hosts().flat_map(|host| fleet.reports_of(host, &args.profile)).collect();
    let mut connection = Connection::open(file.access()?, filters, args.connect_timeout).await?;
    let mut view = FleetView::new(args.profile.clone(), fleet.hosts());
    let deadline = Instant::now() + args.wait;
    while !view.is_complete() {
        let Ok(arrival) = timeout_at(deadline, connection.next()).await else {
            break;
        };
        if let Arrival::Message { topic, payload, .. } = arrival? {
            // What can't be verified is shown as such by the view.
            let _ = view.observe(fleet, &topic, &payload);
        }
    }
    connection.close().await;
    let now = clock::now();
    if args.json {
        output::json(&view.to_json(fleet.id(), now))?;
    } else {
        print(&view, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(view: &FleetView, now: Timestamp) -> anyhow::Result<()> {
    let headings = ["HOST", "PRESENCE", "PHASE", "AGE", "RUNNING", "DETAIL"];
    output::table(headings, view.hosts().map(|(host, view)| row(host, view, now)))
}

fn row(host: &HostId, view: &HostView, now: Timestamp) -> [String; 6] {
    let report = view.report();
    [
        host.to_string(),
        match view.connection() {
            Presence::Online => "online",
            Presence::Offline => "offline",
            Presence::Unknown => "unknown",
        }
        .to_owned(),
        report.map_or_else(|| "-".to_owned(), |report| report.phase.to_string()),
        view.age(now).map_or_else(|| "-".to_owned(), clock::short),
        report
            .and_then(|report| report.systems.running.as_ref())
            .map_or("-", StorePath::base_name)
            .to_owned(),
        one_line(&detail(view, report.map(|report| &**report)).join("; ")),
    ]
}

fn detail(view: &HostView, report: Option<&Report>) -> Vec<String> {
    let mut parts: Vec<String> = view.problem().into_iter().collect();
    let Some(report) = report else {
        return parts;
    };
    match (&report.code, &report.detail) {
        (Some(code), Some(detail)) => parts.push(format!("{code}: {detail}")),
        (Some(code), None) => parts.push(code.to_string()),
        (None, Some(detail)) => parts.push(detail.to_string()),
        (None, None) => {}
    }
    // A waiting order says it already, in the same words.
    if let Some(hold) = report.hold.as_ref().filter(|_| report.code != Some(Code::Held)) {
        parts.push(format!("held: {}", hold.reason));
    }
    if let Some(refusal) = &report.refusal {
        parts.push(format!("refused a message: {}: {}", refusal.code, refusal.detail));
    }
    if !report.failed_units.is_empty() {
        let units: Vec<_> = report.failed_units.iter().map(UnitName::as_str).collect();
        parts.push(format!("failed units: {}", units.join(" ")));
    }
    parts
}

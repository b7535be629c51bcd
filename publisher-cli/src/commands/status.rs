//! `herald status`.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use herald_fleet::{
    generations::Generations,
    roster::verify_request,
    view::{Connection as Presence, FleetView, HostView, Suspicion},
};
use herald_proto::{
    host::{HostId, ProfileName, UnitName},
    rejection::Code,
    report::{PhaseName, Report},
    signing::verify_any_order,
    store_path::StorePath,
    time::Timestamp,
    topic::{Filter, Subject},
    trust::Trust,
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
    #[arg(long, value_name = "NAME", default_value = "system")]
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
    let fleet = &file.fleet;
    if fleet.tokens().len() == 0 {
        file.require_hosts()?;
    }
    let trust = file.generations.as_ref().map(Generations::current);
    let freshness = trust.and_then(Trust::freshness);
    // Where beacons tell what is held back, it counts what should have arrived; so that comes first.
    let wanted = |host: &HostId| Subject::Desired(host.clone(), args.profile.clone());
    let orders = fleet.hosts().filter(|_| freshness.is_some());
    let orders = orders.map(|host| Filter::Exactly(fleet.topic(wanted(host))));
    let reports = fleet.hosts().flat_map(|host| fleet.reports_of(host, &args.profile));
    let requests = fleet.tokens().map(|(_, token)| Subject::Enrol(token.key().id()));
    let requests = requests.map(|subject| Filter::Exactly(fleet.topic(subject)));
    let filters = requests.chain(orders).chain(reports).collect();
    let mut connection = Connection::open(file.access()?, filters, args.connect_timeout).await?;
    let mut view = FleetView::new(args.profile.clone(), fleet.hosts()).expect_beacons(freshness);
    let deadline = Instant::now() + args.wait;
    // What is asked for is subscribed to first, and so is there when the hosts' words are.
    let is_complete = |view: &FleetView| {
        view.is_complete()
            && (view.hosts().len() > 0 || view.asking().len() == fleet.tokens().len())
    };
    while !is_complete(&view) {
        let Ok(arrival) = timeout_at(deadline, connection.next()).await else {
            break;
        };
        if let Arrival::Message { topic, payload, .. } = arrival? {
            match (&topic.subject, trust) {
                (Subject::Desired(..), Some(trust)) => {
                    if let Ok(order) = verify_any_order(&payload, trust) {
                        view.order(&order);
                    }
                }
                (Subject::Enrol(token), _) => {
                    let request = fleet
                        .invited(*token)
                        .map(|host| verify_request(fleet, host, &payload, clock::now()));
                    if let Some(Ok(request)) = request {
                        view.asks(&request);
                    }
                }
                // What can't be verified is shown as such by the view.
                _ => drop(view.observe(fleet, &topic, &payload)),
            }
        }
    }
    connection.close().await;
    let now = clock::now();
    if args.json {
        output::json(&view.to_json(fleet.id(), now))?;
    } else {
        print(&view, now)?;
        for (host, _) in fleet.tokens() {
            output::note(&if view.asking().any(|one| one == host) {
                format!("{host} asks to be let in: `herald host enrol {host}`")
            } else {
                format!("{host} has a token, and was not heard to ask yet")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(view: &FleetView, now: Timestamp) -> anyhow::Result<()> {
    let headings = ["HOST", "PRESENCE", "PHASE", "AGE", "RUNNING", "DETAIL"];
    output::table(
        headings,
        view.hosts().map(|(host, of_host)| {
            let suspicion = view.suspicion(of_host, now);
            row(host, of_host, suspicion, now)
        }),
    )?;
    for code in failures(view) {
        output::note(&format!("{code}: {}", code.meaning()));
    }
    Ok(())
}

/// Gives the codes of what failed, was given up or was refused, each once.
fn failures(view: &FleetView) -> BTreeSet<Code> {
    let reports = view.hosts().filter_map(|(_, host)| host.report());
    let codes = reports.flat_map(|report| {
        let went_well = matches!(report.phase, PhaseName::Succeeded | PhaseName::Waiting);
        let refused = report.refusal.as_ref().map(|refusal| refusal.code);
        report.code.filter(|_| !went_well).into_iter().chain(refused)
    });
    codes.collect()
}

fn row(
    host: &HostId,
    view: &HostView,
    suspicion: Option<Suspicion>,
    now: Timestamp,
) -> [String; 6] {
    let report = view.report();
    let suspicion = suspicion.map(|suspicion| suspicion.to_string());
    let details = detail(view, report.map(|report| &**report));
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
        one_line(&suspicion.into_iter().chain(details).collect::<Vec<_>>().join("; ")),
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

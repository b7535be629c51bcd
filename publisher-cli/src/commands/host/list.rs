//! `herald host list`.

use std::{process::ExitCode, time::Duration};

use herald_fleet::roster::{Row, Standing};
use herald_proto::host::{FleetId, HostId};
use serde::Serialize;

use crate::{cli::Global, clock, fleet_file::FleetFile, output, progress::one_line, roster::Board};

/// Show which hosts there are, and which of them ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what the fleet file says, and do not ask the broker
    #[arg(long)]
    offline: bool,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `herald host list --json`.
#[derive(Debug, Serialize)]
struct List<'a> {
    fleet: &'a FleetId,
    hosts: Vec<Row>,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let file = FleetFile::load(global)?;
    let fleet = &file.fleet;
    let names = fleet.hosts().chain(fleet.tokens().map(|(host, _)| host));
    let mut names: Vec<HostId> = names.cloned().collect();
    names.sort();
    names.dedup();
    let trust = file.generations.as_ref().map(|it| it.current().clone());
    // Without any host too: that shows whether one is let in.
    let board = if args.offline {
        None
    } else {
        Some(Board::open(&file, trust.clone(), &names, args.connect_timeout).await?)
    };
    let now = clock::now();
    let rows = names.iter().map(|host| {
        let on_broker = board.as_ref().map(|board| board.of(host));
        let mut row = Row::of(&file.fleet, host, on_broker, now);
        // Whose signatures count is not known.
        row.announced = row.announced.filter(|_| trust.is_some());
        row
    });
    let rows: Vec<_> = rows.collect();
    if args.json {
        output::json(&List { fleet: fleet.id(), hosts: rows })?;
    } else {
        output::table(["HOST", "STANDING", "FINGERPRINT", "DETAIL"], rows.iter().map(row))?;
        if rows.is_empty() {
            output::note("there are no hosts yet: `herald host token NAME` invites one");
        }
    }
    if let Some(board) = board {
        board.close().await;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(row: &Row) -> [String; 4] {
    let mut details = Vec::new();
    if let Some(asked) = &row.request {
        details.push(format!("asks with {}: herald host enrol {}", asked.fingerprint, row.host));
    }
    details.extend(row.request_problem.clone());
    match (row.standing, row.token_expires_at) {
        (Standing::Expired, Some(at)) => details.push(format!("its token expired at {at}")),
        (Standing::Invited | Standing::Rotating, Some(at)) => {
            details.push(format!("may ask until {at}"));
        }
        _ => {}
    }
    if row.announced == Some(false) {
        details.push("not announced".to_owned());
    }
    let standing = match row.standing {
        Standing::Member => "member",
        Standing::Rotating => "rotating",
        Standing::Invited => "invited",
        Standing::Asking => "asking",
        Standing::Expired => "expired",
    };
    [
        row.host.to_string(),
        standing.to_owned(),
        row.fingerprint.clone().unwrap_or_else(|| "-".to_owned()),
        one_line(&details.join("; ")),
    ]
}

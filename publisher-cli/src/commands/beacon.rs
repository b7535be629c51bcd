//! `herald beacon`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use herald_client::{Delivery, Message, Undelivered};
use herald_proto::{WIRE_VERSION, beacon::Beacon, signing::sign_beacon, topic::Subject};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    cli::Global,
    clock,
    connection::{Arrival, Connection},
    fleet_file::FleetFile,
    keys::{self, KeySource},
    output,
};

/// On how many connections the broker may refuse the first beacon.
const MOST_UNTAKEN: u32 = 3;
const NOT_ROLLOUT: &str = "the broker takes no beacon: does this login stand in [rollouts] of its \
     file of logins? --login-key says which key logs in";

/// Publish the fleet's beacon, again and again.
///
/// Where the trust file has [freshness], hosts take orders only while a beacon comes at least every
/// two intervals: so no broker can hold newer orders back unnoticed. It is signed by the keys of
/// [rollout]. Several machines may send it at once; the latest counts. Ctrl-c ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A secret key of [rollout]; again for more: a file, env:VARIABLE or credential:NAME
    /// [default: the only one in the user's keys]
    #[arg(long = "key", value_name = "SOURCE")]
    keys: Vec<KeySource>,
    /// Publish one, and end
    #[arg(long)]
    once: bool,
    /// How long connecting, and one delivery with --once, may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let file = FleetFile::load(global)?;
    let trust = file.require_trust()?;
    let keys = keys::secrets(&args.keys)?;
    trust.check_conductors(&keys.iter().map(|key| key.public()).collect::<Vec<_>>())?;
    let every = match trust.current().freshness() {
        Some(freshness) => freshness.interval(),
        None if args.once => Duration::ZERO,
        None => bail!("the trust file has no [freshness] interval: no host waits for beacons"),
    };
    let mut connection = Connection::open(file.access()?, Vec::new(), args.connect_timeout).await?;
    let sign = || {
        let fleet = file.fleet.id().clone();
        let beacon = Beacon { version: WIRE_VERSION, fleet, issued_at: clock::now() };
        let payload = sign_beacon(&beacon, &keys.iter().map(|key| &**key).collect::<Vec<_>>());
        Message::new(file.fleet.topic(Subject::Beacon), payload)
    };
    if args.once {
        let delivery = timeout(args.connect_timeout, connection.client.publish(sign())).await;
        match delivery.context("the broker did not acknowledge the beacon in time")? {
            Err(why @ Undelivered::Refused { .. }) => return Err(why).context(NOT_ROLLOUT),
            fate => fate?,
        }
        connection.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!("a beacon every {}; ctrl-c ends it", clock::span(every)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut turns = interval(every);
    // After a suspend one is enough.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delivery: Option<Delivery> = None;
    // While none was ever taken: how many connections the broker ended instead.
    let (mut is_connected, mut untaken) = (true, Some(0));
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            arrival = connection.next() => match arrival? {
                Arrival::Lost(why) => {
                    if std::mem::take(&mut is_connected) {
                        untaken = untaken.map(|connections| connections + 1);
                    }
                    if untaken == Some(MOST_UNTAKEN) {
                        return Err(anyhow!(why)).context(NOT_ROLLOUT);
                    }
                    output::note(&format!("{why}; trying again"));
                }
                Arrival::Back => {
                    is_connected = true;
                    output::note("connected again");
                }
                Arrival::Message { .. } => {}
            },
            fate = fate(&mut delivery) => {
                delivery = None;
                if fate.is_ok() {
                    untaken = None;
                }
            }
            // The client keeps the latest for as long as there is no connection.
            _ = turns.tick() => delivery = Some(connection.client.publish(sign())),
        }
    }
    connection.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for what becomes of a beacon, for ever where none is on its way.
async fn fate(delivery: &mut Option<Delivery>) -> Result<(), Undelivered> {
    match delivery {
        Some(delivery) => delivery.await,
        None => std::future::pending().await,
    }
}

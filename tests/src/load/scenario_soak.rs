//! Soak: what a long life does, in a short time: fan-outs, connections, and changing filters, and
//! how much the broker's memory grew by each.

use super::{
    failure::Failure,
    names, packet, scenario_fanout,
    session::{Heard, News},
    settings::{Settings, Side},
    stage::{Stage, clean_session},
    stats::Random,
    swarm::{Part, Swarm},
    table::Ledger,
};

const FANOUTS: u32 = 1_000;
const TURNS: usize = 100_000;
/// Clients that connect, or change their filters, at once.
const AT_ONCE: usize = 100;

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A new client connects, subscribes and leaves.
    Connections,
    /// A client subscribes to something new, and unsubscribes.
    Filters,
}

/// Clients that do something again and again, each time with another name or filter.
struct Churn {
    what: What,
    first: usize,
    total: usize,
    started: usize,
    done: usize,
    /// Clients that are to start their next, with the filter that they have.
    free: Vec<usize>,
    subscribed: Vec<(usize, String)>,
    filters: Vec<String>,
}

impl Churn {
    fn new(what: What, first: usize, total: usize) -> Self {
        let free = (first..first + AT_ONCE).collect();
        let filters = vec![String::new(); AT_ONCE];
        Self { what, first, total, started: 0, done: 0, free, subscribed: vec![], filters }
    }
}

impl Part for Churn {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let Some(place) = heard.client.checked_sub(self.first).filter(|at| *at < AT_ONCE) else {
            return Ok(());
        };
        match (self.what, &heard.news) {
            (What::Connections, News::Ready { .. }) | (What::Filters, News::Unsubscribed) => {
                self.done += 1;
                self.free.push(heard.client);
            }
            (What::Filters, News::Subscribed) => {
                self.subscribed.push((heard.client, std::mem::take(&mut self.filters[place])));
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        for (client, filter) in self.subscribed.drain(..) {
            swarm.send(client, |out| packet::unsubscribe(out, &filter, 3));
        }
        for client in std::mem::take(&mut self.free) {
            if self.what == What::Connections {
                swarm.close(client);
            }
            if self.started == self.total {
                continue;
            }
            let number = self.started;
            self.started += 1;
            let filter = format!("herald/v1/{}/rollback/churn-{number}/system", names::FLEET);
            match self.what {
                What::Connections => {
                    let session = clean_session(&format!("churn-{number}"), &[&filter]);
                    swarm.set_session(client, session);
                    let name = swarm.name(client).to_owned();
                    swarm.open(client).map_err(Failure::system(format!("connect {name}")))?;
                }
                What::Filters => {
                    swarm.send(client, |out| packet::subscribe(out, &[&filter], 2));
                    self.filters[client - self.first] = filter;
                }
            }
        }
        Ok(self.done == self.total)
    }

    fn missing(&self) -> String {
        format!("{:?}: {} of {} were done", self.what, self.done, self.total)
    }
}

/// Measures how much our broker's memory grows.
pub(crate) fn run(settings: &Settings, side: Side, ledger: &mut Ledger) -> Result<(), Failure> {
    let mut stage = Stage::start(settings, side, 1200)?;
    stage.connect_hosts()?;
    let mut random = Random::new(settings.seed);
    // The first of each fills buffers that stay; growth is what comes after.
    for _ in 0..10 {
        scenario_fanout::once(&mut stage, &mut random)?;
    }
    let first = stage.swarm.add(clean_session("churn", &[]));
    for _ in 1..AT_ONCE {
        stage.swarm.add(clean_session("churn", &[]));
    }
    churn(&mut stage, What::Connections, first, TURNS / 50)?;
    let at_first = stage.broker.resident_kib()?;
    let mut before = at_first;
    let mut grown = |stage: &Stage<'_>, ledger: &mut Ledger, name| -> Result<(), Failure> {
        let now = stage.broker.resident_kib()?;
        ledger.add(side, name, now - before);
        stage.say(format_args!("{name}: {:.0}", now - before));
        before = now;
        Ok(())
    };

    for _ in 0..FANOUTS * settings.soak_percent / 100 {
        scenario_fanout::once(&mut stage, &mut random)?;
    }
    grown(&stage, ledger, "soak_fanouts_rss_growth_kib")?;
    let turns = TURNS * settings.soak_percent as usize / 100;
    churn(&mut stage, What::Connections, first, turns)?;
    grown(&stage, ledger, "soak_connections_rss_growth_kib")?;

    for client in 0..AT_ONCE {
        stage.swarm.set_session(first + client, clean_session(&format!("filters-{client}"), &[]));
    }
    let clients = (first..first + AT_ONCE).collect();
    stage.connect(clients, "clients with changing filters to connect")?;
    churn(&mut stage, What::Filters, first, turns)?;
    grown(&stage, ledger, "soak_filters_rss_growth_kib")?;
    ledger.add(side, "soak_rss_growth_kib", stage.broker.resident_kib()? - at_first);
    Ok(())
}

fn churn(stage: &mut Stage<'_>, what: What, first: usize, total: usize) -> Result<(), Failure> {
    // In pieces, so that the limit on each is a sensible one.
    const PIECE: usize = 10_000;
    let mut left = total;
    while left > 0 {
        let mut churn = Churn::new(what, first, left.min(PIECE));
        stage.play(&mut churn, "clients that come and go")?;
        left -= left.min(PIECE);
    }
    stage.rest(&mut |_| Ok(()))
}

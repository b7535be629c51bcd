//! Connecting: CONNECT and, once that was answered, SUBSCRIBE, for many clients at once.

use super::{
    failure::Failure,
    session::{Heard, News},
    stage::Stage,
    swarm::{Part, Swarm},
    table::Ledger,
};

/// Handshakes of clients, some at a time.
pub(crate) struct Handshakes {
    clients: Vec<usize>,
    at_once: usize,
    opened: usize,
    ready: usize,
}

impl Handshakes {
    /// Plans to connect clients.
    pub(crate) fn new(clients: Vec<usize>, at_once: usize) -> Self {
        Self { clients, at_once, opened: 0, ready: 0 }
    }
}

impl Part for Handshakes {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.ready += usize::from(matches!(heard.news, News::Ready { .. }));
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        while self.opened < self.clients.len() && self.opened - self.ready < self.at_once {
            let client = self.clients[self.opened];
            swarm.open(client).map_err(|error| {
                Failure::system(format!("connect {}", swarm.name(client)))(error)
            })?;
            self.opened += 1;
        }
        Ok(self.ready == self.clients.len())
    }

    fn missing(&self) -> String {
        let (opened, ready) = (self.opened, self.ready);
        format!("{} of {opened} that tried have no CONNACK and SUBACK", opened - ready)
    }
}

/// Connects all hosts, and measures the time and the memory that it takes.
pub(crate) fn run(stage: &mut Stage<'_>, ledger: &mut Ledger) -> Result<(), Failure> {
    let before = stage.broker.resident_kib()?;
    let began = stage.broker.processor_time()?;
    let time = stage.connect_hosts()?;
    stage.rest(&mut |_| Ok(()))?;
    let processor = stage.broker.processor_time()?.saturating_sub(began);
    let each = (stage.broker.resident_kib()? - before) / stage.hosts as f64;
    ledger.time(stage.side, "connect_ms", time);
    ledger.time(stage.side, "connect_cpu_ms", processor);
    ledger.add(stage.side, "rss_start_kib", before);
    ledger.add(stage.side, "rss_per_connection_kib", each);
    stage.say(format_args!(
        "connected and subscribed {} in {time:.0?}, {each:.2} KiB each",
        stage.hosts
    ));
    Ok(())
}

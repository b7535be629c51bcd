//! A restart: our broker is stopped, or killed, with all hosts connected, and starts again on what
//! it stored. Hosts come back with jitter, and every status that was acknowledged, three of each host,
//! is there.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    failure::Failure,
    names,
    scenario_retained::Statuses,
    session::{Heard, News},
    settings::{Settings, Side},
    stage::{Stage, clean_session},
    stats::{Random, millis},
    swarm::{Part, Swarm},
    table::Ledger,
};

/// The least that a host waits before it connects again.
const LEAST: Duration = Duration::from_millis(100);
/// The most that it waits the first time; the most doubles with each failure up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How often the first client tries, to see when the broker is back.
const PROBE: Duration = Duration::from_millis(5);

/// How the broker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
}

/// Hosts that come back.
struct Return {
    hosts: usize,
    probe: usize,
    random: Random,
    /// When which client tries next.
    plan: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The most that each host waits next.
    most: Vec<Duration>,
    probe_greeted: Option<Instant>,
    back: usize,
    last: Instant,
    attempts: usize,
}

impl Return {
    fn new(hosts: usize, probe: usize, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            hosts,
            probe,
            random: Random::new(seed),
            plan: BinaryHeap::from([Reverse((now, probe))]),
            most: vec![FIRST; hosts],
            probe_greeted: None,
            back: 0,
            last: now,
            attempts: 0,
        }
    }

    fn retry(&mut self, client: usize, now: Instant) {
        let wait = match self.most.get_mut(client) {
            Some(most) => {
                let wait = self.random.between(LEAST, *most);
                *most = (*most * 2).min(LONGEST);
                wait
            }
            None if client == self.probe => PROBE,
            None => return,
        };
        self.plan.push(Reverse((now + wait, client)));
    }
}

impl Part for Return {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        match heard.news {
            News::Closed => self.retry(heard.client, heard.at),
            News::Ready { .. } if heard.client == self.probe => self.probe_greeted = Some(heard.at),
            News::Ready { .. } if heard.client < self.hosts => {
                self.back += 1;
                self.last = heard.at;
            }
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        let now = Instant::now();
        while let Some(&Reverse((at, client))) = self.plan.peek()
            && at <= now
        {
            self.plan.pop();
            self.attempts += usize::from(client != self.probe);
            if swarm.open(client).is_err() {
                self.retry(client, now);
            }
        }
        if let Some(Reverse((at, _))) = self.plan.peek() {
            swarm.wake_at(*at);
        }
        Ok(self.probe_greeted.is_some() && self.back == self.hosts)
    }

    fn missing(&self) -> String {
        let (left, planned) = (self.hosts - self.back, self.plan.len());
        format!("{left} hosts are not back, {planned} of them wait to try again")
    }
}

/// Stops our broker once, kills it once, and measures the hosts' return.
pub(crate) fn run(settings: &Settings, ledger: &mut Ledger) -> Result<(), Failure> {
    end_and_start(settings, ledger, End::Stopped)?;
    end_and_start(settings, ledger, End::Killed)
}

fn end_and_start(settings: &Settings, ledger: &mut Ledger, end: End) -> Result<(), Failure> {
    let mut stage = Stage::start(settings, Side::Ours, 300)?;
    let side = stage.side;
    stage.connect_hosts()?;
    stage.rest(&mut |_| Ok(()))?;
    let statuses = Statuses::new(stage.hosts * names::PROFILES.len(), settings.seed);
    // A broker that is killed is killed right after the last PUBACK: what was acked must be stored.
    statuses.publish(&mut stage)?;
    let probe = stage.swarm.add(clean_session("probe", &[]));
    stage.swarm.is_tolerant = true;
    let signal = if end == End::Killed { Signal::KILL } else { Signal::TERM };
    let stopped = stage.broker.end(signal)?;
    // Hosts see it only now: their waiting begins when the broker is already on its way back.
    let began = Instant::now();
    stage.broker.start_again()?;
    let mut back = Return::new(stage.hosts, probe, settings.seed);
    stage.play(&mut back, "all hosts to come back")?;
    let first = back.probe_greeted.unwrap_or(began).duration_since(began);
    let all = back.last.duration_since(began);
    let per_host = back.attempts as f64 / stage.hosts as f64;
    stage.swarm.is_tolerant = false;
    stage.swarm.close(probe);
    stage.connect(vec![stage.publisher], "the publisher to connect again")?;
    stage.rest(&mut |_| Ok(()))?;
    statuses.collect(&mut stage)?;
    let names = match end {
        End::Stopped => {
            ledger.time(side, "restart_stop_ms", stopped);
            ["restart_first_connack_ms", "restart_all_back_s", "restart_attempts_per_host"]
        }
        End::Killed => ["kill_first_connack_ms", "kill_all_back_s", "kill_attempts_per_host"],
    };
    ledger.time(side, names[0], first);
    ledger.add(side, names[1], all.as_secs_f64());
    ledger.add(side, names[2], per_host);
    ledger.add(side, "restart_statuses_kept", statuses.count as f64);
    stage.say(format_args!(
        "{end:?} and started: first CONNACK after {:.0} ms, all back after {all:.1?}, \
         {per_host:.2} attempts each, all {} statuses kept",
        millis(first),
        statuses.count
    ));
    Ok(())
}

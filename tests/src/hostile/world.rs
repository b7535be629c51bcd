//! One fleet at the lying broker, and the judges.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use herald_proto::key::SecretKey;
use serde_json::Value;

use super::broker::{EvilBroker, Mischief};
use crate::{
    crash::Rng,
    fleet::{Fleet, NAME, Ports},
    forge::Forgery,
    process::Process,
    wait::wait_for,
};

const HOSTS: [&str; 2] = ["alpha", "beta"];
/// How many systems each host has, which take turns.
const RING: usize = 8;
/// The interval of beacons.
const INTERVAL: Duration = Duration::from_secs(2);
/// What may come on top of two intervals: the spread of heartbeats (a quarter of an interval), and
/// the time that `herald status` takes on a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);
/// How long a host may take once the broker behaves.
const RECOVERY: Duration = Duration::from_secs(30);
/// What a host runs after activating: it keeps a journal that the subscriber knows nothing of.
const JOURNAL: &str = r#"echo "$TOPLEVEL" >>"$ROOT/activations""#;

/// A deliberate mistake, for the judges to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Somebody signs what no operator wanted with an operator's key.
    SignsPoison,
    /// The broker never behaves again.
    HoldsForEver,
}

/// How a seed went.
#[derive(Debug, Default)]
pub struct Outturn {
    /// Activations that no operator asked for.
    pub unauthorised: Vec<String>,
    /// Hosts that neither ended nor said why they wait.
    pub stuck: Vec<String>,
    /// Everything else that must not be.
    pub wrong: Vec<String>,
    /// How many systems were activated.
    pub activations: u64,
    /// How long until a freeze was seen.
    pub freeze: Option<Duration>,
    /// How long until an order held back was seen.
    pub withheld: Option<Duration>,
    /// What the broker did.
    pub trace: Vec<String>,
}

impl Outturn {
    /// Gives everything that must not be, in words.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.unauthorised.iter().chain(&self.stuck).chain(&self.wrong)
    }

    /// Tells whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.faults().next().is_none()
    }

    /// Adds how another seed went, by its number.
    pub fn add(&mut self, seed: u64, other: Self) {
        let named = |faults: Vec<String>| {
            faults.into_iter().map(move |fault| format!("seed {seed}: {fault}"))
        };
        self.activations += other.activations;
        self.unauthorised.extend(named(other.unauthorised));
        self.stuck.extend(named(other.stuck));
        self.wrong.extend(named(other.wrong));
        self.freeze = self.freeze.max(other.freeze);
        self.withheld = self.withheld.max(other.withheld);
    }
}

/// A fleet that many seeds use.
pub struct World {
    fleet: Fleet,
    broker: EvilBroker,
    _beacon: Process,
    systems: BTreeMap<&'static str, Vec<String>>,
    poison: BTreeMap<&'static str, String>,
    /// How many lines of each journal were judged.
    judged: BTreeMap<&'static str, usize>,
    turn: usize,
    /// What each host was last ordered to run.
    wanted: BTreeMap<&'static str, String>,
}

impl World {
    /// Makes the fleet.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn start() -> Self {
        let broker = EvilBroker::start().expect("a port of loopback");
        let ports = Ports { hosts: broker.port(), operator: broker.port() };
        let mut fleet = Fleet::without_hosts_at(NAME, ports);
        let made =
            fleet.herald(&["key", "generate", "conductor", "--out", &fleet.path("conductor.key")]);
        assert_eq!(made.code, Some(0), "{made:?}");
        let file = fleet.path("trust.toml");
        let release = fs::read_to_string(&file).expect("the trust file");
        let rollout = format!("[rollout]\nthreshold = 1\nkeys = [{:?}]\n", made.stdout.trim());
        let freshness = format!("[freshness]\ninterval = \"{}s\"\n", INTERVAL.as_secs());
        fs::write(&file, format!("{release}{rollout}{freshness}")).expect("a trust file");
        let (mut systems, mut poison) = (BTreeMap::new(), BTreeMap::new());
        for host in HOSTS {
            fleet.add_host(host);
            let built: Vec<String> = (1..=RING + 1)
                .map(|n| fleet.build(host, &n.to_string(), &[("hook", JOURNAL)]))
                .collect();
            fleet.push(&built.iter().map(String::as_str).collect::<Vec<_>>());
            systems.insert(host, built[..RING].to_vec());
            poison.insert(host, built[RING].clone());
        }
        let file = fleet.path("fleet.toml");
        let hosts = fs::read_to_string(&file).expect("the fleet file");
        fs::write(&file, format!("trust = \"trust.toml\"\n{hosts}")).expect("a fleet file");
        let mut command = fleet.herald_command(&["beacon", "--key", &fleet.path("conductor.key")]);
        let beacon = Process::start(&mut command, fleet.path("beacon.log").as_ref());
        for host in HOSTS {
            fleet.start_subscriber(host);
        }
        let wanted = HOSTS.map(|host| (host, fleet.host(host).first_system.clone())).into();
        let judged = HOSTS.map(|host| (host, 0)).into();
        Self { fleet, broker, _beacon: beacon, systems, poison, judged, turn: 0, wanted }
    }

    /// Runs a seed, and judges.
    pub fn run(&mut self, seed: u64, mutant: Option<Mutant>) -> Outturn {
        let mut rng = Rng::new(Rng::mixed(seed, 1));
        let mut out = Outturn::default();
        self.broker.seed(seed);
        let mut allowed: BTreeMap<&str, Vec<String>> =
            self.wanted.iter().map(|(host, system)| (*host, vec![system.clone()])).collect();
        match rng.below(10) {
            0 => self.freeze(&mut out, &mut allowed),
            1 => self.withhold(rng.choose(&HOSTS), &mut out, &mut allowed),
            _ => self.chaos(&mut rng, &mut out, &mut allowed),
        }
        match mutant {
            Some(Mutant::SignsPoison) => {
                let key = self.secret("operator.key");
                let forged = Forgery::new("alpha", &self.poison["alpha"]).seal(&[&key]);
                self.broker.recover();
                self.broker.publish(&format!("herald/v1/{NAME}/desired/alpha/system"), &forged);
                self.wanted.insert("alpha", self.poison["alpha"].clone());
            }
            Some(Mutant::HoldsForEver) => {
                self.broker.turn(Mischief::Withhold("alpha".into()));
                self.publish(&mut out, &mut allowed);
            }
            None => {
                if rng.below(2) == 0 {
                    self.broker.cut();
                }
                self.broker.recover();
            }
        }
        self.judge_stuck(&mut out);
        self.judge_journals(&mut out, &allowed);
        self.judge_processes(&mut out);
        self.broker.recover();
        out.trace = self.broker.trace();
        out
    }

    fn chaos(
        &mut self,
        rng: &mut Rng,
        out: &mut Outturn,
        allowed: &mut BTreeMap<&str, Vec<String>>,
    ) {
        self.broker.turn(Mischief::Chaos);
        for _ in 0..1 + rng.below(2) {
            self.publish(out, allowed);
            for _ in 0..1 + rng.below(3) {
                let (host, other) =
                    if rng.below(2) == 0 { (HOSTS[0], HOSTS[1]) } else { (HOSTS[1], HOSTS[0]) };
                let topic = format!("herald/v1/{NAME}/desired/{host}/system");
                match rng.below(5) {
                    0 => self.broker.replay(1 + rng.below(12)),
                    1 => {
                        let of_other = format!("herald/v1/{NAME}/desired/{other}/system");
                        let order = self.broker.truth(&of_other).unwrap_or_default();
                        self.broker.invent(&topic, &order);
                    }
                    2 => {
                        let stranger = SecretKey::from_seed(
                            "operator".parse().expect("a key's name"),
                            &[9; 32],
                        )
                        .expect("a usable seed");
                        let forged = Forgery::new(host, &self.poison[host]).seal(&[&stranger]);
                        self.broker.invent(&topic, &forged);
                    }
                    3 => {
                        let key = self.secret("conductor.key");
                        let forged = Forgery::new(host, &self.poison[host]).seal(&[&key]);
                        self.broker.invent(&topic, &forged);
                    }
                    _ => self.broker.cut(),
                }
            }
            if rng.below(3) == 0 {
                self.broker.lie_to_operators(true);
                let shown = self.status();
                self.broker.lie_to_operators(false);
                self.judge_shown(&shown, out, allowed);
            }
        }
    }

    fn freeze(&mut self, out: &mut Outturn, allowed: &mut BTreeMap<&str, Vec<String>>) {
        self.settle_hearing();
        self.broker.turn(Mischief::Freeze);
        let began = Instant::now();
        let kinds = HOSTS.map(|host| (host, "stale"));
        out.freeze = self.notice(&kinds, began, out);
        self.publish(out, allowed);
    }

    fn withhold(
        &mut self,
        host: &str,
        out: &mut Outturn,
        allowed: &mut BTreeMap<&str, Vec<String>>,
    ) {
        self.settle_hearing();
        self.broker.turn(Mischief::Withhold(host.to_owned()));
        self.publish(out, allowed);
        out.withheld = self.notice(&[(host, "withheld")], Instant::now(), out);
    }

    /// Waits until every host hears beacons, so that what is measured begins then.
    fn settle_hearing(&self) {
        wait_for("the hosts to hear beacons", || {
            let shown = self.status();
            let calm = |host| {
                shown
                    .get(host)
                    .is_some_and(|one| one["suspicion"].is_null() && one["beacon_ms"].is_u64())
            };
            HOSTS.into_iter().all(calm).then_some(())
        });
    }

    /// Waits until `herald status` suspects what it should.
    fn notice(
        &self,
        kinds: &[(&str, &str)],
        began: Instant,
        out: &mut Outturn,
    ) -> Option<Duration> {
        let bound = INTERVAL * 2 + SLACK;
        loop {
            let shown = self.status();
            let took = began.elapsed();
            let suspected = |(host, kind): &(&str, &str)| {
                shown.get(*host).is_some_and(|one| one["suspicion"]["kind"] == *kind)
            };
            if kinds.iter().all(suspected) {
                if took > bound {
                    out.wrong.push(format!("{kinds:?} was noticed only after {took:?}"));
                }
                return Some(took);
            }
            if took > bound * 3 {
                out.wrong.push(format!("{kinds:?} was not noticed within {took:?}: {shown:?}"));
                return None;
            }
        }
    }

    /// Orders the next system of each host.
    fn publish(&mut self, out: &mut Outturn, allowed: &mut BTreeMap<&str, Vec<String>>) {
        let key = self.fleet.path("operator.key");
        let mut arguments: Vec<String> =
            ["publish", "--key", &key, "--stable-for", "0s", "--confirm-within", "10s"]
                .map(str::to_owned)
                .into();
        self.turn += 1;
        for host in HOSTS {
            let system = self.systems[host][self.turn % RING].clone();
            arguments.extend(["--host".into(), format!("{host}={system}")]);
            self.wanted.insert(host, system.clone());
            allowed.entry(host).or_default().push(system);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let published = self.fleet.herald(&arguments);
        if published.code != Some(0) {
            out.wrong.push(format!("an operator could not publish: {published:?}"));
        }
    }

    fn status(&self) -> BTreeMap<String, Value> {
        let said = self.fleet.herald(&["status", "--json"]);
        let value: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let hosts = value["hosts"].as_array().cloned().unwrap_or_default();
        let named = |one: Value| Some((one["host"].as_str()?.to_owned(), one));
        hosts.into_iter().filter_map(named).collect()
    }

    /// No host is stuck: each runs what was wanted last, ended otherwise, or says why it waits.
    fn judge_stuck(&self, out: &mut Outturn) {
        let began = Instant::now();
        let settled = |shown: &BTreeMap<String, Value>, host: &str| {
            shown.get(host).is_some_and(|one| {
                one["running"] == *self.wanted[host]
                    && one["phase"] == "succeeded"
                    && one["presence"] == "online"
                    && one["problem"].is_null()
            })
        };
        let mut shown = self.status();
        while began.elapsed() < RECOVERY && !HOSTS.iter().all(|host| settled(&shown, host)) {
            shown = self.status();
        }
        for host in HOSTS.into_iter().filter(|host| !settled(&shown, host)) {
            out.stuck.push(format!(
                "{host} should run {}, and {:?} after the broker behaved is {}",
                self.wanted[host],
                began.elapsed(),
                shown.get(host).map_or_else(|| "not shown".to_owned(), Value::to_string)
            ));
        }
    }

    /// A host ran only what was ordered, in the order in which it was.
    fn judge_journals(&mut self, out: &mut Outturn, allowed: &BTreeMap<&str, Vec<String>>) {
        for host in HOSTS {
            let journal = self.journal(host);
            let news = &journal[self.judged[host].min(journal.len())..];
            let mut at = 0;
            for system in news {
                match allowed[host].iter().position(|one| one == system) {
                    Some(place) if place >= at => at = place,
                    Some(_) => out
                        .unauthorised
                        .push(format!("{host} ran the older {system} after a newer one: {news:?}")),
                    None => out
                        .unauthorised
                        .push(format!("{host} ran {system}, which nobody ordered: {news:?}")),
                }
            }
            out.activations += news.len() as u64;
            self.judged.insert(host, journal.len());
        }
    }

    /// What is shown as verified is what the host did.
    fn judge_shown(
        &self,
        shown: &BTreeMap<String, Value>,
        out: &mut Outturn,
        allowed: &BTreeMap<&str, Vec<String>>,
    ) {
        for host in HOSTS {
            let Some(running) = shown.get(host).and_then(|one| one["running"].as_str()) else {
                continue;
            };
            let ran = self.journal(host);
            let first = &self.fleet.host(host).first_system;
            let known = running == first || ran.iter().any(|one| one == running);
            if !known && !allowed[host].iter().any(|one| one == running) {
                out.wrong.push(format!("status shows that {host} runs {running}: it never did"));
            }
        }
    }

    fn judge_processes(&mut self, out: &mut Outturn) {
        let secrets = ["operator.key", "conductor.key"].map(|key| {
            let text = fs::read_to_string(self.fleet.path(key)).unwrap_or_default();
            text.split(':').next_back().unwrap_or_default().trim().to_owned()
        });
        for host in HOSTS {
            if !self.fleet.host_mut(host).subscriber().is_running() {
                out.wrong.push(format!("the subscriber of {host} died"));
            }
            let log = self.fleet.host(host).log();
            if log.contains("panicked") {
                out.wrong.push(format!("the subscriber of {host} panicked"));
            }
            let tells = |secret: &String| !secret.is_empty() && log.contains(secret.as_str());
            if secrets.iter().any(tells) {
                out.wrong.push(format!("the log of {host} has a secret key"));
            }
        }
    }

    fn journal(&self, host: &str) -> Vec<String> {
        let file = self.fleet.path(&format!("hosts/{host}/root/activations"));
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn secret(&self, file: &str) -> SecretKey {
        let text = fs::read_to_string(self.fleet.path(file)).expect("a key file");
        text.trim().parse().expect("a secret key")
    }
}

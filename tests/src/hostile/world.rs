//! One fleet at the lying broker, and what its operators and its onlookers do.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    thread,
    time::{Duration, Instant},
};

use herald_proto::{
    host::{FleetId, HostId, ProfileName},
    key::{PublicKey, SecretKey},
    order::Order,
    presence::{Liveness, Presence},
    report::Report,
    signing::{HostMessage, verify_any_order, verify_from_host},
    topic::{Subject, Topic},
    trust::Trust,
};
use serde_json::Value;

use super::{
    broker::EvilBroker,
    judge::Place,
    ledger::{Entry, Ledger},
    outturn::Outturn,
};
use crate::{
    fleet::{Fleet, NAME, Ports},
    process::Process,
    wait::wait_for,
};

pub(super) const HOSTS: [&str; 2] = ["alpha", "beta"];
/// The interval of beacons.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// How many systems each host has, which take turns.
const RING: usize = 5;
/// A fleet that many seeds use.
pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) broker: EvilBroker,
    pub(super) hosts: BTreeMap<&'static str, OneHost>,
    _beacon: Process,
    id: FleetId,
    trust: Trust,
    turn: usize,
    /// How long hosts may take once the broker behaves.
    patience: Duration,
}

/// What is known of a host beside what it says itself.
pub(super) struct OneHost {
    pub(super) poison: String,
    pub(super) ledger: Ledger,
    name: HostId,
    key: PublicKey,
    systems: Vec<String>,
    journal: Tail,
    log: Tail,
}

/// How far a file was read that something else writes.
struct Tail {
    path: String,
    read: u64,
}

impl World {
    /// Makes the fleet.
    ///
    /// # Panics
    /// When it can't be made.
    pub(super) fn start(patience: Duration) -> Self {
        let broker = EvilBroker::start().expect("a port of loopback");
        let ports = Ports { hosts: broker.port(), operator: broker.port() };
        let mut fleet = Fleet::without_hosts_at(NAME, ports);
        let key = fleet.path("conductor.key");
        let made = fleet.herald(&["key", "generate", "conductor", "--out", &key]);
        assert_eq!(made.code, Some(0), "{made:?}");
        let file = fleet.path("trust.toml");
        let release = fs::read_to_string(&file).expect("the trust file");
        let rollout = format!("[rollout]\nthreshold = 1\nkeys = [{:?}]\n", made.stdout.trim());
        let freshness = format!("[freshness]\ninterval = \"{}s\"\n", INTERVAL.as_secs());
        let trust = format!("{release}{rollout}{freshness}");
        fs::write(&file, &trust).expect("a trust file");
        let trust = Trust::from_toml(&trust).expect("a usable trust file");
        let hosts = HOSTS.map(|host| (host, OneHost::add(&mut fleet, host))).into();
        let file = fleet.path("fleet.toml");
        let text = fs::read_to_string(&file).expect("the fleet file");
        fs::write(&file, format!("trust = \"trust.toml\"\n{text}")).expect("a fleet file");
        let mut command = fleet.herald_command(&["beacon", "--key", &key]);
        let beacon = Process::start(&mut command, fleet.path("beacon.log").as_ref());
        for host in HOSTS {
            fleet.start_subscriber(host);
        }
        let id = NAME.parse().expect("a fleet name");
        Self { fleet, broker, hosts, _beacon: beacon, id, trust, turn: 0, patience }
    }

    /// Kills a host's subscriber and starts it again, which forgets how often it was cut off.
    pub(super) fn restart(&mut self, host: &'static str) {
        let before = self.presence(host).map_or(0, |presence| presence.session);
        self.fleet.host_mut(host).subscriber().kill();
        self.fleet.spawn_subscriber(host);
        wait_for(&format!("{host} to come back"), || {
            let now = self.presence(host)?;
            (now.session > before && now.liveness == Liveness::Online).then_some(())
        });
    }

    /// Orders the next system of each host.
    pub(super) fn publish(&mut self, out: &mut Outturn) {
        let key = self.fleet.path("operator.key");
        let mut arguments: Vec<String> =
            ["publish", "--key", &key, "--stable-for", "0s", "--confirm-within", "10s"]
                .map(str::to_owned)
                .into();
        self.turn += 1;
        for (name, host) in &mut self.hosts {
            let system = &host.systems[self.turn % RING];
            arguments.extend(["--host".into(), format!("{name}={system}")]);
            host.ledger.order(system);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let published = self.fleet.herald(&arguments);
        if published.code != Some(0) {
            out.wrong.push(format!("an operator could not publish: {published:?}"));
        }
    }

    /// Gives what `herald status` shows, by host.
    pub(super) fn status(&self, out: &mut Outturn) -> BTreeMap<String, Value> {
        let said = self.fleet.herald(&["status", "--json"]);
        if said.stderr.contains("panicked") {
            out.wrong.push(format!("herald status panicked: {said:?}"));
        }
        let value: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let hosts = value["hosts"].as_array().cloned().unwrap_or_default();
        let named = |one: Value| Some((one["host"].as_str()?.to_owned(), one));
        hosts.into_iter().filter_map(named).collect()
    }

    /// Gives the topic of a host's orders.
    pub(super) fn desired(&self, host: &str) -> String {
        self.topic(Subject::Desired(self.hosts[host].name.clone(), ProfileName::system()))
    }

    /// Gives the topic of a host's reports.
    pub(super) fn reported(&self, host: &str) -> String {
        self.topic(Subject::Status(self.hosts[host].name.clone(), ProfileName::system()))
    }

    /// Gives what a host last said of itself.
    pub(super) fn report(&self, host: &str) -> Option<Report> {
        self.heard(host, &self.reported(host))
    }

    /// Gives what a host last said of its connection.
    pub(super) fn presence(&self, host: &str) -> Option<Presence> {
        self.heard(host, &self.topic(Subject::Presence(self.hosts[host].name.clone())))
    }

    /// Gives the order that truly stands on a host's topic.
    pub(super) fn order(&self, host: &str) -> Option<Order> {
        let payload = self.broker.truth(&self.desired(host))?;
        verify_any_order(&payload, &self.trust).ok().map(|order| order.into_inner())
    }

    /// Waits until each host is done with the order that stands, and `herald status` shows so. Who
    /// is not has to say why it waits.
    pub(super) fn settle(&mut self, out: &mut Outturn) {
        let began = Instant::now();
        let mut shown = BTreeMap::new();
        loop {
            let places = HOSTS.map(|host| (host, self.place(host)));
            let ended = |place: &Place| matches!(place, Place::Ended(_));
            let all_ended = places.iter().all(|(_, place)| ended(place));
            let is_over = began.elapsed() > self.patience;
            if all_ended || is_over {
                shown = self.status(out);
            }
            if is_over || all_ended && HOSTS.iter().all(|host| self.is_well(host, &shown)) {
                self.account(out);
                for (host, place) in places {
                    self.judge_place(host, place, &shown, out);
                }
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Accounts for all that the hosts activated since the last time.
    pub(super) fn account(&mut self, out: &mut Outturn) {
        for (name, host) in &mut self.hosts {
            for line in host.journal.news().lines() {
                if let Err(what) = host.ledger.account(&Entry::read(line)) {
                    out.unauthorised.push(format!("{name} ran {what}"));
                }
                out.activations += 1;
            }
        }
    }

    /// Looks whether the subscribers live, and whether their logs are as they should be.
    pub(super) fn judge_processes(&mut self, out: &mut Outturn) {
        let secrets = ["operator.key", "conductor.key"].map(|key| {
            let text = fs::read_to_string(self.fleet.path(key)).unwrap_or_default();
            text.split(':').next_back().unwrap_or_default().trim().to_owned()
        });
        for host in HOSTS {
            if !self.fleet.host_mut(host).subscriber().is_running() {
                out.wrong.push(format!("the subscriber of {host} died"));
            }
            let news = self.hosts.get_mut(host).map(|one| one.log.news()).unwrap_or_default();
            if news.contains("panicked") {
                out.wrong.push(format!("the subscriber of {host} panicked"));
            }
            if secrets.iter().any(|it| !it.is_empty() && news.contains(it.as_str())) {
                out.wrong.push(format!("the log of {host} has a secret key"));
            }
        }
    }

    /// Reads a secret key of the fleet.
    pub(super) fn secret(&self, file: &str) -> SecretKey {
        let text = fs::read_to_string(self.fleet.path(file)).expect("a key file");
        text.trim().parse().expect("a secret key")
    }

    fn topic(&self, subject: Subject) -> String {
        Topic::new(self.id.clone(), subject).to_string()
    }

    fn heard<T: HostMessage>(&self, host: &str, topic: &str) -> Option<T> {
        let (one, payload) = (&self.hosts[host], self.broker.truth(topic)?);
        let heard = verify_from_host::<T>(&payload, &self.id, &one.name, &one.key);
        Some(heard.ok()?.into_inner())
    }

    /// Gives where a host is with the order that stands.
    pub(super) fn place(&self, host: &str) -> Place {
        let Some(order) = self.order(host) else {
            return Place::UnderWay("no order stands on its topic".to_owned());
        };
        match (self.report(host), self.presence(host)) {
            (Some(report), Some(presence)) => Place::of(&report, &presence, &order),
            _ => Place::UnderWay("it said nothing".to_owned()),
        }
    }

    /// Tells whether operators see a host that ended as it is.
    fn is_well(&self, host: &str, shown: &BTreeMap<String, Value>) -> bool {
        let Some((row, report)) = shown.get(host).zip(self.report(host)) else { return false };
        row["presence"] == "online"
            && row["problem"].is_null()
            && row["suspicion"].is_null()
            && row["phase"] == report.phase.to_string()
    }

    fn judge_place(
        &mut self,
        host: &'static str,
        place: Place,
        shown: &BTreeMap<String, Value>,
        out: &mut Outturn,
    ) {
        let row = shown.get(host).map_or_else(|| "nothing".to_owned(), Value::to_string);
        match place {
            Place::Ended(how) if self.is_well(host, shown) => {
                self.judge_systems(host, &how, out);
                *out.endings.entry(how).or_default() += 1;
                if let Some(one) = self.hosts.get_mut(host) {
                    one.ledger.settle();
                }
            }
            Place::Ended(how) => {
                out.stuck.push(format!("{host} ended ({how}), but status shows {row}"));
            }
            Place::Waits(why) => *out.endings.entry(why).or_default() += 1,
            Place::UnderWay(what) => {
                let after = self.patience;
                out.stuck.push(format!("{host}: {what}, {after:?} after the broker behaved"));
            }
        }
    }

    /// What runs, boots and is in the profile is one system, and the order's where it succeeded.
    fn judge_systems(&self, host: &str, how: &str, out: &mut Outturn) {
        let machine = self.fleet.host(host);
        let runs = machine.running();
        let ordered = self.order(host).map(|order| order.target.toplevel.to_string());
        let as_ordered = !how.starts_with("succeeded") || ordered.as_ref() == Some(&runs);
        if !as_ordered || machine.profile() != runs || machine.boot_default() != runs {
            out.wrong.push(format!(
                "{host} is {how} with {ordered:?}, runs {runs}, boots {} and has {} in its profile",
                machine.boot_default(),
                machine.profile()
            ));
        }
    }
}

impl OneHost {
    fn add(fleet: &mut Fleet, host: &str) -> Self {
        fleet.add_host(host);
        let mut systems: Vec<String> = (1..=RING + 1)
            .map(|n| fleet.build(host, &n.to_string(), &[("hook", Entry::HOOK)]))
            .collect();
        fleet.push(&systems.iter().map(String::as_str).collect::<Vec<_>>());
        let tail = |name: &str| Tail { path: fleet.path(&format!("hosts/{host}/{name}")), read: 0 };
        Self {
            poison: systems.pop().expect("one more than in the ring"),
            ledger: Ledger::new(&fleet.host(host).first_system),
            name: host.parse().expect("a host name"),
            key: fleet.public_key(host, &[]).parse().expect("a public key"),
            systems,
            journal: tail("root/activations"),
            log: tail("subscriber.log"),
        }
    }
}

impl Tail {
    /// Gives the lines that came since the last time.
    fn news(&mut self) -> String {
        let mut text = Vec::new();
        let read = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return String::new();
        }
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        self.read += text.len() as u64;
        String::from_utf8_lossy(&text).into_owned()
    }
}

//! What happens in one seed: a release or two with attacks around them, or a freeze, or orders that
//! are held back; and then the broker behaves.

use std::{
    thread,
    time::{Duration, Instant},
};

use herald_proto::{
    codec,
    id::Incarnation,
    key::SecretKey,
    order::SealedOrder,
    presence::{Hearing, Liveness},
    rejection::Code,
    signing::sign_as_host,
};

use super::{
    judge::Place,
    lies::{Instead, Mischief},
    outturn::{Mutant, Outturn},
    world::{HOSTS, INTERVAL, World},
};
use crate::{crash::Rng, fleet::NAME, forge::Forgery, wait::wait_for};

/// What may come on top of two intervals on a busy machine, until a subscriber gets its turn.
const SLACK: Duration = Duration::from_secs(1);
/// How long between two looks at what `herald status` shows.
const LOOK: Duration = Duration::from_millis(100);

impl World {
    /// Runs a seed, and judges.
    pub(super) fn run(&mut self, seed: u64, mutant: Option<Mutant>) -> Outturn {
        let mut rng = Rng::new(Rng::mixed(seed, 1));
        let mut out = Outturn::default();
        self.broker.seed(seed);
        for host in HOSTS {
            // Mostly: one that was cut off again and again takes up to a minute to come back.
            if rng.below(4) > 0 {
                self.restart(host);
            }
        }
        match (mutant, rng.below(10)) {
            (Some(Mutant::HidesNothing), _) => {
                self.freeze(Mischief::None, &mut out);
                self.withhold("alpha", Mischief::None, &mut out);
            }
            (_, 0) => self.freeze(Mischief::Freeze(rng.choose(&Instead::ALL)), &mut out),
            (_, 1) => {
                let (host, instead) = (rng.choose(&HOSTS), rng.choose(&Instead::ALL));
                self.withhold(host, Mischief::Withhold(host.to_owned(), instead), &mut out);
            }
            _ => self.chaos(&mut rng, &mut out),
        }
        match mutant {
            Some(Mutant::SignsPoison) => {
                self.behave(&mut rng);
                self.settle(&mut out);
                let poison = Forgery::new("alpha", &self.hosts["alpha"].poison);
                let forged = poison.seal(&[&self.secret("operator.key")]);
                self.broker.publish(&self.desired("alpha"), &forged);
            }
            Some(Mutant::HoldsForEver) => {
                let held = Mischief::Withhold("alpha".to_owned(), Instead::Nothing);
                self.broker.turn(held);
                self.publish(&mut out);
            }
            Some(Mutant::SpeaksForHost) => {
                self.behave(&mut rng);
                self.settle(&mut out);
                self.speak_for("alpha", &mut out);
            }
            Some(Mutant::HidesNothing) | None => self.behave(&mut rng),
        }
        self.settle(&mut out);
        self.judge_processes(&mut out);
        self.broker.turn(Mischief::None);
        out.trace = self.broker.trace();
        out
    }

    /// Orders once more at a broker that behaves, which has to succeed whatever came before.
    pub(super) fn farewell(&mut self) -> Outturn {
        let mut out = Outturn::default();
        self.publish(&mut out);
        self.settle(&mut out);
        let ends = ["succeeded", "succeeded (not-pruned)"];
        if out.endings.keys().any(|ending| !ends.contains(&ending.as_str())) {
            let endings = std::mem::take(&mut out.endings);
            out.wrong.push(format!("the last order of a fleet ended in {endings:?}"));
        }
        out.endings.clear();
        out
    }

    /// Behaves again: what was held back comes, and the last that everyone hears is true.
    fn behave(&mut self, rng: &mut Rng) {
        self.broker.turn(Mischief::None);
        self.broker.release();
        if rng.below(2) == 0 {
            self.broker.cut();
        } else {
            self.broker.tell_the_truth();
        }
    }

    fn chaos(&mut self, rng: &mut Rng, out: &mut Outturn) {
        self.broker.turn(Mischief::Chaos);
        for _ in 0..1 + rng.below(2) {
            self.publish(out);
            for _ in 0..1 + rng.below(3) {
                self.attack(rng);
            }
            // Half of the time the hosts have to do what they can among lies.
            if rng.below(2) == 0 {
                self.linger(Duration::from_millis(rng.next() % 4_000));
            }
            if rng.below(3) == 0 {
                self.broker.lie_to_operators(true);
                let shown = self.status(out);
                self.broker.lie_to_operators(false);
                self.account(out);
                let running = |host: &str| shown.get(host)?["running"].as_str();
                for (host, running) in HOSTS.iter().filter_map(|host| Some((host, running(host)?)))
                {
                    self.judge_shown(host, running, out);
                }
            }
        }
    }

    /// Waits until all hosts have ended, but not for longer than this.
    fn linger(&self, longest: Duration) {
        let began = Instant::now();
        let ended = |host| matches!(self.place(host), Place::Ended(_));
        while began.elapsed() < longest && !HOSTS.into_iter().all(ended) {
            thread::sleep(LOOK);
        }
    }

    /// Does one thing that is about no delivery.
    fn attack(&mut self, rng: &mut Rng) {
        let (host, other) =
            if rng.below(2) == 0 { (HOSTS[0], HOSTS[1]) } else { (HOSTS[1], HOSTS[0]) };
        let topic = self.desired(host);
        let forgery = Forgery::new(host, &self.hosts[host].poison);
        match rng.below(6) {
            0 => self.broker.replay(1 + rng.below(12), rng),
            1 => {
                let order = self.broker.truth(&self.desired(other)).unwrap_or_default();
                self.broker.invent(&topic, &order);
            }
            2 => self.broker.invent(&topic, &forgery.seal(&[&stranger()])),
            3 => {
                let conductor = self.secret("conductor.key");
                self.broker.invent(&topic, &forgery.seal(&[&conductor]));
            }
            4 => {
                // What an operator signed, around what a stranger wants.
                let order = self.broker.truth(&topic).unwrap_or_default();
                let forged: Option<SealedOrder> = codec::decode(&forgery.seal(&[&stranger()])).ok();
                let good: Option<SealedOrder> = codec::decode(&order).ok();
                if let Some((good, forged)) = good.zip(forged) {
                    let mixed = SealedOrder { target: forged.target, ..good };
                    self.broker.invent(&topic, &codec::encode(&mixed));
                }
            }
            _ => self.broker.cut(),
        }
    }

    fn freeze(&mut self, mischief: Mischief, out: &mut Outturn) {
        self.await_beacons();
        self.broker.turn(mischief);
        if let Some(took) = self.notice(&HOSTS.map(|host| (host, "stale")), out) {
            out.freezes.add(took);
            self.publish(out);
            self.judge_frozen(out);
        }
    }

    fn withhold(&mut self, host: &str, mischief: Mischief, out: &mut Outturn) {
        self.await_beacons();
        self.broker.turn(mischief);
        self.publish(out);
        if let Some(took) = self.notice(&[(host, "withheld")], out) {
            out.withheld.add(took);
        }
    }

    /// Waits until every host hears beacons, so that what is measured begins then.
    fn await_beacons(&self) {
        wait_for("the hosts to hear beacons", || {
            let hears = |host| {
                self.presence(host).is_some_and(|presence| {
                    presence.liveness == Liveness::Online
                        && presence.hearing == Some(Hearing::Fresh)
                })
            };
            HOSTS.into_iter().all(hears).then_some(())
        });
    }

    /// Waits until `herald status` suspects what it should, and then until it suspects nothing else:
    /// on a busy machine a beacon can come late to one more host. Gives when it first did.
    fn notice(&self, kinds: &[(&str, &str)], out: &mut Outturn) -> Option<Duration> {
        let began = Instant::now();
        let bound = INTERVAL * 2 + SLACK;
        let mut noticed = None;
        loop {
            let looked = began.elapsed();
            let shown = self.status(out);
            let suspicion = |host: &str| shown.get(host)?["suspicion"]["kind"].as_str();
            if kinds.iter().all(|(host, kind)| suspicion(host) == Some(kind)) {
                if noticed.is_none() && looked > bound {
                    let late = format!("{kinds:?} was not yet noticed after {looked:?}");
                    out.unnoticed.push(late);
                }
                noticed = noticed.or_else(|| Some(began.elapsed()));
                let others = HOSTS.iter().filter(|host| kinds.iter().all(|(one, _)| one != *host));
                if others.into_iter().all(|host| suspicion(host).is_none()) {
                    return noticed;
                }
            }
            if looked > bound * 3 {
                match noticed {
                    Some(_) => {
                        out.wrong.push(format!("more is suspected than {kinds:?}: {shown:?}"))
                    }
                    None => out.unnoticed.push(format!("{kinds:?} was not noticed: {shown:?}")),
                }
                return noticed;
            }
            thread::sleep(LOOK);
        }
    }

    /// No host takes an order for which no beacon vouches, and each says so.
    fn judge_frozen(&mut self, out: &mut Outturn) {
        self.account(out);
        let activations = out.activations;
        for host in HOSTS {
            wait_for(&format!("{host} to refuse what no beacon vouches for"), || {
                let (order, refusal) = (self.order(host)?, self.report(host)?.refusal?);
                (refusal.message == order.message && refusal.code == Code::Stale).then_some(())
            });
        }
        self.account(out);
        if out.activations > activations {
            out.unauthorised.push("a host took an order without a beacon".to_owned());
        }
    }

    /// What is shown as verified is what the host did.
    fn judge_shown(&self, host: &str, running: &str, out: &mut Outturn) {
        if !self.hosts[host].ledger.knows(running) {
            out.wrong.push(format!("status shows that {host} runs {running}: it never did"));
        }
    }

    /// Says in a host's name, with its key, that it runs what it never ran.
    fn speak_for(&mut self, host: &str, out: &mut Outturn) {
        let Some(mut report) = self.report(host) else { return };
        let poison = self.hosts[host].poison.clone();
        report.incarnation = Incarnation::from_bytes([6; 16]);
        report.systems.running = Some(poison.parse().expect("a store path"));
        let key = self.secret(&format!("hosts/{host}/herald/host.key"));
        let forged = sign_as_host(&report, &NAME.parse().expect("a fleet name"), &key);
        self.broker.publish(&self.reported(host), &forged);
        let shown = self.status(out);
        let running = shown.get(host).and_then(|row| row["running"].as_str()).unwrap_or_default();
        self.judge_shown(host, running, out);
    }
}

/// Gives a key that has an operator's name, and that nobody trusts.
fn stranger() -> SecretKey {
    let name = "operator".parse().expect("a key's name");
    SecretKey::from_seed(name, &[9; 32]).expect("a usable seed")
}

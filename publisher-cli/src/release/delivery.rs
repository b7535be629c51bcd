//! Publishing orders, reading them back, and following them: one loop over what arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use herald_fleet::{
    compose::{Composed, SignedOrder},
    draft::Draft,
    heard::{Heard, Unheard},
    readback::{ReadBack, Seen},
    watch::Watch,
};
use herald_proto::{
    host::{HostId, ProfileName},
    id::{ReleaseId, Sequence},
    log::Log,
    report::Report,
    signing::Verified,
    topic::{Subject, Topic},
};
use tokio::time;

use crate::{
    clock,
    connection::{Arrival, Connection},
    progress::Progress,
    random,
    release::{
        Follow, Operator, latest_sequence, outbound::Outbound, outcome::Ended, printed::Printed,
    },
};

/// How long the broker may take, after a lost connection, to show what it still keeps.
const RECALL: Duration = Duration::from_secs(1);

/// What is published.
pub(crate) enum Origin {
    /// What was signed here from a draft, and can be signed again.
    Draft(Box<Draft>),
    /// What others have signed.
    File,
}

/// How long things may take.
pub(crate) struct Pace {
    /// At most how long the broker may be silent.
    pub(crate) silence: Duration,
    /// How long hosts may take.
    pub(crate) patience: Duration,
    /// When the program started.
    pub(crate) began: Instant,
}

/// Publishes a release, and watches it if that is wanted.
pub(crate) async fn run(
    operator: &Operator,
    follow: &Follow,
    origin: Origin,
    composed: Composed,
    connection: Connection,
    pace: Pace,
) -> anyhow::Result<Ended> {
    let mut delivery = Delivery {
        readback: ReadBack::new(&composed, operator.basis()),
        watch: Watch::new(&composed),
        outbound: Outbound::new(composed.release.id),
        printed: Printed::default(),
        progress: Progress::new(composed.orders.iter().map(|order| &order.host)),
        ahead: None,
        unjudged: BTreeSet::new(),
        said_unjudged: false,
        again: None,
        signed_again: false,
        moved: time::Instant::now(),
        published: None,
        took: BTreeMap::new(),
        operator,
        follow,
        origin,
        composed,
        connection,
        pace,
    };
    let ended = delivery.run().await;
    delivery.progress.end();
    match &ended {
        Err(error) if error.is::<Outdated>() => delivery.connection.cut().await,
        _ => delivery.connection.close().await,
    }
    ended?;
    Ok(Ended {
        release: delivery.composed.release,
        watched: follow.watch,
        watch: delivery.watch,
        published: delivery.published.unwrap_or_default(),
        took: delivery.took,
    })
}

/// What others have signed was overtaken before it was sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "a release with the sequence {0} was published since this one was signed: hosts refuse this \
     one. Of it nothing more is sent; what was sent may stand in the other's place: publish that \
     again, or sign a new one"
)]
struct Outdated(Sequence);

const SET_TRUST: &str = "set trust = \"trust.toml\" in the fleet file";

struct Delivery<'a> {
    operator: &'a Operator,
    follow: &'a Follow,
    origin: Origin,
    composed: Composed,
    connection: Connection,
    outbound: Outbound,
    readback: ReadBack,
    watch: Watch,
    progress: Progress,
    printed: Printed,
    /// The highest sequence, not below ours, that was there before ours.
    ahead: Option<Sequence>,
    /// Hosts whose orders gave way to what only a trust file can judge.
    unjudged: BTreeSet<HostId>,
    /// It was said that such an order was there before ours; once is enough.
    said_unjudged: bool,
    /// When to publish again what the broker lost.
    again: Option<time::Instant>,
    signed_again: bool,
    pace: Pace,
    /// When an order was acknowledged or read back last.
    moved: time::Instant,
    /// From the start of the program to the last acknowledgement.
    published: Option<Duration>,
    took: BTreeMap<HostId, Duration>,
}

/// Writes each order to a file of its own, and gives their paths.
pub(crate) fn write_orders(composed: &Composed, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let made = std::fs::create_dir_all(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let write = |order: &SignedOrder| {
        let path = folder.join(format!("{}.{}.order", order.host, order.profile));
        let written = std::fs::write(&path, &order.message);
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    composed.orders.iter().map(write).collect()
}

impl Delivery<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.publish_all()?;
            self.deliver().await?;
            self.check_judged()?;
            let above = match self.ahead.take() {
                None if self.follow.watch => self.follow().await?,
                above => above,
            };
            self.check_judged()?;
            match above {
                None => return Ok(()),
                Some(above) => self.sign_again(above).await?,
            }
        }
    }

    fn publish_all(&mut self) -> anyhow::Result<()> {
        if let Some(folder) = &self.follow.out {
            write_orders(&self.composed, folder)?;
        }
        let (client, fleet) = (&self.connection.client, &self.operator.file.fleet);
        self.outbound.publish(client, fleet, &self.composed.orders);
        Ok(())
    }

    /// Goes on until the broker has acknowledged every order and shown it to us. By then it has
    /// shown all that was there before, too.
    async fn deliver(&mut self) -> anyhow::Result<()> {
        self.moved = time::Instant::now();
        while self.outbound.unacknowledged() > 0
            || self.readback.missing().next().is_some()
            || self.again.is_some()
        {
            let silence = self.moved + self.pace.silence;
            tokio::select! {
                ack = self.outbound.next() => {
                    if self.outbound.take(ack)? {
                        self.acknowledged();
                    }
                }
                arrival = self.connection.next() => {
                    self.take(arrival?);
                    self.check_ahead()?;
                }
                () = until(self.again) => self.publish_lost(),
                () = time::sleep_until(silence) => return self.undelivered(),
            }
        }
        Ok(())
    }

    /// Goes on until every host has ended its order, or the time is over. Gives the sequence above
    /// which to sign again, if hosts refused ours for it.
    async fn follow(&mut self) -> anyhow::Result<Option<Sequence>> {
        let patience = self.pace.patience;
        let deadline = time::Instant::now() + patience;
        while self.ahead.is_none() && self.unjudged.is_empty() && !self.watch.is_over() {
            tokio::select! {
                ack = self.outbound.next() => {
                    self.outbound.take(ack)?;
                }
                arrival = self.connection.next() => self.take(arrival?),
                () = until(self.again) => self.publish_lost(),
                () = time::sleep_until(deadline) => {
                    self.watch.give_up();
                    let patience = clock::span(patience);
                    let said = format!("stopped waiting after {patience}; the release stays in force");
                    self.progress.say(&said);
                    return Ok(None);
                }
            }
        }
        let outrun = || self.watch.outrun(latest_sequence(clock::now()));
        Ok(self.ahead.take().or_else(|| outrun().filter(|_| !self.signed_again)))
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Lost(why) => {
                self.progress.say(&format!("{why}; trying again"));
                self.readback.doubt();
                self.again = None;
            }
            Arrival::Back => {
                self.progress.say("connected again");
                self.again = Some(time::Instant::now() + RECALL);
            }
            Arrival::Message { topic, payload, retained } => match &topic.subject {
                Subject::Desired(host, profile) => self.take_order(host, profile, &payload),
                _ => self.take_report(&topic, &payload, retained),
            },
        }
    }

    fn take_order(&mut self, host: &HostId, profile: &ProfileName, payload: &[u8]) {
        match self.readback.see(host, profile, payload, &self.operator.trust) {
            Seen::Nothing => {}
            Seen::Ours => self.moved = time::Instant::now(),
            Seen::Ahead(sequence) => self.ahead = self.ahead.max(Some(sequence)),
            Seen::Overtaken(sequence) => {
                self.watch.overtaken(host, profile, sequence);
                let said = format!("{host}: somebody published a later release ({sequence})");
                self.progress.say(&said);
            }
            Seen::Unjudged { after_ours: false } if self.said_unjudged => {}
            Seen::Unjudged { after_ours: false } => {
                self.said_unjudged = true;
                let said = "an order was there before that your own keys can't judge";
                self.progress.say(&format!("{host}: {said}; {SET_TRUST}"));
            }
            Seen::Unjudged { after_ours: true } => {
                self.unjudged.insert(host.clone());
            }
            Seen::Displaced => {
                let said = "another message took the order's place; publishing it again";
                self.progress.say(&format!("{host}: {said}"));
                self.publish_again(&[(host.clone(), profile.clone())]);
            }
        }
    }

    /// Publishes the orders again that have not ended, and that the broker did not show since the
    /// connection is back: it may have lost what it kept.
    fn publish_lost(&mut self) {
        self.again = None;
        let lost = self.readback.lost();
        let lost = lost.filter(|(host, profile)| self.watch.is_open(host, profile));
        let lost: Vec<_> = lost.map(|(host, profile)| (host.clone(), profile.clone())).collect();
        if lost.is_empty() {
            return;
        }
        let hosts: Vec<_> = lost.iter().map(|(host, _)| host.as_str()).collect();
        let said = "the broker lost the orders of these hosts; publishing them again";
        self.progress.say(&format!("{said}: {}", hosts.join(", ")));
        self.publish_again(&lost);
    }

    fn publish_again(&mut self, slots: &[(HostId, ProfileName)]) {
        let (client, fleet) = (&self.connection.client, &self.operator.file.fleet);
        let ours = self.composed.orders.iter().filter(|order| {
            slots.iter().any(|(host, profile)| (host, profile) == (&order.host, &order.profile))
        });
        self.outbound.publish(client, fleet, ours);
    }

    /// Checks that what can't be signed again need not be.
    fn check_ahead(&self) -> Result<(), Outdated> {
        match (&self.origin, self.ahead) {
            (Origin::File, Some(above)) => Err(Outdated(above)),
            _ => Ok(()),
        }
    }

    /// Checks that no order gave way to one that can't be judged here.
    fn check_judged(&self) -> anyhow::Result<()> {
        if self.unjudged.is_empty() {
            return Ok(());
        }
        let hosts: Vec<_> = self.unjudged.iter().map(HostId::as_str).collect();
        bail!(
            "after ours somebody else published an order that your own keys can't judge: {}; it \
             was left there, as it may be a colleague's later release: {SET_TRUST}",
            hosts.join(", ")
        );
    }

    fn take_report(&mut self, topic: &Topic, payload: &[u8], retained: bool) {
        let report = match self.operator.file.fleet.hear(topic, payload) {
            Ok(Heard::Report(report)) => report,
            Ok(Heard::Log(log)) => return self.take_log(log),
            Ok(Heard::Rollback(_) | Heard::Presence(_)) => return,
            Err(why) => {
                tracing::warn!(%topic, %why, "ignored a message");
                return self.take_unverified(topic, why);
            }
        };
        if retained {
            self.ahead = self.ahead.max(self.taken_before(&report));
        }
        let Some(standing) = self.watch.observe(&report) else {
            return;
        };
        if standing.outcome().is_some() {
            self.took.insert(report.host.clone(), self.progress.elapsed());
        }
        if self.follow.watch {
            self.progress.show(&report.host, standing);
            for line in self.printed.stands(&report.host, standing) {
                self.progress.say(&line);
            }
        }
    }

    /// Takes note of a status that counts for nothing, so that the host does not seem to be silent.
    fn take_unverified(&mut self, topic: &Topic, why: Unheard) {
        if let Subject::Status(host, profile) = &topic.subject
            && let Some(problem) = self.watch.unverified(host, profile, why)
            && self.follow.watch
        {
            self.progress.say(&format!("{host}: {problem}"));
        }
    }

    /// Takes what a program printed, if it was about an order of ours.
    fn take_log(&mut self, log: Verified<Log>) {
        let is_ours = self.composed.orders.iter().any(|order| {
            (&order.host, &order.profile, order.hash) == (&log.host, &log.profile, log.target)
        });
        if is_ours {
            for line in self.printed.take(log) {
                self.progress.say(&line);
            }
        }
    }

    /// Gives the sequence that a host took before it could have seen our order, if it is not below
    /// ours and can be believed.
    fn taken_before(&self, report: &Report) -> Option<Sequence> {
        let taken =
            report.order.filter(|order| order.release != self.composed.release.id)?.sequence;
        let unread = |(host, profile)| (host, profile) == (&report.host, &report.profile);
        let before = self.readback.missing().any(unread);
        let credible = taken < latest_sequence(clock::now());
        (before && credible && taken >= self.composed.release.sequence).then_some(taken)
    }

    fn acknowledged(&mut self) {
        self.moved = time::Instant::now();
        if self.outbound.unacknowledged() > 0 || self.published.is_some() {
            return;
        }
        let took = self.pace.began.elapsed();
        self.published = Some(took);
        let (release, orders) = (&self.composed.release, self.composed.orders.len());
        self.progress.say(&format!(
            "published release {} (sequence {}) to {orders} host{} in {} ms",
            release.id,
            release.sequence,
            if orders == 1 { "" } else { "s" },
            took.as_millis()
        ));
    }

    /// Signs everything once more, above a sequence that hosts have taken or were shown before.
    async fn sign_again(&mut self, above: Sequence) -> anyhow::Result<()> {
        let Origin::Draft(draft) = &mut self.origin else {
            bail!(Outdated(above));
        };
        if self.signed_again {
            bail!(
                "somebody else publishes with higher sequences than ours ({above}): agree with \
                 them, then publish again"
            );
        }
        self.signed_again = true;
        self.progress.say(&format!(
            "sequence {above} was published before, by a clock ahead of this one: signing again \
             above it"
        ));
        let now = clock::now();
        draft.id = ReleaseId::new(now, &random::bytes()?);
        draft.issued_at = now;
        draft.sequence = Sequence::next(now, Some(above));
        self.composed = self.operator.compose(draft).await?;
        self.readback = ReadBack::new(&self.composed, self.operator.basis());
        self.watch = Watch::new(&self.composed);
        self.printed = Printed::default();
        self.outbound.turn_to(self.composed.release.id);
        (self.published, self.took) = (None, BTreeMap::new());
        Ok(())
    }

    /// Judges a broker that has been silent for too long.
    fn undelivered(&self) -> anyhow::Result<()> {
        let (broker, within) = (&self.operator.file.broker, clock::span(self.pace.silence));
        let unacknowledged = self.outbound.unacknowledged();
        if unacknowledged > 0 {
            bail!(
                "{unacknowledged} of {} orders were not acknowledged by the broker {broker} within \
                 {within}: they may have arrived all the same; publish again",
                self.composed.orders.len()
            );
        }
        let missing: Vec<_> = self.readback.missing().map(|(host, _)| host.as_str()).collect();
        let missing = format!(
            "the broker {broker} took the orders, and within {within} did not show those of {}: \
             check that this client may read what it publishes",
            missing.join(", ")
        );
        if self.follow.watch {
            self.progress.say(&missing);
            return Ok(());
        }
        bail!(missing);
    }
}

/// Waits for a time, or for ever.
async fn until(time: Option<time::Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

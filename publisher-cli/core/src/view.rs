//! How the fleet stands, as far as it can be proved: each host's latest verified report, whether it
//! is connected, and, where there is no such report, why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use herald_proto::{
    beacon::Freshness,
    enrol::EnrolRequest,
    host::{FleetId, HostId, ProfileName},
    id::{Incarnation, MessageDigest, Sequence},
    order::Order,
    presence::{Hearing, Liveness, Presence},
    report::Report,
    signing::Verified,
    time::Timestamp,
    topic::{Subject, Topic},
};

use crate::{
    fleet::Fleet,
    heard::{Heard, Unheard},
};

/// How late a heartbeat may be before it is missed.
const LATE_BEAT: Duration = Duration::from_secs(30);

/// One profile of every host of a fleet.
#[derive(Debug, Clone)]
pub struct FleetView {
    profile: ProfileName,
    freshness: Option<Freshness>,
    hosts: BTreeMap<HostId, HostView>,
    asking: BTreeSet<HostId>,
}

/// One host.
#[derive(Debug, Clone, Default)]
pub struct HostView {
    report: Option<Verified<Report>>,
    rollback: Option<Verified<Report>>,
    presence: Option<Verified<Presence>>,
    /// The highest verified order that stands on its topic.
    wanted: Option<Wanted>,
    /// Why the latest message on its status topic counts for nothing, if it does.
    unverified: Option<Unheard>,
}

/// What operators want of a host.
#[derive(Debug, Clone)]
struct Wanted {
    sequence: Sequence,
    issued_at: Timestamp,
    message: MessageDigest,
}

/// A sign that somebody between the operators and a host holds messages back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Suspicion {
    /// The host hears beacons that were signed well after its order, and knows nothing of the order.
    #[error(
        "withheld: it heard the beacon of {beacon}, but not the order {wanted}: does the broker \
         hold it back?"
    )]
    Withheld {
        /// The order's sequence.
        wanted: Sequence,
        /// The beacon's time.
        #[serde(rename = "beacon_ms")]
        beacon: Timestamp,
    },
    /// The host says that it hears no beacons.
    #[error("stale: it hears no beacons, and takes no new orders: does `herald beacon` run?")]
    Stale {
        /// The last beacon that it heard, if it heard any.
        #[serde(rename = "beacon_ms")]
        beacon: Option<Timestamp>,
    },
    /// The host is said to be connected, but its heartbeats don't come.
    #[error("silent: said to be connected, but the last heartbeat is of {last}")]
    Silent {
        /// The time of its last heartbeat.
        #[serde(rename = "last_ms")]
        last: Timestamp,
    },
}

/// Whether a host is connected, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// Its latest session was born and has not died.
    Online,
    /// Its latest session has died.
    Offline,
    /// It has not said.
    Unknown,
}

impl FleetView {
    /// Begins with hosts that have not said anything.
    pub fn new<'a>(profile: ProfileName, hosts: impl IntoIterator<Item = &'a HostId>) -> Self {
        let hosts = hosts.into_iter();
        let hosts = hosts.map(|host| (host.clone(), HostView::default()));
        Self { profile, freshness: None, hosts: hosts.collect(), asking: BTreeSet::new() }
    }

    /// Expects of every host that it hears beacons, and says so.
    pub fn expect_beacons(self, freshness: Option<Freshness>) -> Self {
        Self { freshness, ..self }
    }

    /// Takes note of a message; gives what was heard, if it is news about one of the hosts.
    ///
    /// # Errors
    /// When it is not what a host of the fleet signed for the topic. A host whose status can't be
    /// verified is shown as such.
    pub fn observe(
        &mut self,
        fleet: &Fleet,
        topic: &Topic,
        payload: &[u8],
    ) -> Result<Option<Heard>, Unheard> {
        let heard = fleet.hear(topic, payload);
        if let Subject::Status(host, profile) = &topic.subject
            && *profile == self.profile
            && let Some(view) = self.hosts.get_mut(host)
        {
            view.unverified = heard.as_ref().err().cloned();
        }
        let heard = heard?;
        let news = match &heard {
            Heard::Report(report) | Heard::Rollback(report) if report.profile != self.profile => {
                false
            }
            Heard::Report(report) => {
                self.hosts.get_mut(&report.host).is_some_and(|view| view.take_report(report))
            }
            Heard::Rollback(report) => {
                self.hosts.get_mut(&report.host).is_some_and(|view| view.take_rollback(report))
            }
            Heard::Log(log) => log.profile == self.profile && self.hosts.contains_key(&log.host),
            Heard::Presence(presence) => {
                self.hosts.get_mut(&presence.host).is_some_and(|view| view.take_presence(presence))
            }
        };
        Ok(news.then_some(heard))
    }

    /// Tells whether somebody seems to hold back what a host should hear, or says.
    pub fn suspicion(&self, host: &HostView, now: Timestamp) -> Option<Suspicion> {
        host.suspicion(&self.profile, self.freshness?, now)
    }

    /// Takes note of an order that stands on its topic, and that the fleet's trust verified.
    pub fn order(&mut self, order: &Verified<Order>) {
        let release = &order.release;
        let host = self.hosts.get_mut(&order.target.host);
        if let Some(view) = host.filter(|_| order.target.profile == self.profile)
            && view.wanted.as_ref().is_none_or(|known| known.sequence < release.sequence)
        {
            view.wanted = Some(Wanted {
                sequence: release.sequence,
                issued_at: release.issued_at,
                message: order.message,
            });
        }
    }

    /// Takes note of a host that asks to be let into the fleet, by a request that was verified.
    pub fn asks(&mut self, request: &Verified<EnrolRequest>) {
        self.asking.insert(request.host.clone());
    }

    /// Gives the hosts that ask to be let in.
    pub fn asking(&self) -> impl ExactSizeIterator<Item = &HostId> {
        self.asking.iter()
    }

    /// Gives the profile that the view is of.
    pub fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// Gives the hosts in the order of their names.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&HostId, &HostView)> {
        self.hosts.iter()
    }

    /// Gives a host.
    pub fn host(&self, host: &HostId) -> Option<&HostView> {
        self.hosts.get(host)
    }

    /// Tells whether every host's status and presence is known, or known to be worth nothing.
    pub fn is_complete(&self) -> bool {
        self.hosts.values().all(|view| {
            (view.report.is_some() || view.unverified.is_some()) && view.presence.is_some()
        })
    }

    /// Gives the view for machines, as it is at this time.
    pub fn to_json<'a>(&'a self, fleet: &'a FleetId, now: Timestamp) -> crate::json::Fleet<'a> {
        crate::json::Fleet::of(fleet, self, now)
    }
}

impl HostView {
    /// Gives the latest verified report.
    pub fn report(&self) -> Option<&Verified<Report>> {
        self.report.as_ref()
    }

    /// Gives the time from the latest verified report to now; a host's clock ahead makes it zero.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.report.as_ref().map(|report| now.since(report.time))
    }

    /// Gives the latest verified roll back.
    pub fn rollback(&self) -> Option<&Verified<Report>> {
        self.rollback.as_ref()
    }

    /// Tells whether the host is connected.
    pub fn connection(&self) -> Connection {
        match self.presence.as_ref().map(|presence| presence.liveness) {
            Some(Liveness::Online) => Connection::Online,
            Some(Liveness::Offline) => Connection::Offline,
            _ => Connection::Unknown,
        }
    }

    /// Judges by what the host signed.
    fn suspicion(
        &self,
        profile: &ProfileName,
        freshness: Freshness,
        now: Timestamp,
    ) -> Option<Suspicion> {
        let presence = self.presence.as_ref()?;
        if presence.liveness != Liveness::Online {
            return None;
        }
        let last = presence.time;
        if freshness.end_of(last).plus(LATE_BEAT) <= now {
            return Some(Suspicion::Silent { last });
        }
        if presence.hearing == Some(Hearing::Stale) {
            return Some(Suspicion::Stale { beacon: presence.beacon });
        }
        let (wanted, beacon) = (self.wanted.as_ref()?, presence.beacon?);
        let taken = presence.taken.iter().find(|taken| taken.profile == *profile);
        let reported = self.report.as_ref();
        let known = taken.map(|taken| taken.sequence);
        let known = known.max(reported.and_then(|report| Some(report.order?.sequence)));
        let refused = reported.and_then(|report| report.refusal.as_ref());
        let knows = known.is_some_and(|known| known >= wanted.sequence)
            || refused.is_some_and(|refusal| refusal.message == wanted.message);
        // One that was signed just before the order reached the broker proves nothing. Half an
        // interval later comes the next within one and a half, and the host repeats it within a
        // quarter: so it shows within two.
        let due = wanted.issued_at.plus(freshness.interval() / 2);
        let wanted = wanted.sequence;
        (!knows && beacon >= due).then_some(Suspicion::Withheld { wanted, beacon })
    }

    /// Gives when the last beacon was signed that the host has heard.
    pub fn beacon(&self) -> Option<Timestamp> {
        self.presence.as_ref()?.beacon
    }

    /// Says why there is no report, or why the latest message is none; nothing if all is well.
    pub fn problem(&self) -> Option<String> {
        match (&self.unverified, &self.report) {
            (Some(Unheard::Cleared) | None, Some(_)) => None,
            (Some(Unheard::Cleared) | None, None) => Some("no report".to_owned()),
            (Some(why), _) => Some(format!("unverified: {why}")),
        }
    }

    fn take_report(&mut self, report: &Verified<Report>) -> bool {
        take(&mut self.report, report)
    }

    fn take_rollback(&mut self, report: &Verified<Report>) -> bool {
        take(&mut self.rollback, report)
    }

    /// Sessions are numbered upwards in one life of the host's state, and heartbeats in a session,
    /// so what is older than the last is stale, such as a will that the broker publishes late.
    /// Nothing follows the death of a session.
    fn take_presence(&mut self, presence: &Verified<Presence>) -> bool {
        let stale = self.presence.as_ref().is_some_and(|known| {
            if known.incarnation == presence.incarnation {
                place(presence) < place(known)
            } else {
                presence.liveness != Liveness::Online
            }
        });
        let news = !stale && self.presence.as_ref() != Some(presence);
        if news {
            self.presence = Some(presence.clone());
        }
        news
    }
}

fn place(presence: &Presence) -> (u64, bool, u64) {
    (presence.session, presence.liveness != Liveness::Online, presence.beat)
}

/// Keeps the newer of two reports; what is of another life of the host's state is taken as newer.
fn take(known: &mut Option<Verified<Report>>, report: &Verified<Report>) -> bool {
    let place = |report: &Report| -> (Incarnation, u64) { (report.incarnation, report.number) };
    let news = known.as_ref().is_none_or(|known| {
        let ((life, number), (known_life, known_number)) = (place(report), place(known));
        life != known_life || number > known_number
    });
    if news {
        *known = Some(report.clone());
    }
    news
}

#[cfg(test)]
mod tests;

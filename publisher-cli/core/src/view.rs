//! How the fleet stands, as far as it can be proved: each host's latest verified report, whether it
//! is connected, and, where there is no such report, why not.

use std::{collections::BTreeMap, time::Duration};

use herald_proto::{
    host::{FleetId, HostId, ProfileName},
    id::Incarnation,
    presence::{Liveness, Presence},
    report::Report,
    signing::Verified,
    time::Timestamp,
    topic::{Subject, Topic},
};

use crate::{
    fleet::Fleet,
    heard::{Heard, Unheard},
};

/// One profile of every host of a fleet.
#[derive(Debug, Clone)]
pub struct FleetView {
    profile: ProfileName,
    hosts: BTreeMap<HostId, HostView>,
}

/// One host.
#[derive(Debug, Clone, Default)]
pub struct HostView {
    report: Option<Verified<Report>>,
    rollback: Option<Verified<Report>>,
    presence: Option<Verified<Presence>>,
    /// Why the latest message on its status topic counts for nothing, if it does.
    unverified: Option<Unheard>,
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
        Self { profile, hosts: hosts.collect() }
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

    /// Sessions are numbered upwards in one life of the host's state, so what is of an older
    /// session than the last is stale, such as a will that the broker publishes late.
    fn take_presence(&mut self, presence: &Verified<Presence>) -> bool {
        let stale = self.presence.as_ref().is_some_and(|known| {
            if known.incarnation == presence.incarnation {
                presence.session < known.session
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

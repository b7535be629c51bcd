//! What becomes of a publication: for each of its orders, what the host says about that order.
//!
//! Only verified reports count, only those that name this release and this target, and of two in
//! one life of a host's state only the newer.

use std::collections::BTreeMap;

use herald_proto::{
    host::{HostId, ProfileName},
    id::{Incarnation, MessageDigest, ReleaseId, Sequence, TargetHash},
    rejection::Code,
    report::{PhaseName, Report},
    signing::Verified,
};

use crate::{
    compose::Composed,
    heard::Unheard,
    outcome::{Cause, Exit, Outcome, Standing},
};

/// The orders of one publication, and how each stands.
#[derive(Debug, Clone)]
pub struct Watch {
    release: ReleaseId,
    sequence: Sequence,
    orders: BTreeMap<(HostId, ProfileName), Followed>,
}

#[derive(Debug, Clone)]
struct Followed {
    hash: TargetHash,
    digest: MessageDigest,
    newest: Option<(Incarnation, u64)>,
    /// A higher sequence that was published after ours.
    overtaken: Option<Sequence>,
    /// Why the latest message on the status topic counts for nothing, if it does.
    unverified: Option<Unheard>,
    standing: Standing,
}

impl Watch {
    /// Begins to follow the orders of a release.
    pub fn new(composed: &Composed) -> Self {
        let orders = composed.orders.iter().map(|order| {
            let followed = Followed {
                hash: order.hash,
                digest: order.digest,
                newest: None,
                overtaken: None,
                unverified: None,
                standing: Standing::Silent,
            };
            ((order.host.clone(), order.profile.clone()), followed)
        });
        Self {
            release: composed.release.id,
            sequence: composed.release.sequence,
            orders: orders.collect(),
        }
    }

    /// Takes note of a report or roll back; gives the order's standing if that changed.
    pub fn observe(&mut self, report: &Verified<Report>) -> Option<&Standing> {
        let key = (report.host.clone(), report.profile.clone());
        let order = self.orders.get_mut(&key)?;
        order.unverified = None;
        if order.is_stale(report) {
            return None;
        }
        order.newest = Some((report.incarnation, report.number));
        let standing = order.judge(self.release, self.sequence, report)?;
        // A late word about a step on the way does not take the end back.
        if order.standing == standing || !is_step(&order.standing, &standing) {
            return None;
        }
        order.standing = standing;
        Some(&order.standing)
    }

    /// Takes note that somebody published an order with a higher sequence after ours was there.
    pub fn overtaken(&mut self, host: &HostId, profile: &ProfileName, by: Sequence) {
        if let Some(order) = self.orders.get_mut(&(host.clone(), profile.clone())) {
            order.overtaken = order.overtaken.max(Some(by));
        }
    }

    /// Takes note that what stands on a host's status topic counts for nothing, and why; gives what
    /// there is to say, if that is news. Whoever cleared the topic has not said anything.
    pub fn unverified(
        &mut self,
        host: &HostId,
        profile: &ProfileName,
        why: Unheard,
    ) -> Option<String> {
        let order = self.orders.get_mut(&(host.clone(), profile.clone()))?;
        let news = why != Unheard::Cleared && order.unverified.as_ref() != Some(&why);
        order.unverified = (why != Unheard::Cleared).then_some(why);
        order.problem().filter(|_| news)
    }

    /// Says why the host's word counts for nothing, where its order did not end by a word that does.
    pub fn problem(&self, host: &HostId, profile: &ProfileName) -> Option<String> {
        self.orders.get(&(host.clone(), profile.clone()))?.problem()
    }

    /// Gives the highest sequence for which a host refused ours, if signing again above it could
    /// help: hosts refuse what is beyond `latest`, so one that claims more is not believed.
    pub fn outrun(&self, latest: Sequence) -> Option<Sequence> {
        let taken = self.orders.values().filter_map(|order| match order.standing {
            Standing::Ended(Outcome::Outrun { taken, .. }) => Some(taken),
            _ => None,
        });
        taken.filter(|taken| *taken < latest).max()
    }

    /// Tells whether every order has ended.
    pub fn is_over(&self) -> bool {
        self.standings().all(|(_, _, standing)| standing.outcome().is_some())
    }

    /// Tells whether an order has not ended yet.
    pub fn is_open(&self, host: &HostId, profile: &ProfileName) -> bool {
        let order = self.orders.get(&(host.clone(), profile.clone()));
        order.is_some_and(|order| order.standing.outcome().is_none())
    }

    /// Ends the waiting: what has not ended is unfinished.
    pub fn give_up(&mut self) {
        for order in self.orders.values_mut() {
            if order.standing.outcome().is_none() {
                let phase = order.standing.phase();
                order.standing = Standing::Ended(Outcome::Unfinished { phase });
            }
        }
    }

    /// Gives each order's standing, in the order of hosts and profiles.
    pub fn standings(&self) -> impl Iterator<Item = (&HostId, &ProfileName, &Standing)> {
        self.orders.iter().map(|((host, profile), order)| (host, profile, &order.standing))
    }

    /// Gives the worst outcome; what has not ended yet counts as timed out.
    pub fn exit(&self) -> Exit {
        let exits = self.standings().map(|(_, _, standing)| {
            let outcome = standing.outcome();
            outcome.map_or(Exit::TimedOut, Outcome::exit)
        });
        exits.max().unwrap_or(Exit::Succeeded)
    }
}

impl Followed {
    fn problem(&self) -> Option<String> {
        let open = match &self.standing {
            Standing::Silent | Standing::UnderWay { .. } => true,
            Standing::Ended(outcome) => matches!(outcome, Outcome::Unfinished { .. }),
        };
        let why = self.unverified.as_ref().filter(|_| open)?;
        Some(format!("unverified: {why}"))
    }

    fn is_stale(&self, report: &Report) -> bool {
        self.newest.is_some_and(|(incarnation, number)| {
            incarnation == report.incarnation && report.number < number
        })
    }

    fn judge(&self, release: ReleaseId, sequence: Sequence, report: &Report) -> Option<Standing> {
        let taken = report.order.as_ref();
        if taken.is_some_and(|order| order.release == release && order.target == self.hash) {
            let cause = Cause { code: report.code, detail: report.detail.clone() };
            return Some(Standing::of_phase(report.phase, cause, report.progress));
        }
        // What the host says about other orders and messages does not take back how ours ended.
        if self.standing.outcome().is_some() {
            return None;
        }
        let taken = taken.map(|order| order.sequence);
        if let Some(refusal) = &report.refusal
            && refusal.message == self.digest
        {
            let cause = Cause { code: Some(refusal.code), detail: Some(refusal.detail.clone()) };
            let outrun = matches!(refusal.code, Code::Replayed | Code::Conflict);
            return Some(Standing::Ended(match taken {
                Some(taken) if outrun && taken >= sequence => Outcome::Outrun { taken, cause },
                _ => Outcome::Refused(cause),
            }));
        }
        // The host is at a later order. That ends ours if it had begun, or if we saw the later one
        // being published; otherwise the host may still be about to say what it makes of ours.
        let begun = matches!(self.standing, Standing::UnderWay { .. });
        let known = |taken| begun || self.overtaken.is_some_and(|newer| taken >= newer);
        if taken.is_some_and(|taken| taken > sequence && known(taken)) {
            return Some(Standing::Ended(Outcome::Failed {
                phase: PhaseName::Superseded,
                cause: Cause::default(),
            }));
        }
        None
    }
}

fn is_step(old: &Standing, new: &Standing) -> bool {
    old.outcome().is_none()
        || (new.outcome().is_some() && new.phase() != Some(PhaseName::Superseded))
}

#[cfg(test)]
mod tests;

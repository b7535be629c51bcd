//! What the topics say before anything is signed: the highest sequence, and the latest reports.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use herald_fleet::{
    readback,
    view::{FleetView, HostView},
};
use herald_proto::{
    host::{HostId, ProfileName},
    id::{Incarnation, Sequence},
    report::Report,
    signing::OrderReader,
    topic::Subject,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    connection::{Arrival, Connection},
    release::Operator,
};

/// How long to wait for hosts that may have nothing to say.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);

/// How long retained reports may take to arrive on a connection that works.
const REPORTS_WITHIN: Duration = Duration::from_secs(5);

/// What was seen so far.
pub(crate) struct Survey {
    /// Of each profile, the hosts that are asked about it.
    views: BTreeMap<ProfileName, FleetView>,
    /// How many of those hosts have no verified report.
    silent: usize,
    orders: OrderReader,
    /// The highest sequence of a verified order.
    ordered: Option<Sequence>,
}

impl Survey {
    /// Begins with what has arrived already about these profiles of hosts.
    pub(crate) fn new<'a>(
        operator: &Operator,
        profiles: impl IntoIterator<Item = (&'a HostId, &'a ProfileName)>,
        connection: &mut Connection,
    ) -> Self {
        let mut hosts = BTreeMap::<_, Vec<_>>::new();
        for (host, profile) in profiles {
            hosts.entry(profile).or_default().push(host);
        }
        let views = hosts
            .into_iter()
            .map(|(profile, hosts)| (profile.clone(), FleetView::new(profile.clone(), hosts)));
        let views: BTreeMap<_, _> = views.collect();
        let silent = views.values().map(|view| view.hosts().len()).sum();
        let orders = OrderReader::new(operator.trust.clone());
        let mut survey = Self { views, silent, orders, ordered: None };
        for arrival in connection.arrived() {
            survey.note(operator, &arrival);
        }
        survey
    }

    /// Gives the highest sequence that was seen. What a host claims to have taken is believed up
    /// to `latest`, so that one host can't make the others refuse the release.
    pub(crate) fn highest(&self, latest: Sequence) -> Option<Sequence> {
        let taken = self.reports().filter_map(|report| Some(report.order?.sequence));
        self.ordered.max(taken.filter(|taken| *taken < latest).max())
    }

    /// Waits until every host's latest report is there.
    ///
    /// # Errors
    /// When that takes too long: names the hosts without one, and why.
    pub(crate) async fn wait_for_reports(
        &mut self,
        operator: &Operator,
        connection: &mut Connection,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + REPORTS_WITHIN;
        while self.silent > 0 {
            match timeout_at(deadline, connection.next()).await {
                Ok(arrival) => self.note(operator, &arrival?),
                Err(_) => bail!("{}", self.silence()),
            }
        }
        Ok(())
    }

    /// Waits until every host's latest report is there, or for a moment: some may have none. What
    /// their topics of orders hold is there by then, too.
    pub(crate) async fn settle(
        &mut self,
        operator: &Operator,
        connection: &mut Connection,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.silent > 0 {
            match timeout_at(deadline, connection.next()).await {
                Ok(arrival) => self.note(operator, &arrival?),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Waits as [`Survey::settle`], where a trust file says who must sign: which trust hosts have,
    /// they report.
    pub(crate) async fn settle_for_trust(
        &mut self,
        operator: &Operator,
        connection: &mut Connection,
    ) -> anyhow::Result<()> {
        if operator.file.generations.is_some() {
            self.settle(operator, connection).await?;
        }
        Ok(())
    }

    /// Gives all reports that are there.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.hosts().filter_map(|(_, host)| host.report().map(|report| &**report))
    }

    /// Gives a host's latest report about a profile, which [`Survey::wait_for_reports`] waited for.
    pub(crate) fn report(&self, host: &HostId, profile: &ProfileName) -> anyhow::Result<&Report> {
        let view = self.views.get(profile).and_then(|view| view.host(host));
        match view.and_then(HostView::report) {
            Some(report) => Ok(report),
            None => bail!("{}", self.silence()),
        }
    }

    /// Gives the life of a host's state.
    pub(crate) fn incarnation(
        &self,
        host: &HostId,
        profile: &ProfileName,
    ) -> anyhow::Result<Incarnation> {
        Ok(self.report(host, profile)?.incarnation)
    }

    fn note(&mut self, operator: &Operator, arrival: &Arrival) {
        let Arrival::Message { topic, payload, .. } = arrival else {
            return;
        };
        match &topic.subject {
            Subject::Desired(host, profile) => {
                let sequence = readback::sequence_of(payload, &mut self.orders, host, profile);
                self.ordered = self.ordered.max(sequence);
            }
            Subject::Status(host, profile) => {
                let Some(view) = self.views.get_mut(profile) else { return };
                let has_report =
                    |view: &FleetView| view.host(host).is_some_and(|host| host.report().is_some());
                let had_one = has_report(view);
                // What can't be verified is a host without a report.
                let _ = view.observe(&operator.file.fleet, topic, payload);
                self.silent -= usize::from(!had_one && has_report(view));
            }
            _ => {}
        }
    }

    fn hosts(&self) -> impl Iterator<Item = (&HostId, &HostView)> {
        self.views.values().flat_map(FleetView::hosts)
    }

    fn silence(&self) -> String {
        let silent = self.hosts().filter(|(_, host)| host.report().is_none());
        let silent = silent.map(|(name, host)| {
            let why = host.problem().unwrap_or_else(|| "no report".to_owned());
            format!("{name} ({why})")
        });
        let silent: Vec<_> = silent.collect();
        format!(
            "what these hosts run is not known: {}; see that their subscribers run, and that the \
             fleet file has their keys",
            silent.join(", ")
        )
    }
}

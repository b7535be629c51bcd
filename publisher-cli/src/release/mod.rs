//! What the commands around a release share: making it, signing it, publishing it, and following it.

pub(crate) mod composing;
pub(crate) mod delivery;
pub(crate) mod operator;
pub(crate) mod options;
pub(crate) mod outbound;
pub(crate) mod outcome;
pub(crate) mod preview;
pub(crate) mod printed;
pub(crate) mod survey;

pub(crate) use composing::Composing;
pub(crate) use operator::Operator;
pub(crate) use options::{Follow, KeyOptions, Options};
pub(crate) use survey::Survey;

use std::{process::ExitCode, time::Instant};

use herald_fleet::{draft::Draft, fleet::Fleet};
use herald_proto::{
    host::{HostId, ProfileName},
    id::{ReleaseId, Sequence},
    target::Target,
    text::Prose,
    time::Timestamp,
    topic::{Filter, Subject},
};

use crate::{clock, connection::Connection, output, random};

use delivery::{Origin, Pace};

/// A release that is about to be signed: all but its name, its sequence and its times.
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) reason: Option<Prose>,
    pub(crate) revision: Option<Prose>,
}

impl Plan {
    /// Makes the draft, to be signed now, with a sequence above the highest that was seen.
    pub(crate) fn draft(
        self,
        operator: &Operator,
        options: &Options,
        highest: Option<Sequence>,
    ) -> anyhow::Result<Draft> {
        let now = clock::now();
        let not_before = options.not_before.map_or(now, |time| time.max(now));
        Ok(Draft {
            fleet: operator.file.fleet.id().clone(),
            id: ReleaseId::new(now, &random::bytes()?),
            sequence: Sequence::next(now, highest),
            issued_at: now,
            not_before,
            expires_at: not_before.plus(options.valid_for),
            revision: self.revision,
            reason: self.reason,
            targets: self.targets,
        })
    }
}

/// Signs and publishes a release, and follows it if that is wanted.
pub(crate) async fn send(
    operator: Operator,
    options: &Options,
    follow: &Follow,
    plan: Plan,
    mut survey: Survey,
    mut connection: Connection,
    began: Instant,
) -> anyhow::Result<ExitCode> {
    survey.settle_for_trust(&operator, &mut connection).await?;
    operator.check_enough(&operator.key_ids(), Some(&survey))?;
    let highest = survey.highest(latest_sequence(clock::now()));
    let draft = plan.draft(&operator, options, highest)?;
    let composed = operator.compose(&draft).await?;
    let patience = follow.patience(&draft.targets, draft.not_before, clock::now());
    let pace = Pace { silence: options.connect_timeout, patience, began };
    let origin = Origin::Draft(Box::new(draft));
    let ended = delivery::run(&operator, follow, origin, composed, connection, pace).await?;
    output::read_or_not(ended.print(operator.file.fleet.id(), options.json))?;
    Ok(ended.exit())
}

/// Gives the filters for what concerns an order: its topic, and its host's status. A host publishes
/// a roll back before the status that says so: whoever waits for the status alone leaves nothing
/// behind that an older status contradicts. Whoever watches hears what programs there print, too.
pub(crate) fn filters(
    fleet: &Fleet,
    profile: &ProfileName,
    host: &HostId,
    watch: bool,
) -> Vec<Filter> {
    let order = Subject::Desired(host.clone(), profile.clone());
    let status = Subject::Status(host.clone(), profile.clone());
    let log = watch.then(|| Subject::Log(host.clone()));
    let exactly = |subject| Filter::Exactly(fleet.topic(subject));
    [order, status].into_iter().chain(log).map(exactly).collect()
}

/// Gives the highest sequence that hosts with a right clock take.
pub(crate) fn latest_sequence(now: Timestamp) -> Sequence {
    Sequence::new(now.plus(herald_proto::release::MAX_AHEAD).as_millis())
}

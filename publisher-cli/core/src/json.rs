//! The shapes of `--json`, which programs rely on: fields are added, and never renamed.
//!
//! Times are milliseconds since the epoch and spans are milliseconds, with `_ms` in the name.

use std::time::Duration;

use herald_proto::{
    host::{FleetId, HostId, ProfileName, System, UnitName},
    id::{ClosureDigest, Incarnation, ReleaseId, Sequence, TargetHash, TrustDigest},
    log::{Log, Program},
    rejection::Code,
    release::Release,
    report::{Hold, PhaseName, Progress, Refusal, Report},
    store_path::StorePath,
    substituter::Substituter,
    target::{Action, Check, IfRebootNeeded, Integrity, Mark, Target},
    text::Prose,
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    outcome::Standing,
    view::{Connection, FleetView, HostView, Suspicion},
};

/// `herald status --json`.
#[derive(Debug, Serialize)]
pub struct Fleet<'a> {
    fleet: &'a FleetId,
    hosts: Vec<Host<'a>>,
    /// Those that are not in the fleet yet, and ask to be.
    asking: Vec<&'a HostId>,
}

/// One host's row.
#[derive(Debug, Serialize)]
struct Host<'a> {
    host: &'a HostId,
    profile: &'a ProfileName,
    presence: Connection,
    /// Whether there is a report that the host signed with its pinned key.
    verified: bool,
    /// Why there is none, or why the latest message on the topic is none.
    problem: Option<String>,
    /// A sign that somebody holds messages back.
    suspicion: Option<Suspicion>,
    beacon_ms: Option<Timestamp>,
    /// All null without a verified report.
    #[serde(flatten)]
    report: Said<'a>,
    /// The time since the report, by the reader's clock.
    age_ms: Option<u64>,
    last_rollback: Option<Rollback<'a>>,
}

/// What a verified report says.
#[derive(Debug, Serialize, Default)]
pub struct Said<'a> {
    phase: Option<PhaseName>,
    code: Option<Code>,
    detail: Option<&'a Prose>,
    running: Option<&'a StorePath>,
    booted: Option<&'a StorePath>,
    boot_default: Option<&'a StorePath>,
    previous: Option<&'a StorePath>,
    release: Option<ReleaseId>,
    sequence: Option<Sequence>,
    target: Option<TargetHash>,
    number: Option<u64>,
    incarnation: Option<Incarnation>,
    time_ms: Option<Timestamp>,
    agent: Option<&'a Prose>,
    /// The digest of the trust in force on the host.
    trust: Option<TrustDigest>,
    progress: Option<Progress>,
    failed_units: &'a [UnitName],
    refusal: Option<&'a Refusal>,
    hold: Option<Held<'a>>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Held<'a> {
    reason: &'a Prose,
    since_ms: Timestamp,
}

#[derive(Debug, Serialize)]
struct Rollback<'a> {
    release: Option<ReleaseId>,
    sequence: Option<Sequence>,
    code: Option<Code>,
    detail: Option<&'a Prose>,
    number: u64,
    time_ms: Timestamp,
}

/// A line of `herald listen --json`.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    kind: &'static str,
    host: &'a HostId,
    profile: &'a ProfileName,
    #[serde(flatten)]
    report: Said<'a>,
}

/// A line of `herald listen --logs --json` about what a program printed.
#[derive(Debug, Serialize)]
pub struct LogLine<'a> {
    kind: &'static str,
    host: &'a HostId,
    profile: &'a ProfileName,
    program: Program,
    attempt: u64,
    incarnation: Incarnation,
    target: TargetHash,
    time_ms: Timestamp,
    /// Whether more was printed before these lines.
    cut: bool,
    lines: &'a [Prose],
}

/// One host of `herald publish --json`.
#[derive(Debug, Serialize)]
pub struct Published<'a> {
    host: &'a HostId,
    profile: &'a ProfileName,
    /// A phase that ends an order, or `published`, `refused`, `unfinished` or `no-answer`.
    outcome: String,
    phase: Option<PhaseName>,
    code: Option<Code>,
    detail: Option<&'a Prose>,
    /// Why what was said in the host's name counts for nothing, if that is all there is.
    problem: Option<String>,
    elapsed_ms: Option<u64>,
}

/// What operators sign: `herald publish --dry-run --json` and `herald verify --json`.
#[derive(Debug, Serialize)]
pub struct Signed<'a> {
    fleet: &'a FleetId,
    release: ReleaseId,
    sequence: Sequence,
    issued_at_ms: Timestamp,
    not_before_ms: Timestamp,
    expires_at_ms: Timestamp,
    targets_count: u64,
    plan: String,
    revision: Option<&'a Prose>,
    reason: Option<&'a Prose>,
}

/// One host's part of what operators sign.
#[derive(Debug, Serialize)]
pub struct Part<'a> {
    host: &'a HostId,
    profile: &'a ProfileName,
    system: &'a System,
    toplevel: &'a StorePath,
    action: Action,
    integrity: &'static str,
    closure_digest: Option<ClosureDigest>,
    closure_bytes: Option<u64>,
    closure_paths: Option<u64>,
    realise_ms: u64,
    activate_ms: u64,
    confirm_ms: u64,
    wait_ms: Option<u64>,
    stable_for_ms: u64,
    checks: &'a [Check],
    expect_current: &'a [StorePath],
    tolerated_units: &'a [UnitName],
    incarnation: Option<Incarnation>,
    if_reboot_needed: Option<IfRebootNeeded>,
    marks: &'a [Mark],
    substituters: &'a [Substituter],
}

impl<'a> Fleet<'a> {
    /// Shows a view, as it is at this time.
    pub fn of(fleet: &'a FleetId, view: &'a FleetView, now: Timestamp) -> Self {
        let hosts = view.hosts();
        let hosts = hosts.map(|(name, host)| Host::of(name, view, host, now));
        Self { fleet, hosts: hosts.collect(), asking: view.asking().collect() }
    }
}

impl<'a> Host<'a> {
    fn of(host: &'a HostId, fleet: &'a FleetView, view: &'a HostView, now: Timestamp) -> Self {
        let report = view.report().map(|report| &**report);
        Self {
            host,
            profile: fleet.profile(),
            suspicion: fleet.suspicion(view, now),
            beacon_ms: view.beacon(),
            presence: view.connection(),
            verified: report.is_some(),
            problem: view.problem(),
            report: report.map(Said::of).unwrap_or_default(),
            age_ms: view.age(now).map(millis),
            last_rollback: view.rollback().map(|report| Rollback::of(report)),
        }
    }
}

impl<'a> Said<'a> {
    fn of(report: &'a Report) -> Self {
        let systems = &report.systems;
        Self {
            phase: Some(report.phase),
            code: report.code,
            detail: report.detail.as_ref(),
            running: systems.running.as_ref(),
            booted: systems.booted.as_ref(),
            boot_default: systems.boot_default.as_ref(),
            previous: systems.previous.as_ref(),
            release: report.order.map(|order| order.release),
            sequence: report.order.map(|order| order.sequence),
            target: report.order.map(|order| order.target),
            number: Some(report.number),
            incarnation: Some(report.incarnation),
            time_ms: Some(report.time),
            agent: Some(&report.agent),
            trust: Some(report.trust),
            progress: report.progress,
            failed_units: &report.failed_units,
            refusal: report.refusal.as_ref(),
            hold: report.hold.as_ref().map(Held::of),
        }
    }
}

impl<'a> Held<'a> {
    fn of(hold: &'a Hold) -> Self {
        Self { reason: &hold.reason, since_ms: hold.since }
    }
}

impl<'a> Rollback<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            release: report.order.map(|order| order.release),
            sequence: report.order.map(|order| order.sequence),
            code: report.code,
            detail: report.detail.as_ref(),
            number: report.number,
            time_ms: report.time,
        }
    }
}

impl<'a> Line<'a> {
    /// Shows a report, or with `rollback` a roll back.
    pub fn of(report: &'a Report, rollback: bool) -> Self {
        Self {
            kind: if rollback { "rollback" } else { "report" },
            host: &report.host,
            profile: &report.profile,
            report: Said::of(report),
        }
    }
}

impl<'a> LogLine<'a> {
    /// Shows what a program printed.
    pub fn of(log: &'a Log) -> Self {
        Self {
            kind: "log",
            host: &log.host,
            profile: &log.profile,
            program: log.program,
            attempt: log.attempt,
            incarnation: log.incarnation,
            target: log.target,
            time_ms: log.time,
            cut: log.cut,
            lines: &log.lines,
        }
    }
}

impl<'a> Published<'a> {
    /// Shows how an order stands; without waiting for the host, it is published and no more.
    pub fn of(
        host: &'a HostId,
        profile: &'a ProfileName,
        standing: Option<&'a Standing>,
        problem: Option<String>,
        elapsed: Option<Duration>,
    ) -> Self {
        let cause = standing.and_then(Standing::cause);
        Self {
            host,
            profile,
            outcome: standing.map_or_else(|| "published".to_owned(), Standing::word),
            phase: standing.and_then(Standing::phase),
            code: cause.and_then(|cause| cause.code),
            detail: cause.and_then(|cause| cause.detail.as_ref()),
            problem,
            elapsed_ms: elapsed.map(millis),
        }
    }
}

impl<'a> Signed<'a> {
    /// Shows a release.
    pub fn of(release: &'a Release) -> Self {
        Self {
            fleet: &release.fleet,
            release: release.id,
            sequence: release.sequence,
            issued_at_ms: release.issued_at,
            not_before_ms: release.not_before,
            expires_at_ms: release.expires_at,
            targets_count: release.targets_count,
            plan: release.plan.to_string(),
            revision: release.revision.as_ref(),
            reason: release.reason.as_ref(),
        }
    }
}

impl<'a> Part<'a> {
    /// Shows a target.
    pub fn of(target: &'a Target) -> Self {
        let (integrity, closure) = match &target.integrity {
            Integrity::Closure(closure) => ("closure", Some(closure)),
            Integrity::Toplevel => ("toplevel", None),
            Integrity::Recorded => ("recorded", None),
        };
        Self {
            host: &target.host,
            profile: &target.profile,
            system: &target.system,
            toplevel: &target.toplevel,
            action: target.action,
            integrity,
            closure_digest: closure.map(|closure| closure.digest),
            closure_bytes: closure.map(|closure| closure.size),
            closure_paths: closure.map(|closure| closure.paths),
            realise_ms: millis(target.limits.realise),
            activate_ms: millis(target.limits.activate),
            confirm_ms: millis(target.limits.confirm),
            wait_ms: target.limits.wait.map(millis),
            stable_for_ms: millis(target.health.stable_for),
            checks: &target.health.checks,
            expect_current: &target.expect_current,
            tolerated_units: &target.tolerated_units,
            incarnation: target.incarnation,
            if_reboot_needed: target.if_reboot_needed,
            marks: &target.marks,
            substituters: &target.substituters,
        }
    }
}

/// Gives a span in whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

//! Judgements about an attempt: by what programs said, and above all by what is seen.

use std::time::Duration;

use herald_proto::{rejection::Code, store_path::StorePath, text::Prose};

use crate::{
    activate::RUNNER_GRACE,
    attempt::{Attempt, Baseline, HealthProof, LinkProof, Procedure, TrustProof},
    ending::Cause,
    event::{ActivationEnd, Capabilities, Seen},
    now::Monotonic,
    waiting::ARM_LIMIT,
};

/// How much longer than all that the subscriber may take the dead-man waits: it comes second.
const DEAD_MAN_GRACE: Duration = Duration::from_secs(10);
/// The exit status with which switch-to-configuration says that units failed.
const UNITS_FAILED: i32 = 4;

/// How long after the machine's start a system that was booted has to begin to prove itself.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(5 * 60);

/// When, after the machine's start, the dead-man goes back from a system that was booted.
pub(crate) fn dead_man_of_a_boot(attempt: &Attempt) -> Monotonic {
    let limits = attempt.order.target().limits;
    Monotonic::default().plus(BOOT_LIMIT + limits.confirm + DEAD_MAN_GRACE)
}

/// Judges the end of the switch program: by what it says, and by what runs then.
pub(crate) fn judge(
    end: ActivationEnd,
    attempt: &Attempt,
    seen: &Seen,
    host: &Capabilities,
) -> Result<(), Cause> {
    let failed = |code, detail: String| Err(Cause::new(code, &detail));
    match end {
        ActivationEnd::Exited { status, .. }
            if status == 0 || (status == UNITS_FAILED && host.units) =>
        {
            let target = &attempt.order.target().toplevel;
            if attempt.procedure.activates() && seen.running.as_ref() != Some(target) {
                let runs = shown(&seen.running);
                let detail = format!("the switch program exited with {status}, but {runs} runs");
                return failed(Code::ActivationFailed, detail);
            }
            Ok(())
        }
        ActivationEnd::Exited { status, output } => failed(
            Code::ActivationFailed,
            format!("the switch program exited with {status}: {output}"),
        ),
        ActivationEnd::Killed { limit_reached: true, output } => {
            let limit = attempt.order.target().limits.activate;
            let detail = format!("the switch program did not end within {limit:?}: {output}");
            failed(Code::LimitReached, detail)
        }
        ActivationEnd::Killed { limit_reached: false, output } => {
            failed(Code::ActivationFailed, format!("the switch program was killed: {output}"))
        }
        ActivationEnd::Unknown { reason } => failed(Code::Interrupted, reason.to_string()),
    }
}

fn shown(path: &Option<StorePath>) -> &str {
    path.as_ref().map_or("nothing", StorePath::as_str)
}

/// How long after the permit the dead-man rolls back.
pub(crate) fn dead_man_after(attempt: &Attempt) -> Duration {
    let limits = attempt.order.target().limits;
    ARM_LIMIT + limits.activate + RUNNER_GRACE + limits.confirm + DEAD_MAN_GRACE
}

/// Says that something else runs than the system to confirm.
pub(crate) fn not_the_target(seen: &Seen) -> Prose {
    Prose::lossy(&format!("{} runs, not the new system", shown(&seen.running)))
}

/// Adds a round of checks to what is known of the health. It is stable once a round holds that
/// began `stable_for` after the first: how long a round took proves nothing.
pub(crate) fn health(
    before: &HealthProof,
    began: Monotonic,
    round: Result<(), Prose>,
    stable_for: Duration,
) -> HealthProof {
    let since = match (round, before) {
        (Err(failure), _) => return HealthProof::Failing(failure),
        (Ok(()), HealthProof::Stable) => return HealthProof::Stable,
        (Ok(()), HealthProof::HealthySince(since)) => *since,
        (Ok(()), HealthProof::Unchecked | HealthProof::Failing(_)) => began,
    };
    if began.since(since) >= stable_for {
        HealthProof::Stable
    } else {
        HealthProof::HealthySince(since)
    }
}

/// Tells whether the new system has proved all that is asked of it.
pub(crate) fn is_proved(link: LinkProof, trust: TrustProof, health: &HealthProof) -> bool {
    link != LinkProof::Awaited && trust != TrustProof::Awaited && *health == HealthProof::Stable
}

/// Checks that what runs, the profile and the boot default are what the commit was to make them.
pub(crate) fn read_back(attempt: &Attempt, seen: &Seen) -> Result<(), Cause> {
    let target = &attempt.order.target().toplevel;
    let is_target = |path: &Option<_>| path.as_ref() == Some(target);
    // Where a boot default can't be read, and could not be before, the commit's word counts.
    let readable = attempt.baseline.boot_default.is_some() || seen.boot_default.is_some();
    let wrong = if attempt.procedure.activates() && !is_target(&seen.running) {
        format!("{} runs", shown(&seen.running))
    } else if attempt.procedure == Procedure::Test {
        return Ok(());
    } else if !is_target(&seen.profile) {
        format!("the profile points to {}", shown(&seen.profile))
    } else if readable && !is_target(&seen.boot_default) {
        format!("the boot default is {}", shown(&seen.boot_default))
    } else {
        return Ok(());
    };
    Err(Cause::new(Code::CommitFailed, &format!("after the commit {wrong}, not {target}")))
}

/// Checks that everything is as it was when the attempt was armed, or as a person made it since:
/// a profile or boot default that names a third system is theirs.
pub(crate) fn undone(attempt: &Attempt, seen: &Seen) -> Result<(), String> {
    let Baseline { previous, profile, boot_default, .. } = &attempt.baseline;
    if seen.running.as_ref() != Some(previous) {
        return Err(format!("{} runs, not {previous}", shown(&seen.running)));
    }
    let target = &attempt.order.target().toplevel;
    let is_left = |is: &Option<StorePath>, was: &Option<StorePath>| {
        is != was && is.as_ref().is_none_or(|path| path == target)
    };
    if is_left(&seen.profile, profile) {
        let (is, was) = (shown(&seen.profile), shown(profile));
        return Err(format!("the profile points to {is}, not {was}"));
    }
    if is_left(&seen.boot_default, boot_default) {
        let (is, was) = (shown(&seen.boot_default), shown(boot_default));
        return Err(format!("the boot default is {is}, not {was}"));
    }
    Ok(())
}

pub(crate) fn unconfirmed(
    link: LinkProof,
    trust: TrustProof,
    health: &HealthProof,
    attempt: &Attempt,
) -> Cause {
    let limit = attempt.order.target().limits.confirm;
    match (link, trust, health) {
        (_, _, HealthProof::Failing(failure)) => Cause::new(Code::Unhealthy, failure.as_str()),
        (LinkProof::Awaited, _, _) => {
            let detail = format!("the broker was not reached again within {limit:?}");
            Cause::new(Code::Unreachable, &detail)
        }
        (_, TrustProof::Awaited, _) => {
            let detail = format!("whom the new system trusts was not found out within {limit:?}");
            Cause::new(Code::LockedOut, &detail)
        }
        (_, _, HealthProof::Unchecked) => {
            Cause::new(Code::Unhealthy, &format!("no health check ended within {limit:?}"))
        }
        (_, _, HealthProof::HealthySince(_) | HealthProof::Stable) => {
            Cause::new(Code::Unhealthy, &format!("not stable for long enough within {limit:?}"))
        }
    }
}

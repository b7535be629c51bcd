//! What must hold after every step, whatever happens.

use herald_core::{
    Effect, Ending, Event, HealthProof, LinkProof, Monotonic, Now, Phase, Procedure, State,
    TrustProof, Wait,
};
use herald_proto::report::PhaseName;

use super::{SECOND, machine::Host};

/// A step from one phase to another, as reported.
pub(crate) type Edge = (PhaseName, PhaseName);

/// What a watcher remembers of the steps so far.
#[derive(Clone)]
pub(crate) struct Monitor {
    /// Whether to look, after every step, at what costs more: the encoding, and where waiting
    /// alone leads.
    pub(crate) thorough: bool,
    reports: u64,
    permit: bool,
    /// The attempt that is armed, as far as was heard in this life of the subscriber.
    armed: Option<u64>,
    dead_man_at: Option<Monotonic>,
    /// Attempts that replaced what runs, and those that were proved.
    activated: Option<u64>,
    committed: Option<u64>,
    link: bool,
    trusted: bool,
    healthy_since: Option<Monotonic>,
    stable: bool,
}

impl Monitor {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            thorough: false,
            reports: host.state.reports,
            permit: false,
            armed: None,
            dead_man_at: None,
            activated: None,
            committed: None,
            link: false,
            trusted: false,
            healthy_since: None,
            stable: false,
        }
    }

    pub(crate) fn essence(&self) -> String {
        let Self { permit, armed, activated, committed, link, trusted, stable, .. } = self;
        format!("{permit} {armed:?} {activated:?} {committed:?} {link} {trusted} {stable}")
    }

    /// Looks at one step, and gives the edges that it took.
    pub(crate) fn watch(
        &mut self,
        before: &State,
        event: &Event,
        after: &Host,
        effects: &[Effect],
    ) -> Vec<Edge> {
        self.hear(before, event);
        let mut edges = Vec::new();
        let mut at = before.phase.name();
        let mut go = |to: PhaseName| {
            if at != to {
                edges.push((at, to));
                at = to;
            }
        };
        let mut arms = 0;
        for effect in effects {
            match effect {
                Effect::Report(body) => {
                    assert_eq!(body.number, self.reports + 1, "report numbers have no gap");
                    self.reports = body.number;
                    go(body.phase);
                    self.check_ending(before, event, body.phase);
                }
                Effect::RequestPermit { .. } => self.permit = true,
                Effect::ReleasePermit => self.permit = false,
                Effect::Arm { dead_man_at, .. } => {
                    arms += 1;
                    assert!(matches!(event, Event::Permitted { .. }), "only a permit arms");
                    self.dead_man_at = *dead_man_at;
                    self.armed = None;
                }
                Effect::Activate { attempt, .. } if attempt.procedure.activates() => {
                    let armed = self.armed == Some(attempt.number);
                    let goes_on = matches!(before.phase, Phase::Activating { .. });
                    assert!(armed || goes_on, "an activation without a way back");
                    self.activated = Some(attempt.number);
                }
                Effect::Reboot { attempt } => {
                    let back = matches!(after.state.phase, Phase::RollingBack { .. });
                    let armed = self.armed == Some(attempt.number);
                    let goes_on = matches!(before.phase, Phase::Rebooting { .. });
                    assert!(back || armed || goes_on, "a reboot without a way back");
                    self.activated = Some(attempt.number);
                }
                Effect::Guard { dead_man_at, .. } => self.dead_man_at = Some(*dead_man_at),
                Effect::Commit { attempt } => {
                    if attempt.procedure.activates() {
                        let link = self.link || !attempt.baseline.connected;
                        let trusted = self.trusted || attempt.order.evidence().is_none();
                        let goes_on = self.committed == Some(attempt.number);
                        let proved = link && trusted && self.stable;
                        assert!(goes_on || proved, "a commit without a proof");
                        self.committed = Some(attempt.number);
                    } else {
                        assert_eq!(attempt.procedure, Procedure::Boot);
                    }
                }
                _ => {}
            }
        }
        go(after.phase());
        assert!(arms <= 1, "armed twice");
        self.check_states(before, event, after);
        edges
    }

    /// Takes note of what is proved by an event.
    fn hear(&mut self, before: &State, event: &Event) {
        match event {
            Event::Started { .. } => {
                (self.armed, self.permit) = (None, false);
                self.forget_proofs();
            }
            Event::ArmEnded { attempt, outcome: Ok(()), .. } => self.armed = Some(*attempt),
            Event::ActivationEnded { .. } => self.forget_proofs(),
            Event::LinkProved { .. } => self.link = true,
            Event::TrustSeen { verdict, .. } => self.trusted = verdict.is_ok(),
            Event::HealthChecked { began, verdict, seen, .. } => {
                let attempt = before.phase.attempt().expect("it is being confirmed");
                let target = attempt.order.target();
                if verdict.is_ok() && seen.running.as_ref() == Some(&target.toplevel) {
                    let since = *self.healthy_since.get_or_insert(*began);
                    self.stable = began.since(since) >= target.health.stable_for;
                } else {
                    (self.healthy_since, self.stable) = (None, false);
                }
            }
            _ => {}
        }
    }

    fn forget_proofs(&mut self) {
        (self.link, self.trusted) = (false, false);
        (self.healthy_since, self.stable) = (None, false);
    }

    /// Checks that an attempt ends as what was seen says.
    fn check_ending(&self, before: &State, event: &Event, ending: PhaseName) {
        let Some(attempt) = before.phase.attempt() else { return };
        // What is reported after the attempt's end is about the order that was kept.
        let first = self.reports == before.reports + 1;
        if !ending.is_terminal() || !first {
            return;
        }
        let seen = seen_in(event).expect("an attempt ends by what is seen");
        let baseline = &attempt.baseline;
        if attempt.is_irreversible() {
            assert_ne!(ending, PhaseName::RolledBack, "what is irreversible was undone");
        }
        let touched = self.activated == Some(attempt.number)
            || self.committed == Some(attempt.number)
            || matches!(before.phase, Phase::Committing { .. } | Phase::RollingBack { .. });
        match ending {
            PhaseName::Succeeded if attempt.procedure.activates() => {
                assert_eq!(self.committed, Some(attempt.number), "a success without a commit");
                assert!(matches!(event, Event::CommitEnded { outcome: Ok(()), .. }));
                assert_eq!(seen.running.as_ref(), Some(&attempt.order.target().toplevel));
                if attempt.procedure != Procedure::Test {
                    assert_eq!(seen.running, seen.profile);
                    assert_eq!(seen.running, seen.boot_default);
                }
            }
            PhaseName::Succeeded => {}
            PhaseName::RolledBack => {
                assert_eq!(seen.running.as_ref(), Some(&baseline.previous));
                // As it was, or as a person set it since: a third system's.
                let target = &attempt.order.target().toplevel;
                for (is, was) in [
                    (&seen.profile, &baseline.profile),
                    (&seen.boot_default, &baseline.boot_default),
                ] {
                    let persons = is.as_ref().is_some_and(|path| path != target);
                    assert!(is == was || persons, "{is:?} is left, not {was:?}");
                }
            }
            PhaseName::Overridden => {
                let known = [Some(&attempt.order.target().toplevel), Some(&baseline.previous)];
                assert!(seen.running.is_some() && !known.contains(&seen.running.as_ref()));
            }
            PhaseName::Degraded => {}
            quiet => assert!(!touched, "{quiet:?} although something was activated"),
        }
    }

    fn check_states(&mut self, before: &State, event: &Event, after: &Host) {
        let (old, new) = (before, &after.state);
        let sequence = |state: &State| state.taken.map(|taken| taken.sequence);
        assert!(sequence(new) >= sequence(old), "the accepted sequence fell");
        assert!(new.floor >= old.floor && new.attempts >= old.attempts);
        assert_eq!(new.reports, self.reports);
        assert_eq!(new.boot, after.now.boot);
        let begins = matches!(event, Event::OrderArrived { .. } | Event::WantedBack { .. });
        if matches!(old.phase, Phase::Ended { .. }) && !begins && !was_rebooted(old, new) {
            assert_eq!(old.phase, new.phase, "an ending is left by a new order only");
        }
        let ended = matches!(new.phase, Phase::Ended { .. } | Phase::Idle);
        if ended || matches!(new.phase, Phase::Realising { .. }) {
            assert!(!self.permit, "{:?} holds a permit", new.phase.name());
        }
        assert_eq!(new.wake().is_none(), ended, "every wait has an end");
        let guarded = |attempt: &herald_core::Attempt| {
            !attempt.is_irreversible()
                && (old.boot == new.boot || attempt.procedure == Procedure::Reboot)
        };
        if let (Phase::Confirming { attempt, deadline, .. }, Some(dead_man)) =
            (&new.phase, self.dead_man_at)
            && guarded(attempt)
        {
            assert!(dead_man.since(*deadline) >= 10 * SECOND, "the dead-man would come first");
        }
        if self.thorough {
            survives_its_encoding(new);
            waiting_leads_to_an_end(after.clone());
        }
    }
}

fn seen_in(event: &Event) -> Option<&herald_core::Seen> {
    match event {
        Event::Started { seen, .. }
        | Event::OrderArrived { seen, .. }
        | Event::Permitted { seen, .. }
        | Event::ArmEnded { seen, .. }
        | Event::ActivationEnded { seen, .. }
        | Event::TrustSeen { seen, .. }
        | Event::HealthChecked { seen, .. }
        | Event::LinkProved { seen, .. }
        | Event::CommitEnded { seen, .. }
        | Event::RollbackEnded { seen, .. }
        | Event::WantedBack { seen, .. }
        | Event::Tick { seen } => Some(seen),
        _ => None,
    }
}

/// Checks that a state that is written and read is the same but for what is not durable.
pub(crate) fn survives_its_encoding(state: &State) {
    let mut bytes = Vec::new();
    ciborium::into_writer(state, &mut bytes).expect("writing to memory");
    let read: State = ciborium::from_reader(bytes.as_slice()).expect("it was written just now");
    let mut expected = state.clone();
    if let Phase::Confirming { link, trust, health, .. } = &mut expected.phase {
        (*link, *trust) = (LinkProof::Awaited, TrustProof::Awaited);
        *health = HealthProof::Unchecked;
    }
    assert_eq!(read, expected);
}

/// Checks that every order ends if nothing happens any more but that time passes, and that no
/// time to wake up comes twice.
pub(crate) fn waiting_leads_to_an_end(mut host: Host) {
    let mut ticks = 0;
    while host.state.wake().is_some() {
        ticks += 1;
        assert!(ticks < 8, "still {:?} after all limits", host.phase());
        host.pass_to_wake();
        let before = (host.phase(), host.state.wake());
        let seen = host.seen.clone();
        let step = host.try_take(Event::Tick { seen }).expect("it asked to be woken");
        host.state = step.state;
        assert_ne!((host.phase(), host.state.wake()), before, "it was woken for nothing");
    }
}

/// Gives what counts of a phase, without its times.
pub(crate) fn essence(phase: &Phase, now: &Now) -> String {
    let order = phase.order().map(|order| order.sequence.number() % 100);
    let what = phase.attempt().map(|attempt| (attempt.procedure, attempt.is_irreversible()));
    let next = phase
        .attempt()
        .and_then(|attempt| attempt.next.as_ref())
        .map(|next| next.name().sequence.number() % 100);
    let rest = match phase {
        Phase::Realising { retries, starts, .. } => format!("{retries} {starts}"),
        Phase::Waiting { wait, waited, starts, .. } => {
            let due = match wait {
                Wait::Window { opens } => format!("window {}", opens.is_some()),
                other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
            };
            let consent = format!("{:?}", waited.consent);
            let consent = consent.split(' ').next().unwrap_or_default();
            format!("{due} {consent} {} {starts}", waited.closes.is_some())
        }
        Phase::Armed { starts, .. }
        | Phase::Rebooting { starts, .. }
        | Phase::Committing { starts, .. } => format!("{starts}"),
        Phase::RollingBack { cause, starts, resort, .. } => {
            format!("{starts} {:?} {resort:?}", cause.code)
        }
        Phase::Confirming { link, trust, health: HealthProof::HealthySince(since), .. } => {
            format!("{link:?} {trust:?} {:?}", now.monotonic.since(*since))
        }
        Phase::Confirming { link, trust, health, .. } => format!("{link:?} {trust:?} {health:?}"),
        Phase::Ended { ending, .. } => format!("{:?}", ending.cause().map(|cause| cause.code)),
        Phase::Idle | Phase::Activating { .. } => String::new(),
    };
    let baseline = phase.attempt().map(|attempt| {
        let path = &attempt.baseline;
        (path.previous.name(), path.profile.as_ref().map(|path| path.name()), path.connected)
    });
    format!("{} {order:?} {next:?} {what:?} {rest} {baseline:?}", phase.name())
}

/// An ending that took a reboot has got it.
fn was_rebooted(old: &State, new: &State) -> bool {
    let needed = |state: &State| match &state.phase {
        Phase::Ended { order, ending } => Some((*order, matches!(ending, Ending::RebootNeeded(_)))),
        _ => None,
    };
    let (Some((order, true)), Some((same, false))) = (needed(old), needed(new)) else {
        return false;
    };
    order == same && old.boot != new.boot && new.phase.name() == PhaseName::Succeeded
}

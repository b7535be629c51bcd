//! A small world: a machine that changes only by what the core asks for, by people and by power
//! cuts. At each point it offers all that can happen next; a test takes one, or all.

mod deeds;

use std::{rc::Rc, time::Duration};

use herald_core::{Claim, Effect, Event, Failure, Found, Procedure, RunnerTrace, Step, Window};
use herald_proto::{
    order::Order, rejection::Code, report::Progress, signing::Verified, store_path::StorePath,
    text::Prose,
};

use super::{
    SECOND,
    choice::{Budget, Choice, Deed, Part},
    closure, draft, failure,
    machine::{Host, exited},
    monitor::{Edge, Monitor},
    realised, refusal,
};

/// A host, its world, and the watch over both.
#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) host: Host,
    pub(crate) monitor: Monitor,
    pub(crate) left: Budget,
    /// Who holds the armed record.
    claim: Claim,
    /// What is under way; one thing at a time.
    current: Option<Effect>,
    check: Option<Effect>,
    /// Whether somebody looks at whom the new system trusts.
    trust: bool,
    permit: Option<u64>,
    /// Whether somebody looks at the windows, and whether somebody was asked.
    looks: bool,
    asked: bool,
    /// What the boot loader was told to boot, once.
    one_shot: Option<StorePath>,
    measures: Vec<StorePath>,
    orders: Rc<[Verified<Order>]>,
}

impl Sim {
    pub(crate) fn new(orders: &[Verified<Order>], left: Budget) -> Self {
        let host = Host::new();
        Self {
            monitor: Monitor::new(&host),
            host,
            left,
            claim: Claim::None,
            current: None,
            check: None,
            trust: false,
            permit: None,
            looks: false,
            asked: false,
            one_shot: None,
            measures: vec![],
            orders: orders.into(),
        }
    }

    /// Gives all that can happen next: first what was asked for, then what comes from outside.
    pub(crate) fn choices(&self) -> (Vec<Choice>, Vec<Choice>) {
        if self.trust {
            return self.trust_choices();
        }
        let (mut asked, mut outside) = (self.answers(), vec![]);
        if self.host.state.wake().is_some() {
            asked.push(Choice::Late);
        }
        let orders = if self.left.repeats { 0 } else { self.left.next_order };
        let newest = self.orders.len().min(self.left.next_order + 1);
        outside.extend((orders..newest.max(orders)).map(Choice::Order));
        if self.left.starts > 0 {
            let ran = matches!(self.current, Some(Effect::Activate { .. }));
            let mut runners = vec![RunnerTrace::None];
            if ran {
                let ends = [exited(0), exited(1)].map(RunnerTrace::Ended);
                runners.extend(ends.into_iter().chain([RunnerTrace::Running]));
            }
            for runner in runners {
                if runner != RunnerTrace::Running {
                    outside.push(Choice::Start { rebooted: true, runner: runner.clone() });
                }
                outside.push(Choice::Start { rebooted: false, runner });
            }
        }
        if self.left.dead_man > 0 && self.claim == Claim::Armed {
            outside.extend([true, false].map(|done| Choice::DeadMan { done }));
        }
        if self.left.hands > 0 {
            let held = self.host.state.hold.is_some();
            outside.extend([if held { Choice::Resumed } else { Choice::Held }, Choice::WantedBack]);
        }
        if self.left.people > 0 {
            let deeds = [Deed::Switches, Deed::Tests, Deed::GoesBack, Deed::Unplugs];
            outside.extend(deeds.map(Choice::Somebody));
        }
        (asked, outside)
    }

    /// Gives what comes of looking at a trust file. The driver does that before anything else, so
    /// only a stop can come in between.
    fn trust_choices(&self) -> (Vec<Choice>, Vec<Choice>) {
        let verdicts = [true, false].into_iter().filter(|good| *good || self.left.strange > 0);
        let stops = [true, false].into_iter().filter(|_| self.left.starts > 0);
        let stops = stops.map(|rebooted| Choice::Start { rebooted, runner: RunnerTrace::None });
        (verdicts.map(Choice::Trusted).collect(), stops.collect())
    }

    /// Gives what the things under way can come to.
    fn answers(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if !self.measures.is_empty() {
            choices.push(Choice::Measured);
        }
        if self.permit.is_some() {
            choices.push(Choice::Permitted);
        }
        if self.looks {
            choices.push(Choice::Window { open: true });
            choices.extend((self.left.closed > 0).then_some(Choice::Window { open: false }));
        }
        if self.asked {
            choices.extend([true, false].map(|agrees| Choice::Answered { agrees }));
        }
        if self.check.is_some() {
            choices.push(Choice::Checked(true));
            choices.extend((self.left.sick > 0).then_some(Choice::Checked(false)));
        }
        match &self.current {
            Some(Effect::Realise { .. }) => {
                choices.extend([Choice::Realised(Ok(())), Choice::Realised(Err(false))]);
                if self.left.retries > 0 {
                    choices.extend([Choice::Realised(Err(true)), Choice::Progress]);
                }
            }
            Some(Effect::Arm { attempt, .. }) => {
                let refuses = attempt.order.target().if_reboot_needed.is_some();
                choices.extend(refuses.then_some(Choice::SwitchRefused));
                choices.extend([true, false].map(Choice::Armed));
                choices.extend((self.claim == Claim::None).then_some(Choice::ArmedUnheard));
            }
            Some(Effect::Activate { .. }) => {
                choices.extend([0, 4, 1].map(|status| Choice::Exited(exited(status))));
            }
            Some(Effect::ProveLink { .. }) => choices.push(Choice::Linked),
            Some(Effect::Commit { .. }) => {
                choices.extend((self.claim != Claim::Rollback).then_some(Choice::Committed(true)));
                choices.push(Choice::Committed(false));
            }
            Some(Effect::Reboot { .. }) => {
                choices.push(Choice::Restarted { falls_back: false });
                let may_fail = self.one_shot.is_some();
                choices.extend(may_fail.then_some(Choice::Restarted { falls_back: true }));
            }
            Some(Effect::RollBack { attempt }) => {
                if attempt.procedure == Procedure::Reboot && self.runs_target(attempt) {
                    choices.push(Choice::Restarted { falls_back: false });
                }
                choices.extend([true, false].map(Choice::RolledBack));
            }
            _ => {}
        }
        let parts = [Part::Running, Part::Nothing, Part::Profile, Part::BootDefault];
        let creeps = parts
            .into_iter()
            .filter(|part| self.goal(*part).is_some_and(|goal| goal != *part.of(&self.host.seen)));
        choices.extend(creeps.map(Choice::Creep));
        choices
    }

    /// Gives what a part of the machine becomes by what is under way; each part in its turn.
    fn goal(&self, part: Part) -> Option<Option<StorePath>> {
        let seen = &self.host.seen;
        match (self.current.as_ref()?, part) {
            (Effect::Activate { attempt, .. }, Part::Running | Part::Nothing)
                if attempt.procedure.activates() =>
            {
                let target = Some(attempt.order.target().toplevel.clone());
                match part {
                    Part::Running => Some(target),
                    _ => (self.left.starts > 0 && seen.running != target).then_some(None),
                }
            }
            (Effect::Commit { attempt }, Part::Profile | Part::BootDefault)
                if self.claim != Claim::Rollback && attempt.procedure != Procedure::Test =>
            {
                let target = Some(attempt.order.target().toplevel.clone());
                (part == Part::Profile || seen.profile == target).then_some(target)
            }
            (Effect::RollBack { attempt }, Part::Running)
                if attempt.procedure == Procedure::Reboot && self.runs_target(attempt) =>
            {
                None
            }
            (Effect::RollBack { attempt }, part) => {
                let baseline = &attempt.baseline;
                match part {
                    Part::Running => Some(Some(baseline.previous.clone())),
                    Part::Profile => Some(baseline.profile.clone()),
                    Part::BootDefault => {
                        let in_turn = seen.profile == baseline.profile;
                        in_turn.then(|| baseline.boot_default.clone())
                    }
                    Part::Nothing => None,
                }
            }
            _ => None,
        }
    }

    /// Lets it happen. Gives the steps from phase to phase.
    pub(crate) fn apply(&mut self, choice: &Choice) -> Vec<Edge> {
        let attempt = self.host.attempt();
        let seen = self.host.seen.clone();
        let event = match choice {
            Choice::Order(index) => {
                self.left.next_order = self.left.next_order.max(index + 1);
                Event::OrderArrived { order: Box::new(self.orders[*index].clone()), seen }
            }
            Choice::Refused(which) => Event::MessageRefused(refusal(&which.to_string())),
            Choice::Measured => {
                let toplevel = self.measures.remove(0);
                let closure = closure(&toplevel);
                Event::Measured { toplevel, closure }
            }
            Choice::Progress => {
                Event::RealiseProgress { attempt, progress: Progress { done: 1, total: 2 } }
            }
            Choice::Realised(outcome) => {
                if *outcome == Err(true) {
                    self.left.retries -= 1;
                }
                self.current = None;
                let target = self.host.target();
                let outcome = outcome
                    .map(|()| realised(&target))
                    .map_err(|retry| failure(Code::RealiseFailed, retry));
                Event::RealiseEnded { attempt, outcome }
            }
            Choice::Window { open } => {
                self.looks = false;
                let soon = self.host.state.time(&self.host.now).plus(60 * SECOND);
                let window = if *open {
                    Window::Open { closes: soon }
                } else {
                    self.left.closed -= 1;
                    Window::Closed { opens: soon }
                };
                Event::WindowSeen { attempt, window: Ok(window) }
            }
            Choice::Answered { agrees } => {
                self.asked = false;
                Event::Answered { attempt, agrees: *agrees }
            }
            Choice::Held => {
                self.left.hands = self.left.hands.saturating_sub(1);
                Event::Held { reason: Prose::lossy("a backup") }
            }
            Choice::Resumed => Event::Resumed,
            Choice::WantedBack => {
                self.left.hands = self.left.hands.saturating_sub(1);
                let Some(back) = self.host.state.previous(seen.running.as_ref()).cloned() else {
                    return vec![];
                };
                let target = Box::new(draft(0).with(|_, target| target.toplevel = back).target);
                let event = Event::WantedBack { target: Some(target), seen };
                // Whoever asks at the wrong time is told so.
                return if self.host.try_take(event.clone()).is_ok() {
                    self.feed(event)
                } else {
                    vec![]
                };
            }
            Choice::Permitted => {
                self.permit = None;
                Event::Permitted { attempt, seen }
            }
            Choice::Armed(good) => {
                if *good {
                    self.arm();
                }
                let seen = self.host.seen.clone();
                Event::ArmEnded { attempt, outcome: outcome(*good), seen }
            }
            Choice::SwitchRefused => {
                let outcome = Err(failure(Code::RebootNeeded, false));
                Event::ArmEnded { attempt, outcome, seen }
            }
            Choice::ArmedUnheard => {
                self.arm();
                return vec![];
            }
            Choice::Creep(part) => {
                if let Some(goal) = self.goal(*part) {
                    *part.of_mut(&mut self.host.seen) = goal;
                }
                if self.claim == Claim::Armed && matches!(self.current, Some(Effect::Commit { .. }))
                {
                    self.claim = Claim::Commit;
                }
                return vec![];
            }
            Choice::Exited(end) => {
                self.current = None;
                Event::ActivationEnded { attempt, end: end.clone(), seen }
            }
            Choice::Linked => {
                self.current = None;
                Event::LinkProved { attempt, seen }
            }
            Choice::Trusted(good) => {
                self.trust = false;
                if !good {
                    self.left.strange -= 1;
                }
                let verdict =
                    if *good { Ok(()) } else { Err(failure(Code::LockedOut, false).cause) };
                Event::TrustSeen { attempt, verdict, seen }
            }
            Choice::Checked(good) => {
                if let Some(Effect::CheckHealth { delay, .. }) = self.check.take() {
                    self.host.pass(delay);
                }
                if !good {
                    self.left.sick -= 1;
                }
                let verdict = if *good { Ok(()) } else { Err(Prose::lossy("sick")) };
                Event::HealthChecked { attempt, began: self.host.now.monotonic, verdict, seen }
            }
            Choice::Committed(good) => {
                self.current = None;
                Event::CommitEnded { attempt, outcome: outcome(*good), seen }
            }
            Choice::RolledBack(good) => {
                self.current = None;
                Event::RollbackEnded { attempt, outcome: outcome(*good), seen }
            }
            Choice::Late => {
                self.host.pass_to_wake();
                Event::Tick { seen }
            }
            Choice::Soon(span) => {
                self.host.pass(*span);
                Event::Tick { seen }
            }
            Choice::Clock { hours } => {
                let (wall, shift) = (self.host.now.wall, hours.unsigned_abs());
                let shift = Duration::from_secs(u64::from(shift) * 3600);
                let shifted = if *hours < 0 {
                    Duration::from_millis(wall.as_millis()).saturating_sub(shift)
                } else {
                    Duration::from_millis(wall.as_millis()) + shift
                };
                self.host.now.wall = herald_proto::time::Timestamp::default().plus(shifted);
                return vec![];
            }
            Choice::Start { rebooted, runner } => {
                self.left.starts = self.left.starts.saturating_sub(1);
                self.stop_subscriber();
                if *rebooted {
                    self.restart(false);
                }
                let seen = self.host.seen.clone();
                Event::Started { seen, found: Found { claim: self.claim, runner: runner.clone() } }
            }
            Choice::Restarted { falls_back } => {
                self.stop_subscriber();
                self.restart(*falls_back);
                let seen = self.host.seen.clone();
                let found = Found { claim: self.claim, runner: RunnerTrace::None };
                Event::Started { seen, found }
            }
            Choice::DeadMan { done } => {
                self.left.dead_man = self.left.dead_man.saturating_sub(1);
                self.claim = Claim::Rollback;
                let booted = self.host.state.phase.attempt();
                let booted = booted.is_some_and(|a| a.procedure == Procedure::Reboot);
                if *done && !booted {
                    self.host.seen.running = Some(self.previous());
                }
                return vec![];
            }
            Choice::Somebody(deed) => {
                self.left.people = self.left.people.saturating_sub(1);
                self.let_somebody(*deed);
                return vec![];
            }
        };
        self.feed(event)
    }

    fn feed(&mut self, event: Event) -> Vec<Edge> {
        let Step { state, effects } =
            self.host.try_take(event.clone()).expect("what was asked for is awaited");
        let before = std::mem::replace(&mut self.host.state, state);
        let edges = self.monitor.watch(&before, &event, &self.host, &effects);
        for effect in effects {
            self.obey(effect);
        }
        edges
    }

    /// Begins to do what the core asks for, as the daemon does: a new thing ends the old one.
    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Report(_) | Effect::Prune { .. } => {}
            Effect::Measure(toplevel) => self.measures.push(toplevel),
            Effect::Realise { .. }
            | Effect::Arm { .. }
            | Effect::Activate { .. }
            | Effect::Reboot { .. }
            | Effect::ProveLink { .. } => self.current = Some(effect),
            Effect::Guard { .. } => {
                if self.claim == Claim::None {
                    self.claim = Claim::Armed;
                }
            }
            Effect::CheckTrust { .. } => self.trust = true,
            Effect::Commit { .. } => {
                (self.current, self.check, self.trust) = (Some(effect), None, false);
            }
            Effect::RollBack { .. } => {
                (self.current, self.check, self.trust) = (Some(effect), None, false);
                (self.claim, self.one_shot) = (Claim::Rollback, None);
            }
            Effect::CheckHealth { .. } => self.check = Some(effect),
            Effect::LookAtWindows { .. } => (self.looks, self.asked) = (true, false),
            Effect::AskConsent { .. } => (self.looks, self.asked) = (false, true),
            Effect::RequestPermit { attempt } => {
                (self.looks, self.asked, self.permit) = (false, false, Some(attempt));
            }
            Effect::ReleasePermit => (self.looks, self.asked, self.permit) = (false, false, None),
            Effect::Abandon { .. } => {
                (self.current, self.check) = (None, None);
                (self.looks, self.asked) = (false, false);
            }
            Effect::Disarm { .. } => {
                (self.current, self.check, self.one_shot) = (None, None, None);
                self.trust = false;
                if self.claim == Claim::Armed {
                    self.claim = Claim::None;
                }
            }
            Effect::CleanUp { .. } => {
                (self.current, self.check, self.trust) = (None, None, false);
                self.claim = Claim::None;
            }
        }
    }

    /// Gives what tells this point from others that lead to the same; clocks and counters do not.
    pub(crate) fn key(&self) -> String {
        let Host { state, now, seen, .. } = &self.host;
        let short = |path: &Option<StorePath>| path.as_ref().map(|path| path.name().to_owned());
        let phase = super::monitor::essence(&state.phase, now);
        let seen = [&seen.running, &seen.booted, &seen.profile, &seen.boot_default].map(short);
        let current = self.current.as_ref().map(|effect| super::effect_name(effect, ""));
        let delay = match &self.check {
            Some(Effect::CheckHealth { delay, .. }) => Some(*delay),
            _ => None,
        };
        let quarantine: Vec<_> = state.quarantine.iter().map(StorePath::name).collect();
        let history: Vec<_> =
            state.history.iter().map(|known| (known.toplevel.name(), known.closure)).collect();
        format!(
            "{phase} {:?} {:?} {history:?} {seen:?} {} {:?} {current:?} {delay:?} {:?} {} {:?} {} {:?}",
            state.taken.map(|taken| taken.sequence),
            state.refusal.as_ref().map(|refusal| refusal.code),
            self.host.seen.connected,
            self.claim,
            self.permit,
            self.measures.len(),
            self.left,
            self.monitor.essence(),
            (state.hold.is_some(), self.looks, self.asked, self.trust, quarantine, &self.one_shot),
        )
    }
}

fn outcome(good: bool) -> Result<(), Failure> {
    if good { Ok(()) } else { Err(failure(Code::RollbackFailed, false)) }
}

//! A host to play with: orders that are really signed and verified, a machine to look at, and
//! clocks that only tests advance.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod choice;
pub(crate) mod explore;
pub(crate) mod machine;
pub(crate) mod monitor;
pub(crate) mod sim;

pub(crate) mod stop;

use std::{fmt::Debug, str::FromStr, sync::LazyLock, time::Duration};

use herald_core::{Capabilities, Cause, Effect, Event, Failure, Now, Realised};
use herald_proto::{
    WIRE_VERSION,
    codec::{self, Bytes},
    host::{FleetId, ProfileName},
    id::{BootId, ClosureDigest, MessageDigest, ReleaseId, Sequence},
    key::SecretKey,
    merkle::TargetTree,
    order::{Addressee, Order, SealedOrder},
    plan::Plan,
    rejection::Code,
    release::Release,
    report::Refusal,
    signing::{Verified, sign_release, verify_order},
    store_path::StorePath,
    target::{Action, Health, Integrity, Limits, Target},
    text::Prose,
    time::Timestamp,
    trust::Trust,
};

/// 2026-01-01T00:00:00Z, when every test begins.
pub(crate) const EPOCH: Timestamp = Timestamp::from_millis(1_767_225_600_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// How long every order here lasts, if it says nothing else.
pub(crate) const VALIDITY: Duration = Duration::from_secs(12 * 60 * 60);

pub(crate) fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a fixed text of the right form")
}

/// A system whose store path differs from the others' by its letter.
pub(crate) fn system(letter: char) -> StorePath {
    let hash = letter.to_string().repeat(32);
    parse(&format!("/nix/store/{hash}-nixos-system-{letter}"))
}

/// What runs when a test begins.
pub(crate) fn old() -> StorePath {
    system('0')
}

/// What somebody activates behind Herald's back.
pub(crate) fn other() -> StorePath {
    system('x')
}

/// What the order with this number is about.
pub(crate) fn new(number: u64) -> StorePath {
    system(char::from_digit(u32::try_from(number).unwrap_or(9) + 1, 10).unwrap_or('9'))
}

pub(crate) fn boot(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

pub(crate) fn closure(toplevel: &StorePath) -> ClosureDigest {
    ClosureDigest::of(toplevel.as_str().as_bytes())
}

pub(crate) fn realised(toplevel: &StorePath) -> Realised {
    Realised { closure: closure(toplevel), reboot_needed: None }
}

pub(crate) fn failure(code: Code, retry: bool) -> Failure {
    Failure { cause: Cause::new(code, "as the test wants"), retry }
}

pub(crate) fn refusal(message: &str) -> Refusal {
    let (message, detail) = (MessageDigest::of(message.as_bytes()), Prose::lossy(message));
    Refusal { message, code: Code::BadSignature, detail }
}

pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        store_dir: "/nix/store".into(),
        units: true,
        windows: false,
        consent: None,
        one_shot_boot: false,
        freshness: None,
        forgot_at: None,
        last_resort: false,
        kept_systems: 4,
        prunes: false,
    }
}

pub(crate) fn later(now: &mut Now, span: Duration) {
    now.wall = now.wall.plus(span);
    now.monotonic = now.monotonic.plus(span);
}

/// An order before it is signed.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) release: Release,
    pub(crate) target: Target,
}

/// Drafts the switch to [`new`] of the same number; a higher number has a higher sequence.
pub(crate) fn draft(number: u64) -> Draft {
    let target = Target {
        host: parse("alpha"),
        profile: ProfileName::system(),
        system: parse("x86_64-linux"),
        toplevel: new(number),
        action: Action::Switch,
        integrity: Integrity::Toplevel,
        limits: Limits {
            realise: 60 * SECOND,
            activate: 20 * SECOND,
            confirm: 10 * SECOND,
            wait: None,
        },
        health: Health { stable_for: SECOND, checks: vec![] },
        expect_current: vec![],
        tolerated_units: vec![],
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![],
        substituters: vec![],
    };
    let tree = TargetTree::new([codec::encode(&target)]);
    let release = Release {
        version: WIRE_VERSION,
        fleet: parse::<FleetId>("home"),
        id: ReleaseId::new(EPOCH.plus(Duration::from_millis(number)), &[7; 10]),
        sequence: Sequence::new(EPOCH.as_millis() + number),
        issued_at: EPOCH,
        not_before: EPOCH,
        expires_at: EPOCH.plus(VALIDITY),
        targets_root: tree.root(),
        targets_count: tree.count(),
        plan: Plan::Immediate,
        revision: None,
        reason: None,
    };
    Draft { release, target }
}

impl Draft {
    pub(crate) fn to(mut self, action: Action) -> Self {
        self.target.action = action;
        self
    }

    pub(crate) fn with(mut self, edit: impl FnOnce(&mut Release, &mut Target)) -> Self {
        edit(&mut self.release, &mut self.target);
        self
    }

    /// Signs the draft and verifies it again, as it would be on its way to the host.
    pub(crate) fn verified(mut self) -> Verified<Order> {
        static ALICE: LazyLock<SecretKey> = LazyLock::new(|| {
            SecretKey::from_seed(parse("alice"), &[1; 32]).expect("a usable seed")
        });
        static TRUST: LazyLock<Trust> = LazyLock::new(|| {
            let key = ALICE.public();
            let file = format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{key}\"]");
            Trust::from_toml(&file).expect("a usable trust file")
        });
        let bytes = codec::encode(&self.target);
        let tree = TargetTree::new([bytes.clone()]);
        self.release.targets_root = tree.root();
        let release = sign_release(&self.release, &[&ALICE]);
        let sealed = SealedOrder { release, target: Bytes(bytes), index: 0, proof: vec![] };
        let Target { host, profile, system, .. } = self.target;
        let reader = Addressee { host, profile, system };
        let order = verify_order(&codec::encode(&sealed), &TRUST, &reader);
        order.expect("it was signed by a trusted key")
    }
}

/// Names an effect in the words of the tables: a report of the phase that the state is in then is
/// `report`, one of another phase is `report:<phase>`.
pub(crate) fn effect_name(effect: &Effect, phase: &str) -> String {
    let name = match effect {
        Effect::Report(body) if body.phase.to_string() == phase => "report",
        Effect::Report(body) => return format!("report:{}", body.phase),
        Effect::Measure(_) => "measure",
        Effect::Realise { .. } => "realise",
        Effect::Abandon { .. } => "abandon",
        Effect::LookAtWindows { .. } => "look-at-windows",
        Effect::AskConsent { .. } => "ask-consent",
        Effect::RequestPermit { .. } => "request-permit",
        Effect::ReleasePermit => "release-permit",
        Effect::Arm { .. } => "arm",
        Effect::Reboot { .. } => "reboot",
        Effect::Guard { .. } => "guard",
        Effect::Disarm { .. } => "disarm",
        Effect::Activate { .. } => "activate",
        Effect::ProveLink { .. } => "prove-link",
        Effect::CheckTrust { .. } => "check-trust",
        Effect::CheckHealth { .. } => "check-health",
        Effect::Commit { .. } => "commit",
        Effect::RollBack { .. } => "roll-back",
        Effect::Prune { .. } => "prune",
        Effect::CleanUp { .. } => "clean-up",
    };
    name.into()
}

/// Gives the attempt that an event concerns, to be changed.
pub(crate) fn attempt_of(event: &mut Event) -> Option<&mut u64> {
    match event {
        Event::RealiseProgress { attempt, .. }
        | Event::RealiseEnded { attempt, .. }
        | Event::WindowSeen { attempt, .. }
        | Event::Answered { attempt, .. }
        | Event::Permitted { attempt, .. }
        | Event::ArmEnded { attempt, .. }
        | Event::ActivationEnded { attempt, .. }
        | Event::LinkProved { attempt, .. }
        | Event::TrustSeen { attempt, .. }
        | Event::HealthChecked { attempt, .. }
        | Event::CommitEnded { attempt, .. }
        | Event::RollbackEnded { attempt, .. } => Some(attempt),
        Event::Started { .. }
        | Event::OrderArrived { .. }
        | Event::MessageRefused(_)
        | Event::Measured { .. }
        | Event::Held { .. }
        | Event::Resumed
        | Event::BeaconHeard { .. }
        | Event::WantedBack { .. }
        | Event::Pruned { .. }
        | Event::Tick { .. } => None,
    }
}

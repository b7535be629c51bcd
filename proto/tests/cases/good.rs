//! Messages that are accepted, with what must come out of them.

use std::time::Duration;

use herald_proto::{
    codec::{self, MAX_DEPTH},
    id::{Incarnation, MessageDigest, ReleaseId, Sequence, TargetHash},
    key::SecretKey,
    log::{Log, Program},
    order::SealedOrder,
    presence::{Hearing, Liveness, Presence, TakenOrder},
    rejection::Code,
    release::Release,
    report::{Hold, OrderName, PhaseName, Progress, Refusal, Report, Systems},
    signing::{sign_as_host, sign_beacon, sign_release},
    target::{Action, Check, Health, IfRebootNeeded, Integrity, Limits, Mark, Target},
};

use super::{
    Expect, Reader, Schema, Vector, as_alpha, beacon_content, forge, hex, host_content,
    log_of_alpha, order_content, presence_of_alpha, release_content, report_of_alpha,
};
use crate::common::{
    NOW, alice, alpha, beacon, bob, carol, fleet, log, mallory, order, orders, parse, presence,
    release, report, seal, target, toplevel, tree, trust_text, trust_text_with_beacons,
};

fn good(about: &str, verify: Reader, content: serde_json::Value, message: &[u8]) -> Vector {
    Vector {
        about: about.into(),
        verify,
        schema: Some(Schema::Matches),
        expect: Expect::Ok(content),
        message: hex(message),
    }
}

/// All of them, each with the name of its file.
pub(crate) fn all() -> Vec<(&'static str, Vector)> {
    let mut all = releases();
    all.extend(all_orders());
    all.extend(reports());
    all.extend(presences());
    all.extend(beacons());
    all.extend(super::files::good());
    all.extend(logs());
    all.extend(super::enrol::good());
    all
}

fn releases() -> Vec<(&'static str, Vector)> {
    let release = release(&tree(&["alpha", "beta", "gamma"].map(target)));
    let case = |about: &str, threshold, trusted: &[&SecretKey], signing: &[&SecretKey]| {
        let ids: Vec<_> = signing.iter().map(|key| key.public().id()).collect();
        let verify = Reader::Release { trust: trust_text(threshold, trusted) };
        let content = release_content(&release, &ids);
        good(about, verify, content, &sign_release(&release, signing).0)
    };
    let (a, b, c) = (&alice(), &bob(), &carol());
    vec![
        ("release-1-of-1", case("one key, one signature", 1, &[a], &[a])),
        (
            "release-2-of-3",
            case("two of three keys, not in the order of the trust file", 2, &[a, b, c], &[c, a]),
        ),
        (
            "release-more-than-needed",
            case("more signatures than are needed", 2, &[a, b, c], &[a, b, c]),
        ),
    ]
}

fn accepted(
    about: &str,
    verify: Reader,
    release: &Release,
    target: &Target,
    sealed: &SealedOrder,
    keys: &[&SecretKey],
) -> Vector {
    let message = codec::encode(sealed);
    let digests = (TargetHash::of(&sealed.target.0), MessageDigest::of(&message));
    let ids: Vec<_> = keys.iter().map(|key| key.public().id()).collect();
    let content = order_content(release, target, digests, &ids);
    good(about, verify, content, &message)
}

/// A target with every field, and every kind of check.
fn full_target() -> Target {
    Target {
        action: Action::Test,
        limits: Limits {
            realise: Duration::from_secs(600),
            activate: Duration::from_millis(90_500),
            confirm: Duration::from_secs(61),
            wait: Some(Duration::from_secs(86_400)),
        },
        health: Health {
            stable_for: Duration::from_secs(30),
            checks: vec![
                Check::Command(vec!["curl".into(), "--fail".into(), "http://[::1]/é".into()]),
                Check::Unit(parse("nginx.service")),
                Check::Tcp(parse("127.0.0.1:22")),
                Check::Tcp(parse("[2001:db8::1]:443")),
                Check::Http(parse("http://127.0.0.1/")),
                Check::Http(parse(
                    "http://web.example:8080/ready?x status=200-399 host=www.example.org within=1500ms",
                )),
            ],
        },
        expect_current: vec![toplevel("alpha-old"), toplevel("alpha-older")],
        tolerated_units: vec![parse("getty@tty1.service"), parse("backup.timer")],
        incarnation: Some(Incarnation::from_bytes([0xab; 16])),
        if_reboot_needed: Some(IfRebootNeeded::Boot),
        marks: vec![Mark::Urgent, Mark::Irreversible],
        substituters: vec![
            parse("https://cache.example.org:8443/fleet"),
            parse("file:///srv/cache"),
        ],
        ..target("alpha")
    }
}

fn all_orders() -> Vec<(&'static str, Vector)> {
    let (a, b) = (&alice(), &bob());
    let plain = |hosts: &[&str]| {
        let targets: Vec<_> = hosts.iter().map(|host| target(host)).collect();
        let sealed = orders(&targets, &[a]).pop().expect("at least one host");
        (release(&tree(&targets)), sealed)
    };
    let mut all = vec![];

    let (one, sealed) = plain(&["alpha"]);
    let about = "one host, so the proof is empty and absent; nothing optional is there";
    let vector = accepted(about, as_alpha(1, &[a]), &one, &target("alpha"), &sealed, &[a]);
    all.push(("order-minimal", vector));

    let (five, sealed) = plain(&["beta", "gamma", "delta", "epsilon", "alpha"]);
    let about = "the last of five: its path is shorter than the others' (RFC 9162, figure 1)";
    let vector = accepted(about, as_alpha(1, &[a]), &five, &target("alpha"), &sealed, &[a]);
    all.push(("order-last-of-five", vector));

    let tree = tree(&[target("beta"), full_target(), target("gamma")]);
    let release = Release {
        sequence: Sequence::new(u64::MAX),
        not_before: NOW.plus(Duration::from_secs(3600)),
        revision: Some(parse("8f1e2d3c4b5a69788796a5b4c3d2e1f001122334")),
        reason: Some(parse("größer\nund besser")),
        ..release(&tree)
    };
    let sealed = seal(&sign_release(&release, &[b, a]), &tree).swap_remove(1);
    let about = "two signers, every optional field, every kind of check";
    let vector = accepted(about, as_alpha(2, &[a, b]), &release, &full_target(), &sealed, &[b, a]);
    all.push(("order-full", vector));

    let numbers = [
        ("order-integrity-toplevel", Integrity::Toplevel, Action::Stage),
        ("order-integrity-recorded", Integrity::Recorded, Action::None),
        ("order-unknown-action", Integrity::Toplevel, Action::Unknown(999)),
    ];
    for (name, integrity, action) in numbers {
        let target = Target { integrity, action, ..target("alpha") };
        let targets = [target];
        let sealed = orders(&targets, &[a]).remove(0);
        let release = crate::common::release(&crate::common::tree(&targets));
        let about = "verified; whether it can be done is for the host to say";
        let vector = accepted(about, as_alpha(1, &[a]), &release, &targets[0], &sealed, &[a]);
        all.push((name, vector));
    }

    let three = ["alpha", "beta", "gamma"].map(target);
    let release = crate::common::release(&crate::common::tree(&three));
    let sealed = order(&[&mallory(), a]);
    let about = "a signature by a key that is not known counts for nothing and does no harm";
    let vector = accepted(about, as_alpha(1, &[a, b]), &release, &three[0], &sealed, &[a]);
    all.push(("order-with-an-unknown-signer", vector));
    all
}

fn full_report() -> Report {
    let id = ReleaseId::new(NOW, &[7; 10]);
    Report {
        number: 18,
        phase: PhaseName::RolledBack,
        code: Some(Code::Unhealthy),
        detail: Some(parse("nginx.service: exit status 1\nno such file: /etc/größe")),
        order: Some(OrderName {
            release: id,
            target: TargetHash::from_bytes([0x44; 32]),
            sequence: Sequence::new(1_767_225_600_000),
        }),
        refusal: Some(Refusal {
            message: MessageDigest::from_bytes([0x55; 32]),
            code: Code::UnderSigned,
            detail: parse("1 of 2 needed signatures by trusted keys"),
        }),
        progress: Some(Progress { done: 1_799, total: 1_800 }),
        systems: Systems {
            running: Some(toplevel("alpha")),
            booted: Some(toplevel("alpha-booted")),
            boot_default: Some(toplevel("alpha-default")),
            profile: Some(toplevel("alpha-profile")),
            previous: Some(toplevel("alpha-previous")),
        },
        failed_units: vec![parse("nginx.service"), parse("dev-sda1.device")],
        hold: Some(Hold { reason: parse("the backup of größe runs"), since: NOW }),
        ..report()
    }
}

fn reports() -> Vec<(&'static str, Vector)> {
    let case = |about: &str, report: &Report| {
        let message = sign_as_host(report, &fleet(), &alpha());
        good(about, report_of_alpha(), host_content(report), &message)
    };
    let newer =
        Report { phase: PhaseName::Unknown(77), code: Some(Code::Unknown(7_777)), ..report() };
    let extended = forge::report_with_more_fields(&report(), MAX_DEPTH - 1);
    vec![
        ("report-minimal", case("a host without an order", &report())),
        ("report-full", case("every field", &full_report())),
        ("report-unknown-codes", case("codes of a newer version are kept", &newer)),
        (
            "report-more-fields",
            good(
                "fields of a newer version are passed over, with 12 levels in all",
                report_of_alpha(),
                host_content(report()),
                &extended,
            ),
        ),
    ]
}

fn presences() -> Vec<(&'static str, Vector)> {
    let case = |about: &str, presence: Presence| {
        let message = sign_as_host(&presence, &fleet(), &alpha());
        good(about, presence_of_alpha(), host_content(&presence), &message)
    };
    let taken = |profile: &str, sequence| TakenOrder {
        profile: parse(profile),
        sequence: Sequence::new(sequence),
    };
    let heartbeat = Presence {
        beat: 3,
        beacon: Some(NOW),
        hearing: Some(Hearing::Stale),
        taken: vec![taken("system", NOW.as_millis()), taken("home-anna", 7)],
        ..presence(Liveness::Online)
    };
    vec![
        ("presence-online", case("a birth", presence(Liveness::Online))),
        ("presence-offline", case("a last will, signed at the birth", presence(Liveness::Offline))),
        ("presence-heartbeat", case("every field", heartbeat)),
    ]
}

fn beacons() -> Vec<(&'static str, Vector)> {
    let message = sign_beacon(&beacon(), &[&carol()]);
    let verify = Reader::Beacon { trust: trust_text_with_beacons() };
    let content = beacon_content(&beacon(), &[carol().public().id()]);
    vec![("beacon", good("signed in the rollout role", verify, content, &message))]
}

fn logs() -> Vec<(&'static str, Vector)> {
    let case = |about: &str, log: &Log| {
        let message = sign_as_host(log, &fleet(), &alpha());
        good(about, log_of_alpha(), host_content(log), &message)
    };
    let silent = Log { cut: false, lines: vec![], program: Program::Unknown(999), ..log() };
    // As long as a host makes one.
    let (lines, cut) = Log::last_lines("0123456789abcde\n".repeat(1000).as_bytes());
    vec![
        ("log-lines", case("the end of an output", &log())),
        ("log-none", case("no line, by a program that is not known here", &silent)),
        ("log-longest", case("8 KiB", &Log { cut, lines, ..log() })),
    ]
}

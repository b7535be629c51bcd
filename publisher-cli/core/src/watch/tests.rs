use super::*;
use crate::{
    compose::compose,
    testing::{draft, host_key, pinned, report, target},
};
use herald_proto::{
    report::{OrderName, Refusal},
    text::Prose,
};

const OURS: u64 = 1_700_000_000_000;

fn published(hosts: &[&str]) -> (Composed, Watch) {
    let draft = draft(hosts.iter().map(|host| target(host)).collect());
    let composed = compose(&draft, &[&host_key(101)]).unwrap();
    let watch = Watch::new(&composed);
    (composed, watch)
}

/// A report of host `a` about our order.
fn ours(composed: &Composed, number: u64, phase: PhaseName) -> Report {
    let mut report = report("a");
    report.number = number;
    report.phase = phase;
    report.order = Some(OrderName {
        release: composed.release.id,
        target: composed.orders[0].hash,
        sequence: composed.release.sequence,
    });
    report
}

/// A report of host `a` about somebody else's order.
fn others(composed: &Composed, number: u64, phase: PhaseName, sequence: u64) -> Report {
    let mut report = ours(composed, number, phase);
    report.order = Some(OrderName {
        release: ReleaseId::new(composed.release.issued_at, &[9; 10]),
        target: TargetHash::of(b"other"),
        sequence: Sequence::new(sequence),
    });
    report
}

fn refusing(mut report: Report, message: MessageDigest, code: Code) -> Report {
    let detail = Prose::lossy("because");
    report.refusal = Some(Refusal { message, code, detail });
    report
}

fn word(watch: &Watch) -> String {
    let first = watch.standings().next();
    first.map(|(_, _, standing)| standing.word()).unwrap()
}

#[test]
fn an_order_is_followed_to_its_end() {
    let (composed, mut watch) = published(&["a"]);
    assert_eq!(word(&watch), "no-answer");
    for (number, phase) in
        [(2, PhaseName::Accepted), (3, PhaseName::Realising), (4, PhaseName::Confirming)]
    {
        let changed = watch.observe(&pinned(&ours(&composed, number, phase)));
        assert_eq!(changed.and_then(Standing::phase), Some(phase));
        assert!(!watch.is_over());
    }
    let done = pinned(&ours(&composed, 5, PhaseName::Succeeded));
    assert!(watch.observe(&done).is_some());
    assert!(watch.observe(&done).is_none(), "the same again is no news");
    assert!(watch.is_over());
    assert_eq!(watch.exit(), Exit::Succeeded);
}

#[test]
fn the_exit_code_is_that_of_the_worst_host() {
    for (phases, exit) in [
        ([PhaseName::Succeeded, PhaseName::Succeeded], 0),
        ([PhaseName::Succeeded, PhaseName::RolledBack], 3),
        ([PhaseName::RolledBack, PhaseName::TimedOut], 5),
        ([PhaseName::TimedOut, PhaseName::Rejected], 4),
        ([PhaseName::Degraded, PhaseName::Succeeded], 4),
        ([PhaseName::Succeeded, PhaseName::Confirming], 5),
        ([PhaseName::Confirming, PhaseName::Failed], 4),
    ] {
        let (composed, mut watch) = published(&["a", "b"]);
        for (order, phase) in composed.orders.iter().zip(phases) {
            let mut report = ours(&composed, 2, phase);
            report.host = order.host.clone();
            report.order.as_mut().unwrap().target = order.hash;
            watch.observe(&pinned(&report));
        }
        watch.give_up();
        assert!(watch.is_over());
        assert_eq!(watch.exit().code(), exit, "{phases:?}");
    }
}

#[test]
fn a_report_about_another_release_or_target_does_not_count() {
    let (composed, mut watch) = published(&["a"]);
    let mut release = ours(&composed, 2, PhaseName::Succeeded);
    release.order.as_mut().unwrap().release = ReleaseId::new(composed.release.issued_at, &[9; 10]);
    let mut target = ours(&composed, 3, PhaseName::Succeeded);
    target.order.as_mut().unwrap().target = TargetHash::of(b"other");
    let mut profile = ours(&composed, 4, PhaseName::Succeeded);
    profile.profile = "home".parse().unwrap();
    let mut host = ours(&composed, 5, PhaseName::Succeeded);
    host.host = "b".parse().unwrap();
    let mut none = ours(&composed, 6, PhaseName::Succeeded);
    none.order = None;
    for report in [release, target, profile, host, none] {
        assert!(watch.observe(&pinned(&report)).is_none());
    }
    assert_eq!(word(&watch), "no-answer");
}

#[test]
fn stale_reports_are_ignored_within_one_life_of_the_state() {
    let (composed, mut watch) = published(&["a"]);
    watch.observe(&pinned(&ours(&composed, 7, PhaseName::Activating)));
    let stale = pinned(&ours(&composed, 6, PhaseName::Failed));
    assert!(watch.observe(&stale).is_none());
    assert_eq!(word(&watch), "activating");
    let mut reborn = ours(&composed, 1, PhaseName::Rejected);
    reborn.incarnation = Incarnation::from_bytes([8; 16]);
    assert!(watch.observe(&pinned(&reborn)).is_some());
    assert_eq!(watch.exit(), Exit::Failed);
}

#[test]
fn the_end_is_kept_unless_a_newer_report_ends_it_otherwise() {
    let (composed, mut watch) = published(&["a"]);
    watch.observe(&pinned(&ours(&composed, 2, PhaseName::RolledBack)));
    assert!(watch.observe(&pinned(&ours(&composed, 3, PhaseName::RollingBack))).is_none());
    assert_eq!(watch.exit(), Exit::RolledBack);
    watch.observe(&pinned(&ours(&composed, 4, PhaseName::Degraded)));
    assert_eq!(watch.exit(), Exit::Failed);
}

#[test]
fn a_refusal_counts_if_it_is_of_our_message_and_we_are_not_at_work() {
    let (composed, mut watch) = published(&["a"]);
    let digest = composed.orders[0].digest;
    let idle = || others(&composed, 2, PhaseName::Succeeded, 5);
    let other = refusing(idle(), MessageDigest::of(b"other"), Code::BadSignature);
    assert!(watch.observe(&pinned(&other)).is_none());
    let at_work = ours(&composed, 3, PhaseName::Realising);
    watch.observe(&pinned(&refusing(at_work, digest, Code::Expired)));
    assert_eq!(word(&watch), "realising");

    let (_, mut watch) = published(&["a"]);
    watch.observe(&pinned(&refusing(idle(), digest, Code::UnderSigned)));
    let standing = watch.standings().next().unwrap().2;
    assert_eq!(standing.to_string(), "refused: under-signed: because");
    assert_eq!(watch.exit(), Exit::Failed);
    assert_eq!(watch.outrun(Sequence::new(u64::MAX)), None);
}

#[test]
fn a_replayed_refusal_names_the_sequence_to_sign_above_if_it_is_credible() {
    for code in [Code::Replayed, Code::Conflict] {
        let (composed, mut watch) = published(&["a"]);
        let busy = others(&composed, 2, PhaseName::Succeeded, OURS + 5);
        watch.observe(&pinned(&refusing(busy, composed.orders[0].digest, code)));
        assert!(watch.is_over());
        let outrun = |latest| watch.outrun(Sequence::new(latest)).map(Sequence::number);
        assert_eq!(outrun(OURS + 10), Some(OURS + 5));
        assert_eq!(outrun(OURS + 5), None);
    }
}

#[test]
fn a_later_order_supersedes_ours_once_it_is_known_that_it_came_later() {
    let later = |composed: &Composed| pinned(&others(composed, 3, PhaseName::Accepted, OURS + 5));

    let (composed, mut watch) = published(&["a"]);
    assert!(watch.observe(&later(&composed)).is_none(), "it may be older");

    let (composed, mut watch) = published(&["a"]);
    watch.observe(&pinned(&ours(&composed, 2, PhaseName::Accepted)));
    assert!(watch.observe(&later(&composed)).is_some());
    assert_eq!(word(&watch), "superseded");

    let (composed, mut watch) = published(&["a"]);
    let host = composed.orders[0].host.clone();
    watch.overtaken(&host, &ProfileName::system(), Sequence::new(OURS + 5));
    assert!(watch.observe(&later(&composed)).is_some());
    assert_eq!(word(&watch), "superseded");
}

#[test]
fn a_later_order_does_not_hide_how_ours_ended() {
    for (phase, exit) in [
        (PhaseName::Succeeded, Exit::Succeeded),
        (PhaseName::RolledBack, Exit::RolledBack),
        (PhaseName::Degraded, Exit::Failed),
    ] {
        let (composed, mut watch) = published(&["a"]);
        let order = &composed.orders[0];
        assert!(watch.is_open(&order.host, &order.profile));
        watch.observe(&pinned(&ours(&composed, 2, phase)));
        assert!(!watch.is_open(&order.host, &order.profile));
        watch.overtaken(&order.host, &order.profile, Sequence::new(OURS + 5));
        let later = |number| others(&composed, number, PhaseName::Accepted, OURS + 5);
        for report in [
            later(3),
            refusing(later(4), order.digest, Code::Replayed),
            ours(&composed, 5, PhaseName::Superseded),
        ] {
            assert!(watch.observe(&pinned(&report)).is_none());
            assert_eq!((word(&watch), watch.exit()), (phase.to_string(), exit));
        }
    }
}

#[test]
fn a_word_that_counts_for_nothing_is_told_until_one_counts() {
    let (composed, mut watch) = published(&["a"]);
    let (host, system) = (composed.orders[0].host.clone(), ProfileName::system());
    let other_key = || Unheard::OtherKey(host.clone());
    assert_eq!(watch.problem(&host, &system), None);
    assert_eq!(watch.unverified(&host, &system, Unheard::Cleared), None);
    let problem = watch.unverified(&host, &system, other_key());
    assert!(problem.unwrap().contains("not pinned for a"));
    assert_eq!(watch.unverified(&host, &system, other_key()), None, "the same again is no news");
    assert!(watch.problem(&host, &system).is_some());
    watch.observe(&pinned(&ours(&composed, 2, PhaseName::Accepted)));
    assert_eq!(watch.problem(&host, &system), None, "a verified report is newer");
    watch.unverified(&host, &system, other_key());
    watch.observe(&pinned(&ours(&composed, 3, PhaseName::Succeeded)));
    assert_eq!(watch.unverified(&host, &system, other_key()), None);
    assert_eq!((watch.problem(&host, &system), watch.is_over()), (None, true), "it has ended");

    let (_, mut watch) = published(&["a"]);
    watch.unverified(&host, &system, other_key());
    watch.give_up();
    assert!(watch.problem(&host, &system).is_some(), "it was given up");
}

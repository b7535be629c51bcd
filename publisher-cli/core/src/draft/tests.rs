use super::*;
use crate::testing::{draft, target};

fn with(change: impl FnOnce(&mut Target)) -> Draft {
    let mut target = target("a");
    change(&mut target);
    draft(vec![target])
}

fn refusal(draft: &Draft) -> String {
    draft.check(1).expect_err("must be refused").to_string()
}

#[test]
fn a_sound_draft_passes() {
    assert_eq!(draft(vec![target("a"), target("b")]).check(1), Ok(()));
    let mut home = target("a");
    home.profile = "home".parse().unwrap();
    assert_eq!(draft(vec![target("a"), home]).check(1), Ok(()));
}

#[test]
fn a_release_that_no_host_would_take_is_refused() {
    let sound = || draft(vec![target("a")]);
    let now = sound().issued_at;
    let mut late = sound();
    late.not_before = late.expires_at;
    let mut over = sound();
    over.expires_at = now;
    let mut ahead = sound();
    ahead.sequence = Sequence::new(now.plus(MAX_AHEAD).as_millis() + 1);
    let cases = [
        (late, BadDraft::EmptyWindow),
        (over, BadDraft::Expired),
        (draft(vec![]), BadDraft::NoTargets),
        (ahead.clone(), BadDraft::TooFarAhead { sequence: ahead.sequence }),
    ];
    for (draft, expected) in cases {
        assert_eq!(draft.check(1), Err(expected));
    }
}

#[test]
fn a_target_that_its_host_would_refuse_is_refused_by_the_host_s_name() {
    let year = Duration::from_secs(367 * 24 * 3600);
    let command = |argv: &[&str]| {
        let argv = argv.iter().map(|part| (*part).to_owned()).collect();
        with(|target| target.health.checks = vec![Check::Command(argv)])
    };
    let cases = [
        (with(|t| t.action = Action::Unknown(99)), "unknown-99"),
        (with(|t| t.marks = vec![Mark::Unknown(9)]), "not supported"),
        (
            with(|t| {
                t.action = Action::Reboot;
                t.marks = vec![Mark::Irreversible];
            }),
            "can't be irreversible",
        ),
        (with(|t| t.limits.wait = Some(Duration::ZERO)), "wait is zero"),
        (with(|t| t.action = Action::Unknown(99)), "unknown-99"),
        (with(|t| t.limits.realise = Duration::ZERO), "realise is zero"),
        (with(|t| t.limits.activate = Duration::from_micros(9)), "activate is zero"),
        (with(|t| t.limits.confirm = Duration::ZERO), "confirm is zero"),
        (with(|t| t.limits.realise = year), "limits: realise: a span is at most a year"),
        (with(|t| t.health.stable_for = t.limits.confirm), "must hold for 120s"),
        (
            with(|t| t.substituters = vec!["https://c".parse().unwrap(); MAX_SUBSTITUTERS + 1]),
            "9 binary caches",
        ),
        (command(&[]), "no program"),
        (command(&["", "x"]), "no program"),
        (command(&["sh", "a\0b"]), "no NUL"),
        (command(&["sh", &"x".repeat(MAX_MESSAGE)]), "more than 16384"),
        (draft(vec![target("a"), target("a")]), "two targets"),
    ];
    for (draft, expected) in cases {
        let refusal = refusal(&draft);
        assert!(refusal.contains(expected), "{refusal}, not {expected}");
        assert!(refusal.starts_with("a: "), "{refusal}");
    }
}

#[test]
fn an_order_that_just_fits_one_signature_is_refused_with_two() {
    let fits = |length: usize, signatures| {
        let argv = vec!["sh".into(), "x".repeat(length)];
        with(|target| target.health.checks = vec![Check::Command(argv)]).check(signatures)
    };
    let most = (0..MAX_MESSAGE).rfind(|length| fits(*length, 1).is_ok()).unwrap();
    assert!(matches!(fits(most, 2), Err(BadDraft::TooLarge { .. })));
}

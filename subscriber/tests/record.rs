//! The armed record: who gets it when several want it, and what is read of a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod common;

use std::{fs, io::ErrorKind, sync::Barrier, thread};

use common::Scratch;
use herald_core::Claim;
use herald_proto::{host::ProfileName, id::BootId};
use herald_subscriber::{
    adapters::record::{ArmedRecord, NotClaimed, Records},
    config::Runner,
};

/// A record of format 1 as the first version wrote it. It never changes: every later version must
/// be able to roll back from it.
const V1: &str = r#"format = 1
attempt = 7
profile_name = "system"
activates = true
target = "/nix/store/1111111111111111111111111111111i-nixos-system-alpha-26.05"
previous = "/nix/store/0000000000000000000000000000000h-nixos-system-alpha-25.11"
current = "/run/current-system"
profile = "/nix/var/nix/profiles/system"
profile_link = "system-41-link"
boot_default = "/nix/store/0000000000000000000000000000000g-nixos-system-alpha-25.05"
boot = "0102030405060708090a0b0c0d0e0f10"
dead_man_at = 123456789
activate_limit = 600000
runner = "systemd"
"#;

fn v1() -> ArmedRecord {
    let path = |start: &str, end: char, version: &str| {
        let hash = format!("{}{end}", start.repeat(31));
        format!("/nix/store/{hash}-nixos-system-alpha-{version}").parse().unwrap()
    };
    ArmedRecord {
        format: 1,
        attempt: 7,
        profile_name: ProfileName::system(),
        activates: true,
        target: path("1", 'i', "26.05"),
        previous: path("0", 'h', "25.11"),
        current: "/run/current-system".into(),
        profile: "/nix/var/nix/profiles/system".into(),
        profile_link: Some("system-41-link".into()),
        boot_default: Some(path("0", 'g', "25.05")),
        boot_default_link: None,
        boot: BootId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        dead_man_at: 123_456_789,
        activate_limit: 600_000,
        runner: Runner::Systemd,
        subscriber: None,
        last_resort: None,
        reboot: None,
    }
}

/// Makes the records of a folder in which attempt 7 is armed with this text.
fn armed_with(text: &str) -> (Scratch, Records) {
    let scratch = Scratch::new();
    let records = Records::new(scratch.path());
    fs::write(records.file("armed", 7), text).unwrap();
    (scratch, records)
}

#[test]
fn a_record_of_the_first_version_is_read_and_still_written_the_same() {
    let (_scratch, records) = armed_with(V1);
    assert_eq!(records.read(7).unwrap(), v1());
    records.write(Claim::Armed, &v1()).unwrap();
    assert_eq!(fs::read_to_string(records.file("armed", 7)).unwrap(), V1);
}

#[test]
fn what_may_be_missing_may_be_missing() {
    let lines = V1
        .lines()
        .filter(|line| !line.starts_with("profile_link") && !line.starts_with("boot_default"));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let (_scratch, records) = armed_with(&text);
    let expected = ArmedRecord { profile_link: None, boot_default: None, ..v1() };
    assert_eq!(records.read(7).unwrap(), expected);
}

#[test]
fn keys_of_a_later_version_are_passed_over() {
    let (_scratch, records) =
        armed_with(&format!("colour = \"blue\"\n{V1}[reboot]\nentry = \"herald\"\n"));
    assert_eq!(records.read(7).unwrap(), v1());
}

#[test]
fn a_record_names_the_subscriber_where_it_is_a_unit() {
    let (_scratch, records) = armed_with("");
    let unit = "herald-subscriber.service";
    let record = ArmedRecord { subscriber: Some(unit.parse().unwrap()), ..v1() };
    records.write(Claim::Armed, &record).unwrap();
    assert_eq!(records.read(7).unwrap(), record);
    let text = fs::read_to_string(records.file("armed", 7)).unwrap();
    assert!(text.ends_with("runner = \"systemd\"\nsubscriber = \"herald-subscriber.service\"\n"));
}

#[test]
fn a_record_of_another_format_is_refused_with_its_number() {
    for format in [0, 2, 65_535] {
        let (_scratch, records) =
            armed_with(&V1.replace("format = 1", &format!("format = {format}")));
        let error = records.read(7).unwrap_err().to_string();
        assert!(error.contains(&format!("format {format}")), "{error}");
        assert!(error.contains("armed-7"), "{error}");
    }
}

#[test]
fn a_truncated_or_damaged_record_is_refused() {
    for length in 0..V1.len() - 1 {
        let (_scratch, records) = armed_with(&V1[..length]);
        assert!(records.read(7).is_err(), "cut off after {:?}", &V1[..length]);
    }
    for (from, to) in [
        ("attempt = 7", "attempt = -7"),
        ("= true", "= \"true\""),
        ("/nix/store/1", "nix/store/1"),
        ("\"systemd\"", "\"launchd\""),
        ("0102", "01"),
    ] {
        let (_scratch, records) = armed_with(&V1.replace(from, to));
        assert!(records.read(7).is_err(), "{from} -> {to}");
    }
}

#[test]
fn a_record_that_is_not_there_can_be_neither_read_nor_claimed() {
    let scratch = Scratch::new();
    let records = Records::new(scratch.path());
    assert_eq!(records.read(7).unwrap_err().kind(), ErrorKind::NotFound);
    for claim in
        [Records::claim_for_commit, Records::claim_for_rollback, Records::claim_for_dead_man]
    {
        let lost = claim(&records, 7).unwrap_err();
        assert!(matches!(lost, NotClaimed::Lost { holder: Claim::None, .. }), "{lost}");
    }
}

#[test]
fn a_commit_may_claim_twice_and_a_roll_back_takes_it_over() {
    let (_scratch, records) = armed_with(V1);
    records.claim_for_commit(7).unwrap();
    records.claim_for_commit(7).unwrap();
    assert_eq!(records.holder(7), Claim::Commit);
    let lost = records.claim_for_dead_man(7).unwrap_err();
    assert!(matches!(lost, NotClaimed::Lost { holder: Claim::Commit, .. }), "{lost}");

    records.claim_for_rollback(7).unwrap();
    records.claim_for_rollback(7).unwrap();
    assert_eq!(records.holder(7), Claim::Rollback);
    let lost = records.claim_for_commit(7).unwrap_err();
    assert!(matches!(lost, NotClaimed::Lost { holder: Claim::Rollback, .. }), "{lost}");
    assert_eq!(records.read(7).unwrap(), v1(), "a claim changes nothing in the record");
}

#[test]
fn a_record_is_withdrawn_only_while_nobody_has_claimed_it() {
    let (_scratch, records) = armed_with(V1);
    records.withdraw(7).unwrap();
    records.withdraw(7).unwrap();
    assert_eq!(records.holder(7), Claim::None);
    for claim in [Records::claim_for_commit, Records::claim_for_dead_man] {
        let (_scratch, records) = armed_with(V1);
        claim(&records, 7).unwrap();
        let holder = records.holder(7);
        records.withdraw(7).unwrap();
        assert_eq!(records.holder(7), holder);
    }
}

#[test]
fn of_a_commit_and_dead_men_that_race_exactly_one_wins() {
    const ROUNDS: usize = 200;
    const CONTENDERS: usize = 4;
    let mut commits = 0;
    for round in 0..ROUNDS {
        let (_scratch, records) = armed_with(V1);
        let start = Barrier::new(CONTENDERS);
        let won: Vec<Claim> = thread::scope(|scope| {
            let contend = |number| {
                let (records, start) = (&records, &start);
                scope.spawn(move || {
                    start.wait();
                    // Who comes to the barrier last goes first: it is the commit's turn too.
                    let (claimed, claim) = if number == round % CONTENDERS {
                        (records.claim_for_commit(7), Claim::Commit)
                    } else {
                        (records.claim_for_dead_man(7), Claim::Rollback)
                    };
                    claimed.is_ok().then_some(claim)
                })
            };
            let contenders: Vec<_> = (0..CONTENDERS).map(contend).collect();
            contenders.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(won, [records.holder(7)], "round {round}");
        assert_eq!(records.read(7).unwrap(), v1());
        commits += usize::from(won == [Claim::Commit]);
    }
    assert!((1..ROUNDS).contains(&commits), "no race: {commits} of {ROUNDS} won by the commit");
}

#[test]
fn a_record_is_seen_and_read_at_every_moment_while_it_is_claimed() {
    for _ in 0..100 {
        let (_scratch, records) = armed_with(V1);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let looking = scope.spawn(|| {
                start.wait();
                loop {
                    let record = records.read(7);
                    assert!(record.is_ok(), "could not be read: {record:?}");
                    match records.holder(7) {
                        Claim::None => panic!("nobody holds it"),
                        Claim::Rollback => return,
                        Claim::Armed | Claim::Commit => {}
                    }
                }
            });
            start.wait();
            records.claim_for_commit(7).unwrap();
            records.claim_for_rollback(7).unwrap();
            looking.join().unwrap();
        });
    }
}

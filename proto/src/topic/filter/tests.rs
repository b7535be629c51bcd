use std::collections::HashSet;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{id::ReleaseId, key::KeyId, time::Timestamp};

fn named_fleets() -> impl Strategy<Value = FleetId> {
    select(vec!["home", "work", "release"]).prop_map(|name| name.parse().unwrap())
}

/// Few names, so that filters often match, some of which look like other levels.
fn hosts() -> impl Strategy<Value = HostId> {
    let uuid = ReleaseId::new(Timestamp::from_millis(1), &[1; 10]).to_string();
    let names = ["a", "b", "decision", "status"].map(str::to_owned).to_vec();
    select([names, vec![uuid]].concat()).prop_map(|name| name.parse().unwrap())
}

fn subjects() -> impl Strategy<Value = Subject> {
    let profile = || select(vec!["system", "a", "decision"]).prop_map(|name| name.parse().unwrap());
    let release = || (1..3u8).prop_map(|n| ReleaseId::new(Timestamp::from_millis(1), &[n; 10]));
    prop_oneof![
        (hosts(), profile()).prop_map(|(host, profile)| Subject::Desired(host, profile)),
        (hosts(), profile()).prop_map(|(host, profile)| Subject::Status(host, profile)),
        (hosts(), profile()).prop_map(|(host, profile)| Subject::Rollback(host, profile)),
        hosts().prop_map(Subject::Presence),
        hosts().prop_map(Subject::Event),
        hosts().prop_map(Subject::Log),
        release().prop_map(Subject::Release),
        release().prop_map(Subject::Decision),
        Just(Subject::Beacon),
        (0..2u8).prop_map(|n| Subject::Enrol(KeyId::from_bytes([n; 32]))),
        hosts().prop_map(Subject::Roster),
    ]
}

fn topics() -> impl Strategy<Value = Topic> {
    (named_fleets(), subjects()).prop_map(|(fleet, subject)| Topic::new(fleet, subject))
}

fn filters() -> impl Strategy<Value = Filter> {
    let kinds = || (0..12u16).prop_map(Kind::from_code);
    prop_oneof![
        topics().prop_map(Filter::Exactly),
        (named_fleets(), kinds(), hosts()).prop_map(|(f, kind, h)| Filter::OfHost(f, kind, h)),
        (named_fleets(), kinds()).prop_map(|(fleet, kind)| Filter::Every(fleet, kind)),
    ]
}

/// What MQTT says about a filter and a topic (MQTT 3.1.1 section 4.7), for `+` alone.
fn mqtt_matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<_>, Vec<_>) =
        (filter.split('/').collect(), topic.split('/').collect());
    filter.len() == topic.len()
        && filter.iter().zip(topic).all(|(one, other)| *one == "+" || *one == other)
}

proptest! {
    #[test]
    fn a_filter_matches_a_topic_just_when_it_is_one_of_the_topics_filters(
        topic in topics(), filter in filters(),
    ) {
        let all: Vec<_> = topic.filters().collect();
        prop_assert_eq!(filter.matches(&topic), all.contains(&filter));
        prop_assert!(all.iter().all(|one| one.matches(&topic)));
        prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn the_texts_of_a_topics_filters_are_those_of_its_filters(topic in topics()) {
        let (mut buffer, mut texts) = (String::from("what was there"), Vec::new());
        topic.each_filter_text(&mut buffer, |text| texts.push(text.to_owned()));
        let expected: Vec<_> = topic.filters().map(|filter| filter.to_string()).collect();
        prop_assert_eq!(texts, expected);
    }

    #[test]
    fn a_filter_that_can_match_is_read_as_it_is_written_and_means_what_mqtt_means(
        filter in filters(), topic in topics(),
    ) {
        let text = filter.to_string();
        let can_match = match filter {
            Filter::Exactly(_) => true,
            Filter::OfHost(_, kind, _) => kind.is_per_profile(),
            Filter::Every(_, kind) => Kind::KNOWN.contains(&kind),
        };
        match text.parse::<Filter>() {
            Ok(read) => {
                prop_assert!(can_match);
                prop_assert_eq!(&read, &filter);
                prop_assert_eq!(
                    read.matches(&topic),
                    mqtt_matches(&text, &topic.to_string())
                );
            }
            Err(error) => prop_assert!(!can_match, "{}", error),
        }
    }

    #[test]
    fn no_text_is_read_as_a_filter_that_is_written_in_another_way(
        levels in proptest::collection::vec(
            select(vec![
                "herald", "v1", "home", "status", "release", "decision", "presence", "beacon",
                "unknown-0", "a", "system", "+", "#", "", "$share", "é",
            ]),
            0..8,
        ),
        prefixed: bool,
    ) {
        let prefix = if prefixed { "herald/v1/home/" } else { "" };
        let text = format!("{prefix}{}", levels.join("/"));
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string(), text);
        }
    }
}

#[test]
fn every_filter_has_its_text() {
    for (text, filter) in [
        ("status/+/+", Filter::Every(fleet(), Kind::Status)),
        ("rollback/+/+", Filter::Every(fleet(), Kind::Rollback)),
        ("desired/+/+", Filter::Every(fleet(), Kind::Desired)),
        ("presence/+", Filter::Every(fleet(), Kind::Presence)),
        ("event/+", Filter::Every(fleet(), Kind::Event)),
        ("log/+", Filter::Every(fleet(), Kind::Log)),
        ("release/+", Filter::Every(fleet(), Kind::Release)),
        ("release/+/decision", Filter::Every(fleet(), Kind::Decision)),
        ("enrol/+", Filter::Every(fleet(), Kind::Enrol)),
        ("roster/+", Filter::Every(fleet(), Kind::Roster)),
        ("status/a/+", Filter::OfHost(fleet(), Kind::Status, "a".parse().unwrap())),
        ("rollback/a/+", Filter::OfHost(fleet(), Kind::Rollback, "a".parse().unwrap())),
        ("desired/a/+", Filter::OfHost(fleet(), Kind::Desired, "a".parse().unwrap())),
        ("beacon", Filter::Exactly(Topic::new(fleet(), Subject::Beacon))),
    ] {
        let text = format!("herald/v1/home/{text}");
        assert_eq!(text.parse::<Filter>().unwrap(), filter);
        assert_eq!(filter.to_string(), text);
    }
}

#[test]
fn what_is_no_filter_of_ours_is_refused() {
    for bad in [
        "",
        "#",
        "+",
        "herald/#",
        "herald/v1/#",
        "herald/v1/home/#",
        "herald/v1/+/beacon",
        "herald/v1/+/status/+/+",
        "herald/v1/home/+",
        "herald/v1/home/+/a",
        "herald/v1/home/beacon/+",
        "herald/v1/home/status/+",
        "herald/v1/home/status/+/system",
        "herald/v1/home/status/+/+/+",
        "herald/v1/home/status/a+/+",
        "herald/v1/home/status/+/#",
        "herald/v1/home/status/A/+",
        "herald/v1/home/status//+",
        "herald/v1/home/presence/+/+",
        "herald/v1/home/presence/a/+",
        "herald/v1/home/release/+/+",
        "herald/v1/home/release/a/+",
        "herald/v1/home/release/+/plan",
        "herald/v1/home/decision/+",
        "herald/v1/home/unknown-0/+/+",
        "herald/v1/home/unknown-2/+",
        "herald/v1/home/unknown-77/+",
        "herald/v1/HOME/status/+/+",
        "herald/v2/home/status/+/+",
        " herald/v1/home/status/+/+",
        "herald/v1/home/status/+/+ ",
        "herald/v1/home/status/+/+\0",
        "$share/group/herald/v1/home/status/+/+",
        "$SYS/#",
    ] {
        assert!(bad.parse::<Filter>().is_err(), "{bad:?}");
    }
}

fn fleet() -> FleetId {
    "home".parse().unwrap()
}

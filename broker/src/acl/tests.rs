use std::collections::BTreeSet;

use herald_proto::host::FleetId;
use herald_proto::key::KeyId;

use super::*;

/// What each may do with a topic of the fleet `home`: `r` subscribe to it, `w` publish on it.
/// Host `a` is the one that the topic is about, where it is about one. A candidate for `a` has the
/// token that the topic names; one for `b` has another.
#[rustfmt::skip]
const TOPICS: &[(&str, [&str; 7])] = &[
    //                                       host a  host b  operator  rollout  monitor  cand. a  cand. b
    ("desired/a/system",                    ["r-",   "--",   "rw",     "rw",    "--",   "--",     "--"]),
    ("status/a/system",                     ["rw",   "--",   "r-",     "r-",    "r-",   "--",     "--"]),
    ("rollback/a/system",                   ["rw",   "--",   "r-",     "r-",    "r-",   "--",     "--"]),
    ("presence/a",                          ["rw",   "--",   "r-",     "r-",    "r-",   "--",     "--"]),
    ("event/a",                             ["-w",   "--",   "r-",     "r-",    "r-",   "--",     "--"]),
    ("log/a",                               ["-w",   "--",   "r-",     "r-",    "--",   "--",     "--"]),
    ("release/00000000-0001-7101-8101-010101010101",
                                            ["r-",   "r-",   "rw",     "r-",    "r-",   "--",     "--"]),
    ("release/00000000-0001-7101-8101-010101010101/decision",
                                            ["r-",   "r-",   "r-",     "rw",    "r-",   "--",     "--"]),
    ("beacon",                              ["r-",   "r-",   "r-",     "rw",    "r-",   "--",     "--"]),
    ("enrol/0909090909090909090909090909090909090909090909090909090909090909",
                                            ["--",   "--",   "rw",     "r-",    "--",   "-w",     "--"]),
    ("roster/a",                            ["r-",   "--",   "rw",     "r-",    "r-",   "r-",     "--"]),
];

/// Who may subscribe to all of a kind, or to all profiles of host `a`.
#[rustfmt::skip]
const FILTERS: &[(&str, [bool; 7])] = &[
    //                      host a  host b  operator  rollout  monitor  cand. a  cand. b
    ("desired/a/+",        [true,   false,  true,     true,    false,   false,   false]),
    ("status/a/+",         [true,   false,  true,     true,    true,    false,   false]),
    ("rollback/a/+",       [true,   false,  true,     true,    true,    false,   false]),
    ("desired/+/+",        [false,  false,  true,     true,    false,   false,   false]),
    ("status/+/+",         [false,  false,  true,     true,    true,    false,   false]),
    ("rollback/+/+",       [false,  false,  true,     true,    true,    false,   false]),
    ("presence/+",         [false,  false,  true,     true,    true,    false,   false]),
    ("event/+",            [false,  false,  true,     true,    true,    false,   false]),
    ("log/+",              [false,  false,  true,     true,    false,   false,   false]),
    ("release/+",          [false,  false,  true,     true,    true,    false,   false]),
    ("release/+/decision", [false,  false,  true,     true,    true,    false,   false]),
    ("enrol/+",            [false,  false,  true,     true,    false,   false,   false]),
    ("roster/+",           [false,  false,  true,     true,    true,    false,   false]),
];

/// The columns of the tables, in a fleet.
fn everybody(fleet: &str) -> [Principal; 7] {
    let fleet: FleetId = fleet.parse().unwrap();
    let host = |name: &str| Principal::Host { fleet: fleet.clone(), host: name.parse().unwrap() };
    // Members with the name of the host, which is not what counts.
    let member = |role| Principal::Member { fleet: fleet.clone(), name: "a".into(), role };
    let [operator, rollout, monitor] = [Role::Operator, Role::Rollout, Role::Monitor].map(member);
    let candidate = |name: &str, token| Principal::Candidate {
        fleet: fleet.clone(),
        host: name.parse().unwrap(),
        token: KeyId::from_bytes([token; 32]),
    };
    [host("a"), host("b"), operator, rollout, monitor, candidate("a", 9), candidate("b", 8)]
}

fn topic(rest: &str) -> Topic {
    format!("herald/v1/home/{rest}").parse().unwrap()
}

fn filter(rest: &str) -> Filter {
    format!("herald/v1/home/{rest}").parse().unwrap()
}

/// What a principal may do with a topic, as the table says it.
fn rights(principal: &Principal, topic: &Topic) -> String {
    let reads = may_subscribe(principal, &Filter::Exactly(topic.clone()));
    let writes = may_publish(principal, topic, topic.is_retained());
    [if reads { 'r' } else { '-' }, if writes { 'w' } else { '-' }].iter().collect()
}

#[test]
fn each_may_do_with_a_topic_what_the_table_says() {
    for (text, expected) in TOPICS {
        let found = everybody("home").map(|principal| rights(&principal, &topic(text)));
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn each_may_subscribe_to_the_filters_that_the_table_says() {
    for (text, expected) in FILTERS {
        let found = everybody("home").map(|principal| may_subscribe(&principal, &filter(text)));
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn the_tables_have_every_kind_of_topic_and_filter() {
    let kinds: BTreeSet<_> = TOPICS.iter().map(|(text, _)| topic(text).subject.kind()).collect();
    assert_eq!(kinds.len(), TOPICS.len(), "a kind is there twice");
    let known = Kind::KNOWN.iter().copied();
    assert_eq!(kinds, known.clone().map(Some).chain([None]).collect());

    let filters: BTreeSet<_> = FILTERS.iter().map(|(text, _)| filter(text).to_string()).collect();
    let home: FleetId = "home".parse().unwrap();
    let every = known.clone().map(|kind| Filter::Every(home.clone(), kind));
    let of_a = known
        .filter(|kind| kind.is_per_profile())
        .map(|kind| Filter::OfHost(home.clone(), kind, "a".parse().unwrap()));
    assert_eq!(filters, every.chain(of_a).map(|filter| filter.to_string()).collect());
}

#[test]
fn nobody_does_anything_in_another_fleet() {
    for principal in everybody("work") {
        for (text, _) in TOPICS {
            assert_eq!(rights(&principal, &topic(text)), "--", "{principal} {text}");
        }
        for (text, _) in FILTERS {
            assert!(!may_subscribe(&principal, &filter(text)), "{principal} {text}");
        }
    }
}

#[test]
fn anonymous_may_do_everything_in_every_fleet() {
    for (text, _) in TOPICS {
        assert_eq!(rights(&Principal::Anonymous, &topic(text)), "rw", "{text}");
    }
    for (text, _) in FILTERS {
        assert!(may_subscribe(&Principal::Anonymous, &filter(text)), "{text}");
    }
}

#[test]
fn nobody_retains_what_is_not_retained_or_the_reverse() {
    for principal in everybody("home").iter().chain([&Principal::Anonymous]) {
        for (text, _) in TOPICS {
            let topic = topic(text);
            assert!(!may_publish(principal, &topic, !topic.is_retained()), "{principal} {text}");
        }
    }
}

#[test]
fn a_filter_lets_nobody_read_what_is_not_theirs_topic_by_topic() {
    let narrow = TOPICS.iter().map(|(text, _)| topic(text));
    for topic in narrow {
        for principal in everybody("home") {
            let exactly = may_subscribe(&principal, &Filter::Exactly(topic.clone()));
            for wide in topic.filters() {
                assert!(exactly || !may_subscribe(&principal, &wide), "{principal} {wide}");
            }
        }
    }
}

#[test]
fn a_filter_that_matches_nothing_is_for_nobody_who_logged_in() {
    let (home, host) = ("home".parse::<FleetId>().unwrap(), "a".parse::<HostId>().unwrap());
    let unknown = Kind::from_code(77);
    for principal in everybody("home") {
        for filter in [
            Filter::Every(home.clone(), unknown),
            Filter::OfHost(home.clone(), unknown, host.clone()),
        ] {
            assert!(!may_subscribe(&principal, &filter), "{principal} {filter}");
        }
    }
}

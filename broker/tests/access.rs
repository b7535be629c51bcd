//! `docs/access.md` against the code: its table of roles, its filters, and its example of logins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;

use herald_broker::acl::{may_publish, may_subscribe};
use herald_broker::logins::Logins;
use herald_broker::principal::{Principal, Role};
use herald_proto::host::FleetId;
use herald_proto::key::KeyId;
use herald_proto::topic::{Filter, Kind, Topic};

const DOCS: &str = include_str!("../../docs/access.md");

/// Each row of the table, and a topic of that kind which is about host `a`, if about any.
const ROWS: &[(&str, &str)] = &[
    ("desired/<host>/<profile>", "desired/a/system"),
    ("status/<host>/<profile>", "status/a/system"),
    ("rollback/<host>/<profile>", "rollback/a/system"),
    ("presence/<host>", "presence/a"),
    ("event/<host>", "event/a"),
    ("log/<host>", "log/a"),
    ("release/<id>", "release/00000000-0001-7101-8101-010101010101"),
    ("release/<id>/decision", "release/00000000-0001-7101-8101-010101010101/decision"),
    ("beacon", "beacon"),
    ("enrol/<token>", "enrol/0909090909090909090909090909090909090909090909090909090909090909"),
    ("roster/<host>", "roster/a"),
];

fn host(name: &str) -> Principal {
    Principal::Host { fleet: "home".parse().unwrap(), host: name.parse().unwrap() }
}

fn member(role: Role) -> Principal {
    Principal::Member { fleet: "home".parse().unwrap(), name: "m".into(), role }
}

fn reads(principal: &Principal, topic: &Topic) -> bool {
    may_subscribe(principal, &Filter::Exactly(topic.clone()))
}

fn writes(principal: &Principal, topic: &Topic) -> bool {
    may_publish(principal, topic, topic.is_retained())
}

/// Says what hosts may do with a topic, as the page says it.
fn hosts_cell(topic: &Topic) -> &'static str {
    let (own, other) = (host("a"), host("b"));
    assert!(!writes(&other, topic), "a host speaks for itself only");
    let all = topic.filters().last().unwrap();
    let reads_all = may_subscribe(&own, &all);
    match (reads(&own, topic), reads(&other, topic), writes(&own, topic)) {
        (false, false, false) => "nothing",
        (true, false, false) => "reads its own",
        (false, false, true) => "writes its own",
        (true, false, true) => "reads and writes its own",
        (true, true, false) if reads_all => "reads",
        (true, true, false) => "reads by its id",
        other => panic!("the page has no words for {other:?}"),
    }
}

/// Says what a member may do with a topic, alone or with all of its kind.
fn members_cell(role: Role, topic: &Topic) -> &'static str {
    let principal = member(role);
    let reads = reads(&principal, topic);
    for filter in topic.filters() {
        assert_eq!(may_subscribe(&principal, &filter), reads, "{principal} {filter}");
    }
    match (reads, writes(&principal, topic)) {
        (false, false) => "nothing",
        (true, false) => "reads",
        (true, true) => "reads, writes",
        (false, true) => panic!("the page has no words for writing alone"),
    }
}

/// Says what candidates may do with a topic.
fn candidates_cell(topic: &Topic) -> &'static str {
    let candidate = |name: &str, token| Principal::Candidate {
        fleet: "home".parse().unwrap(),
        host: name.parse().unwrap(),
        token: KeyId::from_bytes([token; 32]),
    };
    let (own, other) = (candidate("a", 9), candidate("b", 8));
    assert!(!writes(&other, topic) && !reads(&other, topic), "a candidate asks for itself only");
    for filter in topic.filters().filter(|filter| !matches!(filter, Filter::Exactly(_))) {
        assert!(!may_subscribe(&own, &filter), "{filter}");
    }
    match (reads(&own, topic), writes(&own, topic)) {
        (false, false) => "nothing",
        (true, false) => "reads its host's",
        (false, true) => "writes its token's",
        (true, true) => panic!("the page has no words for both"),
    }
}

#[test]
fn the_table_of_roles_says_what_the_code_does() {
    let written: Vec<_> = DOCS
        .lines()
        .skip_while(|line| !line.starts_with("| topic | host |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let computed: Vec<_> = ROWS
        .iter()
        .map(|(name, text)| {
            let topic: Topic = format!("herald/v1/home/{text}").parse().unwrap();
            let [operator, rollout, monitor] = [Role::Operator, Role::Rollout, Role::Monitor]
                .map(|role| members_cell(role, &topic));
            let hosts = hosts_cell(&topic);
            let candidates = candidates_cell(&topic);
            format!("| `{name}` | {hosts} | {operator} | {rollout} | {monitor} | {candidates} |")
        })
        .collect();
    assert_eq!(written, computed);
    assert_eq!(ROWS.len(), Kind::KNOWN.len() + 1, "every kind of topic and the beacon");
}

#[test]
fn the_page_names_every_filter() {
    let (start, end) = ("A filter is a topic, or one of", "after `herald/v1/<fleet>/`");
    let from = DOCS.find(start).unwrap();
    let sentence = &DOCS[from..from + DOCS[from..].find(end).unwrap()];
    let mut named: Vec<_> = sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    named.sort();
    let home: FleetId = "home".parse().unwrap();
    let mut all: Vec<_> = Kind::KNOWN
        .iter()
        .map(|kind| Filter::Every(home.clone(), *kind))
        .chain([Filter::OfHost(home.clone(), Kind::Status, "web-1".parse().unwrap())])
        .map(|filter| filter.to_string().replace("herald/v1/home/", ""))
        .collect();
    all.sort();
    assert_eq!(named, all);
}

#[test]
fn the_example_of_logins_can_be_loaded() {
    let (_, rest) = DOCS.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.toml");
    std::fs::write(&path, example).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let logins = Logins::load(&[path]).unwrap();
    let find = |name: &str| logins.find(&name.parse().unwrap()).unwrap();
    assert_eq!(find("home/web-1").principal.to_string(), "home/web-1");
    assert_eq!(find("home/alice").keys[0].name().to_string(), "alice");
    assert_eq!(find("home/kiosk").keys, []);
    assert_eq!(logins.fleets().next().unwrap().1, 5);
}

//! The page of topics: what is said where, by whom, and who may hear it.

use std::fmt::Write as _;

use herald_broker::{
    acl::{may_publish, may_subscribe},
    principal::{Principal, Role},
};
use herald_proto::{
    host::{FleetId, HostId, ProfileName},
    id::ReleaseId,
    key::KeyId,
    time::Timestamp,
    topic::{Filter, Kind, Subject, Topic},
};

use super::page;

const HEAD: &str = "\
# Topics

Written from the code by `tests/tests/reference`; do not edit. All stand below `herald/v1/<fleet>/`.
*Kept* topics are retained: whoever subscribes gets the latest message. What is in a message is in
[wire.md](../wire.md); who may log in as what is in [access.md](../access.md#roles).

Who writes and who reads is what `herald-broker` enforces, for a login's own fleet. A *host* writes and
reads what is its own; a *candidate* (a host that is being enrolled) its token's and its host's topic.
";

#[test]
fn every_topic_is_in_the_reference_with_who_writes_and_reads_it() {
    let mut text = format!(
        "{HEAD}\n| topic | what | kept | signed by | writes | reads | filter for all |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for subject in every_subject() {
        let topic = Topic::new(fleet(), subject);
        let who = |may: &dyn Fn(&Principal) -> bool| {
            let names = principals().into_iter().filter(|(_, it)| may(it)).map(|(name, _)| name);
            let names: Vec<_> = names.collect();
            if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
        };
        let kept = topic.is_retained();
        let writes = who(&|principal| may_publish(principal, &topic, kept));
        let reads = who(&|principal| may_subscribe(principal, &Filter::Exactly(topic.clone())));
        let kind = topic.subject.kind();
        let all = kind.map(|kind| Filter::Every(fleet(), kind).to_string());
        let all = all.map(|all| format!("`{}`", below(&all))).unwrap_or_default();
        let (what, signer) = said(&topic.subject);
        let kept = if kept { "yes" } else { "no" };
        let name = pattern(&topic);
        writeln!(text, "| `{name}` | {what} | {kept} | {signer} | {writes} | {reads} | {all} |")
            .unwrap();
    }
    page::check("topics.md", &text);
}

/// Says what is on a topic, and whose signature it has.
fn said(subject: &Subject) -> (&'static str, &'static str) {
    match subject {
        Subject::Desired(..) => ("the order for a host's profile", "the release role"),
        Subject::Status(..) => ("the latest report about it", "the host"),
        Subject::Rollback(..) => ("the report about its latest roll back", "the host"),
        Subject::Presence(_) => ("whether the host is connected; its last will", "the host"),
        Subject::Event(_) => ("every report, as it is made", "the host"),
        Subject::Log(_) => {
            ("the end of what an activation, commit or roll back printed", "the host")
        }
        Subject::Release(_) => ("a release's plan; nothing writes it yet", "the release role"),
        Subject::Decision(_) => {
            ("the latest decision about a release; nothing writes it yet", "the rollout role")
        }
        Subject::Beacon => {
            ("a sign of life, by which hosts know that nothing is held back", "the rollout role")
        }
        Subject::Enrol(_) => {
            ("a host's request to be known by its key", "the token, and the host's key")
        }
        Subject::Roster(_) => {
            ("by which key a host is known, or may ask to be", "the release role")
        }
    }
}

fn every_subject() -> Vec<Subject> {
    let beacon = [Subject::Beacon];
    let of_kind = |kind: &Kind| match kind {
        Kind::Desired => Subject::Desired(host(), ProfileName::system()),
        Kind::Status => Subject::Status(host(), ProfileName::system()),
        Kind::Rollback => Subject::Rollback(host(), ProfileName::system()),
        Kind::Presence => Subject::Presence(host()),
        Kind::Event => Subject::Event(host()),
        Kind::Log => Subject::Log(host()),
        Kind::Release => Subject::Release(release()),
        Kind::Decision => Subject::Decision(release()),
        Kind::Enrol => Subject::Enrol(token()),
        Kind::Roster => Subject::Roster(host()),
        Kind::Unknown(number) => panic!("{number} is no known kind"),
    };
    Kind::KNOWN.iter().map(of_kind).chain(beacon).collect()
}

fn principals() -> [(&'static str, Principal); 5] {
    let member = |role| Principal::Member { fleet: fleet(), name: "alice".into(), role };
    [
        ("host", Principal::Host { fleet: fleet(), host: host() }),
        ("operator", member(Role::Operator)),
        ("rollout", member(Role::Rollout)),
        ("monitor", member(Role::Monitor)),
        ("candidate", Principal::Candidate { fleet: fleet(), host: host(), token: token() }),
    ]
}

/// Writes a topic with words in place of its names.
fn pattern(topic: &Topic) -> String {
    let text = below(&topic.to_string());
    let words = [
        (host().to_string(), "<host>"),
        (release().to_string(), "<release>"),
        (token().to_string(), "<token>"),
        ("/system".to_owned(), "/<profile>"),
    ];
    words.iter().fold(text, |text, (name, word)| text.replace(name, word))
}

fn below(text: &str) -> String {
    text.strip_prefix("herald/v1/home/").unwrap().to_owned()
}

fn fleet() -> FleetId {
    "home".parse().unwrap()
}

fn host() -> HostId {
    "web-1".parse().unwrap()
}

fn release() -> ReleaseId {
    ReleaseId::new(Timestamp::from_millis(1), &[1; 10])
}

fn token() -> KeyId {
    KeyId::from_bytes([9; 32])
}

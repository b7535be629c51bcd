//! Generators: messages of every shape, and texts and items that are nearly right.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    str::FromStr,
    time::Duration,
};

use herald_proto::{
    beacon::Beacon,
    codec::{Bytes, Value},
    enrol::{EnrolRequest, RosterEntry, Token},
    http::HttpCheck,
    id::{
        BootId, ClosureDigest, Incarnation, MerkleHash, MessageDigest, ReleaseId, Sequence,
        TargetHash, TrustDigest,
    },
    key::{BareKey, SecretKey},
    log::{Log, Program},
    order::SealedOrder,
    plan::Plan,
    presence::{Hearing, Liveness, Presence, TakenOrder},
    rejection::Code,
    release::Release,
    report::{Hold, OrderName, PhaseName, Progress, Refusal, Report, Systems},
    store_path::StorePath,
    substituter::Substituter,
    target::{Action, Check, Closure, Health, IfRebootNeeded, Integrity, Limits, Mark, Target},
    text::Prose,
    time::Timestamp,
};
use proptest::{collection::vec, option, prelude::*};

use crate::common::parse;

const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;
const STORE_PATH: &str =
    "(/[a-z.]{0,3}[a-z]){1,3}/[0-9a-df-np-sv-z]{32}-[A-Za-z0-9+_?=-][A-Za-z0-9+._?=-]{0,60}";
const NEARLY_TOPIC: &str = concat!(
    "herald/v1/[a-zA+#-]{0,3}/",
    "(desired|status|rollback|presence|event|log|release|roster|enrol|beacon|x)",
    "(/([a-z-]{0,3}|018f0000-0000-7000-8000-00000000000[0-9a-gA-F]))?",
    "(/[a-z_+]{0,3}|/decision)?",
);

fn text<T: FromStr<Err: std::fmt::Debug> + std::fmt::Debug>(
    pattern: &'static str,
) -> impl Strategy<Value = T> {
    pattern.prop_map(|text| parse(&text))
}

fn name<T: FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    text("[a-z0-9][a-z0-9-]{0,30}[a-z0-9]")
}

fn unit<T: FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    text("[A-Za-z0-9:_.@\\\\][A-Za-z0-9:_.@\\\\-]{0,40}\\.(service|socket|timer|mount)")
}

fn store_path() -> impl Strategy<Value = StorePath> {
    text(STORE_PATH)
}

fn prose() -> impl Strategy<Value = Prose> {
    any::<String>().prop_map(|text| Prose::lossy(&text))
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn span() -> impl Strategy<Value = Duration> {
    (0..=YEAR_MS).prop_map(Duration::from_millis)
}

fn sequence() -> impl Strategy<Value = Sequence> {
    any::<u64>().prop_map(Sequence::new)
}

fn release_id() -> impl Strategy<Value = ReleaseId> {
    (0..1u64 << 48, any::<[u8; 10]>())
        .prop_map(|(at, random)| ReleaseId::new(Timestamp::from_millis(at), &random))
}

pub(crate) fn release() -> impl Strategy<Value = Release> {
    let names = (name(), release_id(), sequence(), any::<u16>());
    let times = (time(), time(), time());
    let targets = (any::<[u8; 32]>(), any::<u64>(), any::<u16>());
    (names, times, targets, option::of(prose()), option::of(prose())).prop_map(
        |((fleet, id, sequence, version), times, (root, targets_count, plan), revision, reason)| {
            Release {
                version,
                fleet,
                id,
                sequence,
                issued_at: times.0,
                not_before: times.1,
                expires_at: times.2,
                targets_root: MerkleHash::from_bytes(root),
                targets_count,
                plan: Plan::from_code(plan),
                revision,
                reason,
            }
        },
    )
}

fn integrity() -> impl Strategy<Value = Integrity> {
    let closure =
        (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(|(digest, size, paths)| {
            let digest = ClosureDigest::from_bytes(digest);
            Integrity::Closure(Closure { digest, size, paths })
        });
    prop_oneof![closure, Just(Integrity::Toplevel), Just(Integrity::Recorded)]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let scoped = (any::<Ipv6Addr>(), any::<u16>(), any::<u32>())
        .prop_map(|(ip, port, scope)| SocketAddrV6::new(ip, port, 0, scope).into());
    let plain = (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    prop_oneof![plain, scoped]
}

fn check() -> impl Strategy<Value = Check> {
    prop_oneof![
        vec("[^\\x00]{0,20}", 1..4).prop_map(Check::Command),
        unit().prop_map(Check::Unit),
        address().prop_map(Check::Tcp),
        http().prop_map(Check::Http),
    ]
}

fn http() -> impl Strategy<Value = HttpCheck> {
    let server = prop_oneof![
        "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5}){0,2}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
    ];
    let url = (server, 1..=u16::MAX, "/[!-\"$-~]{0,20}")
        .prop_map(|(server, port, path)| parse(&format!("http://{server}:{port}{path}")));
    let host = option::of("[A-Za-z0-9.:_-]{1,20}".prop_map(|text| parse(&text)));
    let status = option::of((100..=599u16).prop_flat_map(|first| {
        (first..=599).prop_map(move |last| parse(&format!("{first}-{last}")))
    }));
    let within = option::of((1..=60_000u16).prop_map(|millis| parse(&format!("{millis}ms"))));
    (url, host, status, within).prop_map(|(url, host, status, within)| HttpCheck {
        url,
        host,
        status,
        within,
    })
}

fn substituter() -> impl Strategy<Value = Substituter> {
    let folder = "/[A-Za-z0-9_~+=-]{1,9}";
    let at = (
        prop_oneof!["https", "http", "s3"],
        "[a-z0-9]([a-z0-9.-]{0,9}[a-z0-9])?(:[1-9][0-9]{0,3})?",
    );
    let far = (at, vec(folder, 0..3))
        .prop_map(|((scheme, at), folders)| format!("{scheme}://{at}{}", folders.concat()));
    let near = vec(folder, 1..4).prop_map(|folders| format!("file://{}", folders.concat()));
    prop_oneof![far, near].prop_map(|text| parse(&text))
}

pub(crate) fn target() -> impl Strategy<Value = Target> {
    let whom = (name(), name(), name::<String>());
    let what = (store_path(), any::<u16>(), integrity());
    let limits = (span(), span(), span(), option::of(span()))
        .prop_map(|(realise, activate, confirm, wait)| Limits { realise, activate, confirm, wait });
    let health =
        (span(), vec(check(), 0..5)).prop_map(|(stable_for, checks)| Health { stable_for, checks });
    let rest = (vec(store_path(), 0..4), vec(unit(), 0..4), option::of(any::<[u8; 16]>()));
    let terms = (option::of(any::<u16>()), vec(any::<u16>(), 0..3), vec(substituter(), 0..3));
    let all = (whom, what, limits, health, rest, terms);
    all.prop_map(|(whom, what, limits, health, rest, terms)| Target {
        host: whom.0,
        profile: whom.1,
        system: parse(&format!("{}-linux", whom.2)),
        toplevel: what.0,
        action: Action::from_code(what.1),
        integrity: what.2,
        limits,
        health,
        expect_current: rest.0,
        tolerated_units: rest.1,
        incarnation: rest.2.map(Incarnation::from_bytes),
        if_reboot_needed: terms.0.map(IfRebootNeeded::from_code),
        marks: terms.1.into_iter().map(Mark::from_code).collect(),
        substituters: terms.2,
    })
}

pub(crate) fn sealed_order() -> impl Strategy<Value = SealedOrder> {
    let bytes = || vec(any::<u8>(), 0..2_000).prop_map(Bytes);
    (bytes(), bytes(), any::<u64>(), vec(any::<[u8; 32]>(), 0..21)).prop_map(
        |(release, target, index, proof)| SealedOrder {
            release,
            target,
            index,
            proof: proof.into_iter().map(MerkleHash::from_bytes).collect(),
        },
    )
}

fn systems() -> impl Strategy<Value = Systems> {
    let one = || option::of(store_path());
    (one(), one(), one(), one(), one()).prop_map(|paths| Systems {
        running: paths.0,
        booted: paths.1,
        boot_default: paths.2,
        profile: paths.3,
        previous: paths.4,
    })
}

pub(crate) fn report() -> impl Strategy<Value = Report> {
    let whom = (any::<u16>(), name(), name(), prose());
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 32]>());
    let order =
        (release_id(), any::<[u8; 32]>(), sequence()).prop_map(|(release, target, sequence)| {
            OrderName { release, target: TargetHash::from_bytes(target), sequence }
        });
    let refusal = (any::<[u8; 32]>(), any::<u16>(), prose()).prop_map(|(message, code, detail)| {
        Refusal { message: MessageDigest::from_bytes(message), code: Code::from_code(code), detail }
    });
    let progress = any::<[u64; 2]>().prop_map(|[done, total]| Progress { done, total });
    let phase = (any::<u16>(), option::of(any::<u16>()), option::of(prose()));
    let about = (option::of(order), option::of(refusal), option::of(progress));
    let numbers = (any::<u64>(), time());
    let hold = (prose(), time()).prop_map(|(reason, since)| Hold { reason, since });
    let units = (vec(unit(), 0..5), option::of(hold));
    (whom, ids, numbers, phase, about, systems(), units).prop_map(
        |(whom, ids, (number, time), phase, about, systems, (failed_units, hold))| Report {
            version: whom.0,
            host: whom.1,
            profile: whom.2,
            incarnation: Incarnation::from_bytes(ids.0),
            number,
            time,
            boot: BootId::from_bytes(ids.1),
            agent: whom.3,
            trust: TrustDigest::from_bytes(ids.2),
            phase: PhaseName::from_code(phase.0),
            code: phase.1.map(Code::from_code),
            detail: phase.2,
            order: about.0,
            refusal: about.1,
            progress: about.2,
            systems,
            failed_units,
            hold,
        },
    )
}

pub(crate) fn presence() -> impl Strategy<Value = Presence> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>());
    let head = (any::<u16>(), name(), any::<u64>(), any::<u16>(), ids, time(), prose());
    let taken = (name::<String>(), any::<u64>()).prop_map(|(profile, sequence)| TakenOrder {
        profile: parse(&profile.chars().take(32).collect::<String>()),
        sequence: Sequence::new(sequence),
    });
    let hearing = option::of(any::<u16>().prop_map(Hearing::from_code));
    let heard = (any::<u64>(), option::of(time()), hearing, vec(taken, 0..5));
    (head, heard).prop_map(
        |((version, host, session, liveness, ids, time, agent), (beat, beacon, hearing, taken))| {
            Presence {
                version,
                host,
                session,
                liveness: Liveness::from_code(liveness),
                incarnation: Incarnation::from_bytes(ids.0),
                boot: BootId::from_bytes(ids.1),
                time,
                agent,
                beat,
                beacon,
                hearing,
                taken,
            }
        },
    )
}

pub(crate) fn beacon() -> impl Strategy<Value = Beacon> {
    (any::<u16>(), name(), time()).prop_map(|(version, fleet, issued_at)| Beacon {
        version,
        fleet,
        issued_at,
    })
}

fn key() -> impl Strategy<Value = BareKey> {
    any::<[u8; 32]>().prop_map(|seed| {
        let key = SecretKey::from_seed(parse("key"), &seed).expect("no seed makes a weak key");
        BareKey::from(key.public())
    })
}

pub(crate) fn enrol_request() -> impl Strategy<Value = EnrolRequest> {
    let whom = (any::<u16>(), name(), name(), key());
    let what = (time(), prose(), text("[a-z0-9_]{1,10}-[a-z0-9_-]{1,10}"));
    (whom, what).prop_map(|((version, fleet, host, key), (time, agent, system))| EnrolRequest {
        version,
        fleet,
        host,
        key,
        time,
        agent,
        system,
    })
}

pub(crate) fn roster_entry() -> impl Strategy<Value = RosterEntry> {
    let token = (key(), time()).prop_map(|(key, expires_at)| Token { key, expires_at });
    let whom = (any::<u16>(), name(), name(), any::<u64>());
    (whom, option::of(key()), option::of(token)).prop_map(
        |((version, fleet, host, number), key, token)| RosterEntry {
            version,
            fleet,
            host,
            number: Sequence::new(number),
            key,
            token,
        },
    )
}

pub(crate) fn log() -> impl Strategy<Value = Log> {
    let whom = (any::<u16>(), name(), text("[a-z0-9][a-z0-9_-]{0,20}"));
    let what = (any::<u64>(), any::<u16>(), any::<bool>());
    let ids = (any::<[u8; 16]>(), any::<[u8; 32]>());
    (whom, ids, what, time(), vec(prose(), 0..5)).prop_map(
        |((version, host, profile), ids, (attempt, program, cut), time, lines)| Log {
            version,
            host,
            profile,
            incarnation: Incarnation::from_bytes(ids.0),
            attempt,
            target: TargetHash::from_bytes(ids.1),
            time,
            program: Program::from_code(program),
            cut,
            lines,
        },
    )
}

/// Well-formed CBOR, with the tags and small keys that messages have.
pub(crate) fn cbor() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-8i64..20).prop_map(Value::from),
        vec(any::<u8>(), 0..70).prop_map(Value::Bytes),
        any::<String>().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_map(Value::Float),
        Just(Value::Null),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        let tags = prop_oneof![Just(18u64), Just(98), any::<u64>()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((inner.clone(), inner.clone()), 0..6).prop_map(Value::Map),
            vec(inner.clone(), 0..12)
                .prop_map(|items| { Value::Map((1u64..).map(Value::from).zip(items).collect()) }),
            (tags, inner).prop_map(|(tag, inner)| Value::Tag(tag, Box::new(inner))),
        ]
    })
}

pub(crate) fn nearly_topic() -> impl Strategy<Value = String> {
    NEARLY_TOPIC.prop_map(String::from)
}

pub(crate) fn nearly_store_path() -> impl Strategy<Value = String> {
    let odd = "(/|[./]{1,3}|nix|/nix|/nix/store)?/?[0-9a-z]{30,33}-?[A-Za-z0-9+._?=é/-]{0,213}";
    prop_oneof![STORE_PATH, odd].prop_map(String::from)
}

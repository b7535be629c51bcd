//! What the targets begin with: the frozen vectors, and files that are good.

use std::{collections::BTreeSet, fs, path::Path};

use herald_core::{Confirmed, Standing, State, Taken};
use herald_proto::{
    WIRE_VERSION, codec,
    enrol::EnrolRequest,
    host::HostId,
    id::{BootId, Incarnation, MessageDigest, Sequence, TargetHash},
    presence::{Liveness, Presence},
    rejection::Code,
    report::{Hold, Refusal},
    signing::{Gathering, verify_any_order, verify_release},
    time::Timestamp,
};
use herald_subscriber::adapters::state_store;

use super::messages::{ALPHA, KEYS, ONE, of};
use crate::crash::{self, Case, Scenario};

/// What is to be verified of the frozen vectors, good and bad ones, and the message of each.
fn frozen() -> impl Iterator<Item = (serde_json::Value, Vec<u8>)> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/vectors");
    let mut paths: Vec<_> = ["good", "bad"]
        .iter()
        .flat_map(|folder| fs::read_dir(vectors.join(folder)).expect("a folder of vectors"))
        .map(|file| file.expect("it can be read").path())
        .collect();
    paths.sort();
    let texts = paths.into_iter().map(|path| fs::read(path).expect("a vector"));
    let all = texts.map(|text| serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"));
    all.filter(|vector| vector["verify"].is_object()).map(|mut vector| {
        let message = unhex(vector["message"].as_str().expect("the message of a vector"));
        (vector["verify"].take(), message)
    })
}

/// The messages of a kind, as they are on the wire.
fn vectors(kind: &str) -> Vec<Vec<u8>> {
    let all = frozen().filter(|(verify, _)| verify["as"] == kind);
    all.map(|(_, message)| message).collect()
}

/// Reads hexadecimal.
///
/// # Panics
/// When it is none.
fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let digits = pairs.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

fn in_mode(mode: u8, inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    inputs.into_iter().map(|input| [&[mode][..], &input].concat()).collect()
}

/// Gives the inputs that a target begins with, and those that were kept since.
///
/// # Panics
/// When there is no such target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = match target {
        "envelope" => envelopes(),
        "order" => orders(),
        "report" => from_hosts(),
        "release_file" => files(),
        "trust" => trusts(),
        "state" => states(),
        "key" => keys(),
        "topic" => names(),
        other => panic!("there is no target {other}"),
    };
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/kept/{target}.txt"));
    let kept = fs::read_to_string(kept).unwrap_or_default();
    seeds.extend(kept.lines().filter(|line| !line.starts_with('#')).map(unhex));
    seeds
}

fn envelopes() -> Vec<Vec<u8>> {
    let releases = vectors("release");
    let payloads = releases.iter().filter_map(|bytes| verify_release(bytes, &ONE).ok());
    let payloads: Vec<_> = payloads.map(|release| codec::encode(&*release)).collect();
    let requests = vectors("enrol");
    let requests = requests.iter().filter_map(|bytes| Gathering::<EnrolRequest>::open(bytes).ok());
    let requests: Vec<_> = requests.map(|request| codec::encode(request.message())).collect();
    let signers = (0..16).map(|who| vec![who, 128, 1]);
    [
        in_mode(0, releases),
        in_mode(1, vectors("beacon")),
        in_mode(1, [b"\xa3\x01\x00\x02\x64home\x03\x01".to_vec()]),
        in_mode(2, payloads),
        in_mode(3, signers),
        in_mode(4, vectors("roster")),
        in_mode(4, requests),
    ]
    .concat()
}

fn orders() -> Vec<Vec<u8>> {
    let orders = vectors("order");
    let targets = orders.iter().filter_map(|bytes| verify_any_order(bytes, &ONE).ok());
    let targets: Vec<_> = targets.map(|order| codec::encode(&order.target)).collect();
    let proofs = (0..5).map(|leaf| vec![leaf, leaf, 0, 1, 2]);
    [in_mode(0, orders), in_mode(1, targets), in_mode(2, proofs)].concat()
}

fn from_hosts() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, mode) in [("report", 1), ("presence", 2), ("log", 3)] {
        let messages: Vec<_> =
            vectors(kind).into_iter().filter(|bytes| bytes.len() < 4096).collect();
        // The payload of a COSE_Sign1 stands before the signature, of 2 + 64 bytes.
        let payloads = messages.iter().filter_map(|bytes| {
            let end = bytes.len().checked_sub(66)?;
            // Tag, array, header of 2 + 38 bytes, empty map, and the head of the payload.
            let rest = bytes.get(43..end)?;
            let long = usize::from(rest.first()? & 0x1f).saturating_sub(23);
            rest.get(1 + long..).map(<[u8]>::to_vec)
        });
        seeds.extend(in_mode(mode, payloads));
        seeds.extend(in_mode(0, messages));
    }
    seeds
}

fn files() -> Vec<Vec<u8>> {
    let targets = vectors("order").into_iter().filter_map(|bytes| {
        let target = codec::encode(&verify_any_order(&bytes, &ONE).ok()?.target);
        let length = u16::try_from(target.len()).ok()?.to_be_bytes();
        Some([&length[..], &target].concat())
    });
    let targets: Vec<_> = targets.collect();
    let pairs = targets.windows(2).map(<[Vec<u8>]>::concat);
    [in_mode(0, vectors("release-file")), in_mode(1, pairs), in_mode(1, targets.clone())].concat()
}

fn trusts() -> Vec<Vec<u8>> {
    let rollout = format!("[rollout]\nthreshold = 1\nkeys = [\"{}\"]\n", KEYS[3].public());
    let texts = [
        of(1, 1),
        of(2, 3),
        format!("{}{rollout}", of(1, 2)),
        format!("{}{rollout}[freshness]\ninterval = \"5m\"\n", of(3, 3)),
        format!("{}{rollout}[freshness]\ninterval = \"1day 2h 3ms\" # a comment\n", of(1, 3)),
    ];
    let frozen = frozen().filter_map(|(verify, _)| Some(verify["trust"].as_str()?.to_owned()));
    let texts: BTreeSet<_> = texts.into_iter().chain(frozen).collect();
    texts.into_iter().map(String::into_bytes).collect()
}

/// What alpha says of itself.
pub(super) fn presence() -> Presence {
    Presence {
        version: WIRE_VERSION,
        host: host(),
        session: 42,
        liveness: Liveness::Online,
        incarnation: Incarnation::from_bytes([0x11; 16]),
        boot: BootId::from_bytes([0x22; 16]),
        time: Timestamp::from_millis(1_767_225_600_000),
        agent: "0.1.0".parse().expect("a text"),
        beat: 0,
        beacon: None,
        hearing: None,
        taken: vec![],
    }
}

fn host() -> HostId {
    "alpha".parse().expect("a host name")
}

fn states() -> Vec<Vec<u8>> {
    let (incarnation, boot) = (Incarnation::from_bytes([0x11; 16]), BootId::from_bytes([0x22; 16]));
    let empty = State::new(incarnation, Standing::Lost, boot);
    let toplevel = |letter: char| {
        let hash = letter.to_string().repeat(32);
        format!("/nix/store/{hash}-nixos-system-alpha").parse().expect("a store path")
    };
    let now = Timestamp::from_millis(1_767_225_600_000);
    let text = |text: &str| text.parse().expect("a text");
    let full = State {
        beacon: Some(now),
        taken: Some(Taken { sequence: Sequence::new(7), target: TargetHash::of(b"") }),
        history: vec![Confirmed { toplevel: toplevel('a'), closure: None }],
        staged: Some(toplevel('b')),
        refusal: Some(Refusal {
            message: MessageDigest::of(b""),
            code: Code::UnderSigned,
            detail: text("1 of 2"),
        }),
        quarantine: vec![toplevel('c')],
        hold: Some(Hold { reason: text("the backup runs"), since: now }),
        ..State::new(incarnation, Standing::Known, boot)
    };
    let contents = [&empty, &full].map(state_store::encode);
    let framed = contents.iter().map(|content| state_store::framed(content));
    [in_mode(0, framed), in_mode(1, contents.clone()), in_mode(1, stored())].concat()
}

/// What the driver stores on the simulated machine: in each scenario, and in the cases that were kept.
fn stored() -> BTreeSet<Vec<u8>> {
    let case = |scenario| Case { scenario, events: Vec::new(), seed: 1 };
    let cases = Scenario::all().into_iter().map(case).chain(crash::kept());
    let states = cases.flat_map(|case| crash::run(&case, None, true).stored);
    states.map(|state| state_store::encode(&state)).collect()
}

fn keys() -> Vec<Vec<u8>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../publisher-cli/core/src/openssh/keys");
    let names = ["plain", "plain.pub", "locked", "locked.pub", "ecdsa", "ecdsa.pub"];
    let mut seeds: Vec<_> =
        names.iter().map(|name| fs::read(folder.join(name)).expect("a key")).collect();
    for key in KEYS.iter().chain([&*ALPHA]) {
        seeds.push(key.public().to_string().into_bytes());
        seeds.push(key.to_secret_text().as_bytes().to_vec());
    }
    // What an agent answers that holds one key, and its signature.
    let blob = [b"\0\0\0\x0bssh-ed25519\0\0\0\x20", &KEYS[0].public().as_bytes()[..]].concat();
    seeds.push([b"\x0c\0\0\0\x01\0\0\0\x33", &blob[..], b"\0\0\0\x05alice"].concat());
    seeds.push([b"\x0e\0\0\0\x53\0\0\0\x0bssh-ed25519\0\0\0\x40", &[7; 64][..]].concat());
    seeds
}

fn names() -> Vec<Vec<u8>> {
    let id = "018f0000-0000-7000-8000-000000000000";
    let token = "00".repeat(32);
    let mut texts: Vec<String> = ["desired", "status", "rollback"]
        .iter()
        .flat_map(|kind| ["alpha/system", "+/system", "alpha/+", "+/+"].map(|end| (*kind, end)))
        .map(|(kind, end)| format!("herald/v1/home/{kind}/{end}"))
        .collect();
    for end in ["presence/alpha", "event/+", "log/a-1", "roster/b", "beacon", "release/+/decision"]
    {
        texts.push(format!("herald/v1/home/{end}"));
    }
    texts.push(format!("herald/v1/home/release/{id}"));
    texts.push(format!("herald/v1/home/release/{id}/decision"));
    texts.push(format!("herald/v1/home/enrol/{token}"));
    for text in [
        "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-alpha-26.05",
        "getty@tty1.service",
        "-.mount",
        "x86_64-linux",
        "http://web.example:8080/ready?x status=200-399 host=www.example.org within=1500ms",
        "http://[::1]/",
        "größe\n\u{202e}",
    ] {
        texts.push(text.to_owned());
    }
    texts.into_iter().map(String::into_bytes).collect()
}

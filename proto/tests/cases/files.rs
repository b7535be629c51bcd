//! Release files: those that are read, and those that are refused, each for one reason.

use ciborium::Value;
use herald_proto::{
    codec::{self, Bytes},
    key::SecretKey,
    rejection::Code,
    release_file::ReleaseFile,
    signing::{sign_release, verify_release},
    target::Target,
    trust::Trust,
};

use super::{Expect, Reader, Schema, Vector, bad, forge::encode, hex};
use crate::common::{alice, bob, carol, mallory, release, target, tree, trust_text};

/// Reads a file, and verifies its release.
pub(super) fn outcome(bytes: &[u8], trust: &Trust) -> Expect {
    let file = match ReleaseFile::read(bytes) {
        Ok(file) => file,
        Err(bad) => return Expect::Refused(bad.code().to_string()),
    };
    match verify_release(&file.gathering().seal().0, trust) {
        Ok(release) => Expect::Ok(content(file.targets(), &release, release.signers())),
        Err(rejection) => super::refused(rejection),
    }
}

fn content(
    targets: &[Target],
    release: &herald_proto::release::Release,
    signers: &[herald_proto::key::KeyId],
) -> serde_json::Value {
    serde_json::json!({ "release": release, "targets": targets, "signers": signers })
}

fn targets() -> Vec<Target> {
    ["alpha", "beta", "gamma"].map(target).to_vec()
}

fn file(targets: &[Target], keys: &[&SecretKey]) -> ReleaseFile {
    let mut file = ReleaseFile::unsigned(targets.to_vec(), |_, _| release(&tree(targets)));
    keys.iter().for_each(|key| file.gathering_mut().sign(key).expect("each key once"));
    file
}

pub(super) fn good() -> Vec<(&'static str, Vector)> {
    let (a, b, c) = (&alice(), &bob(), &carol());
    let case = |about: &str, targets: &[Target], threshold, keys: &[&SecretKey]| {
        let file = file(targets, keys);
        let ids: Vec<_> = keys.iter().map(|key| key.public().id()).collect();
        Vector {
            about: about.into(),
            verify: Reader::ReleaseFile { trust: trust_text(threshold, &[a, b, c]) },
            schema: Some(Schema::Matches),
            expect: Expect::Ok(content(targets, file.release(), &ids)),
            message: hex(&file.to_bytes()),
        }
    };
    vec![
        ("file-of-three", case("three targets, two signatures", &targets(), 2, &[c, a])),
        ("file-of-one", case("one target, one signature", &targets()[..1], 1, &[b])),
    ]
}

/// A file in its own form, with parts that do not belong together.
fn form(format: &str, version: u16, release: Bytes, targets: &[Vec<u8>]) -> Vec<u8> {
    let targets = targets.iter().map(|target| Value::Bytes(target.clone())).collect();
    encode(&Value::Map(vec![
        (1.into(), format.into()),
        (2.into(), version.into()),
        (3.into(), Value::Bytes(release.0)),
        (4.into(), Value::Array(targets)),
    ]))
}

pub(super) fn bad() -> Vec<bad::Case> {
    let (a, b) = (&alice(), &bob());
    let case = |name, about: &str, schema, code: Code, message: Vec<u8>| {
        let vector = Vector {
            about: about.into(),
            verify: Reader::ReleaseFile { trust: trust_text(2, &[a, b]) },
            schema,
            expect: Expect::Refused(code.to_string()),
            message: hex(&message),
        };
        (name, vector)
    };
    let matches = Some(Schema::Matches);
    let all = targets();
    let bytes: Vec<_> = all.iter().map(codec::encode).collect();
    let signed = || sign_release(&release(&tree(&all)), &[a, b]);
    let with = |targets: &[Vec<u8>]| form("herald-release", 0, signed(), targets);
    let mut turned = bytes.clone();
    turned.swap(0, 2);
    let mut other = bytes.clone();
    other[1] = codec::encode(&target("delta"));
    let twice = [all[0].clone(), all[1].clone(), all[0].clone()];
    let mut order_in_it = bytes.clone();
    order_in_it[1].push(0);
    vec![
        case(
            "file-under-signed",
            "one of the two signatures that are needed, and a stranger's",
            matches,
            Code::UnderSigned,
            file(&all, &[a, &mallory()]).to_bytes(),
        ),
        case(
            "file-other-target",
            "a target that was put in later",
            matches,
            Code::NotInRelease,
            with(&other),
        ),
        case(
            "file-turned",
            "the targets in another order",
            matches,
            Code::NotInRelease,
            with(&turned),
        ),
        case("file-cut", "a target is missing", matches, Code::NotInRelease, with(&bytes[..2])),
        case(
            "file-twice",
            "one host twice, as it was signed",
            matches,
            Code::Malformed,
            file(&twice, &[a, b]).to_bytes(),
        ),
        case(
            "file-target-with-more",
            "a byte after a target",
            None,
            Code::Malformed,
            with(&order_in_it),
        ),
        case(
            "file-of-another-version",
            "version 1",
            Some(Schema::Differs),
            Code::WrongVersion,
            form("herald-release", 1, signed(), &bytes),
        ),
        case(
            "file-of-another-kind",
            "it calls itself something else",
            Some(Schema::Differs),
            Code::Malformed,
            form("herald-order", 0, signed(), &bytes),
        ),
        case(
            "file-without-targets",
            "no targets at all",
            Some(Schema::Differs),
            Code::Malformed,
            form("herald-release", 0, signed(), &[]),
        ),
    ]
}

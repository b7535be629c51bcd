//! Orders that another implementation made: `tests/interop/run make proto/tests/vectors/python`.

mod common;

use std::{collections::BTreeSet, fs, path::PathBuf};

use common::reader;
use herald_proto::{
    rejection::Code,
    signing::{verify_any_order, verify_order},
    trust::Trust,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/python")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).expect("a file that Python made")
}

fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("a text file")
}

fn trust() -> Trust {
    Trust::from_toml(&text("trust.toml")).expect("a trust file that Python made")
}

/// Gives each host for which there is an order.
fn hosts() -> BTreeSet<String> {
    let files = fs::read_dir(folder()).expect("the folder is there");
    let names = files.map(|file| file.expect("it can be read").file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let hosts = names.iter().filter_map(|name| name.strip_suffix(".order"));
    hosts.map(str::to_owned).collect()
}

#[test]
fn orders_that_python_made_and_signed_are_accepted_with_the_same_content() {
    let trust = trust();
    assert_eq!(trust.fleet().as_str(), text("fleet").trim());
    assert_eq!(trust.release().threshold(), 2);
    assert_eq!(hosts().len(), 5, "five, so that the tree is not balanced");
    for host in hosts() {
        let message = read(&format!("{host}.order"));
        let order = verify_order(&message, &trust, &reader(&host)).expect(&host);
        let found = serde_json::json!({
            "release": order.release,
            "target": order.target,
            "hash": order.hash,
            "message": order.message,
            "signers": order.signers(),
        });
        let expected: serde_json::Value =
            serde_json::from_slice(&read(&format!("{host}.json"))).expect("JSON");
        assert_eq!(found, expected, "{host}");
    }
}

#[test]
fn orders_that_python_made_are_refused_by_another_host_and_under_another_trust() {
    let message = read("ant.order");
    let code = |error: herald_proto::rejection::Rejection| error.code();
    let bee = verify_order(&message, &trust(), &reader("bee"));
    assert_eq!(bee.map_err(code), Err(Code::WrongHost));
    let stricter = text("trust.toml").replace("threshold = 2", "threshold = 3");
    let stricter = Trust::from_toml(&stricter).expect("a usable trust file");
    let all = verify_any_order(&message, &stricter);
    assert_eq!(all.map_err(code), Err(Code::UnderSigned));
}

/// The holder of a key can make signatures for which the equation of RFC 8032 holds with an R of
/// small order. Only strict verification refuses them.
#[test]
fn signatures_with_a_point_of_small_order_are_refused() {
    let refused = verify_any_order(&read("ant.small-order"), &trust());
    assert_eq!(refused.map_err(|error| error.code()), Err(Code::BadSignature));
    let same_but_honest = verify_any_order(&read("ant.order"), &trust());
    assert!(same_but_honest.is_ok());
}

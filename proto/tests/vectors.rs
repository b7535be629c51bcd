//! The frozen vectors: messages as they are on the wire, and what must come out of each.
//!
//! `HERALD_BLESS=1 cargo test -p herald-proto --test vectors` writes the files again. Everything in
//! them comes from fixed seeds and times, so a difference is a change of the wire format.

mod cases;
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use cases::{Expect, Vector};
use herald_proto::rejection::Code;

const FOLDERS: [&str; 2] = ["good", "bad"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// Gives the text of each file of a folder by its name.
fn frozen(name: &str) -> BTreeMap<String, String> {
    static BLESSED: Once = Once::new();
    if std::env::var_os("HERALD_BLESS").is_some() {
        BLESSED.call_once(|| FOLDERS.into_iter().for_each(bless));
    }
    files(name)
}

fn files(name: &str) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder(name)).expect("the folder of vectors is there");
    let files = files.map(|file| {
        let path = file.expect("the folder can be read").path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy();
        (name.into_owned(), fs::read_to_string(&path).expect("a vector can be read"))
    });
    files.collect()
}

fn made(name: &str) -> BTreeMap<String, Vector> {
    let all = if name == "good" { cases::good::all() } else { cases::bad::all() };
    let count = all.len();
    let by_name: BTreeMap<_, _> =
        all.into_iter().map(|(name, vector)| (name.to_owned(), vector)).collect();
    assert_eq!(by_name.len(), count, "two vectors have the same name");
    by_name
}

fn text(vector: &Vector) -> String {
    serde_json::to_string_pretty(vector).expect("a vector can be written") + "\n"
}

fn read(text: &str) -> Vector {
    serde_json::from_str(text).expect("a file that is a vector")
}

#[test]
fn every_frozen_vector_is_accepted_or_refused_as_it_says() {
    for name in FOLDERS {
        for (file, text) in frozen(name) {
            let vector = read(&text);
            assert_eq!(vector.outcome(), vector.expect, "{name}/{file}: {}", vector.about);
            assert_eq!(matches!(vector.expect, Expect::Ok(_)), name == "good", "{name}/{file}");
        }
    }
}

#[test]
fn the_messages_that_are_made_today_are_the_frozen_ones() {
    for name in FOLDERS {
        let made: BTreeMap<_, _> =
            made(name).iter().map(|(file, vector)| (file.clone(), text(vector))).collect();
        let frozen = frozen(name);
        assert!(made.keys().eq(frozen.keys()), "the files of {name} are others");
        for (file, text) in made {
            assert_eq!(text, frozen[&file], "{name}/{file}: did the wire format change?");
        }
    }
}

fn bless(name: &str) {
    let made = made(name);
    let folder = folder(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    for stale in files(name).keys().filter(|file| !made.contains_key(*file)) {
        fs::remove_file(folder.join(format!("{stale}.json"))).expect("a stale vector can go");
    }
    for (file, vector) in made {
        let path = folder.join(format!("{file}.json"));
        fs::write(path, text(&vector)).expect("a vector can be written");
    }
}

#[test]
fn every_code_that_verification_gives_has_a_vector() {
    let refused: BTreeSet<_> = made("bad")
        .into_values()
        .filter_map(|vector| match vector.expect {
            Expect::Refused(code) => Some(code),
            Expect::Ok(_) => None,
        })
        .collect();
    let verification = Code::KNOWN.iter().filter(|code| code.code() < 20);
    let expected: BTreeSet<_> = verification.map(ToString::to_string).collect();
    assert_eq!(refused, expected);
}

//! Files that are not what was written: refused, or read as they were written; and repaired.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;

/// Opens a file that may be damaged: it is refused, or holds exactly what was written.
fn open_refuses_or_tells_the_truth(path: &Path, written: &Contents, what: &str) -> bool {
    match Store::open(path) {
        Err(OpenError::Damaged { .. }) => false,
        Err(other) => panic!("{what}: {other}"),
        Ok(store) => {
            let read = Contents::of(&store, written.sessions.keys());
            assert!(read == *written, "{what}: other contents, up to {}", read.latest);
            true
        }
    }
}

fn flip(path: &Path, bit: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
}

#[test]
fn altered_file_is_refused_or_read_as_it_was_written() {
    let place = Place::new();
    let written = fill(&place.open());
    let sound = fs::read(place.path()).unwrap();
    let altered = Place::new();
    let mut numbers = Numbers(1);
    let mut refused = 0;
    for round in 0..240 {
        fs::copy(place.path(), altered.path()).unwrap();
        let file = File::options().write(true).open(altered.path()).unwrap();
        let position =
            if round % 6 == 0 { numbers.below(320) } else { used_position(&sound, &mut numbers) };
        let what = match round % 4 {
            0 | 1 => {
                flip(&altered.path(), position * 8 + numbers.below(8));
                format!("a bit of byte {position}")
            }
            2 => {
                let bytes: Vec<u8> =
                    (0..=numbers.below(64)).map(|_| numbers.below(256) as u8).collect();
                file.write_all_at(&bytes, position.min(sound.len() as u64 - 64)).unwrap();
                format!("{} bytes at {position}", bytes.len())
            }
            _ => {
                file.set_len(position).unwrap();
                file.set_len(sound.len() as u64).unwrap();
                format!("nothing after byte {position}")
            }
        };
        if !open_refuses_or_tells_the_truth(&altered.path(), &written, &what) {
            refused += 1;
        }
    }
    assert!(refused > 80, "only {refused} were noticed: the test alters nothing that matters");
}

/// A place in a page that has something in it.
fn used_position(bytes: &[u8], numbers: &mut Numbers) -> u64 {
    loop {
        let position = numbers.below(bytes.len() as u64) as usize;
        let page = position / 4096 * 4096;
        if bytes[page..].iter().take(4096).any(|byte| *byte != 0) {
            return position as u64;
        }
    }
}

#[test]
fn repair_keeps_what_is_intact_and_the_damaged_file() {
    let place = Place::new();
    let written = fill(&place.open());
    let sound = fs::read(place.path()).unwrap();
    let mut numbers = Numbers(2);
    let (mut repaired, mut most) = (0, 0);
    while repaired < 25 {
        fs::write(place.path(), &sound).unwrap();
        let position = used_position(&sound, &mut numbers);
        flip(&place.path(), position * 8 + numbers.below(8));
        if open_refuses_or_tells_the_truth(&place.path(), &written, "a bit") {
            continue;
        }
        repaired += 1;
        let before = fs::read(place.path()).unwrap();
        let outcome = repair(&place.path()).unwrap();
        let damaged = outcome.damaged.unwrap();
        assert!(damaged.ends_with(format!("store.redb.damaged-{repaired}")), "{damaged:?}");
        assert!(fs::read(damaged).unwrap() == before, "the damaged file was altered");

        let store = place.open();
        let kept = Contents::of(&store, written.sessions.keys());
        assert!(written.includes(&kept), "bit {position}: another word is in it");
        let counts =
            Counts { messages: kept.messages.len() as u64, sessions: kept.sessions.len() as u64 };
        assert_eq!(outcome.kept, counts);
        if let Some(lost) = outcome.lost {
            assert_eq!(lost.messages + counts.messages, written.messages.len() as u64);
            assert_eq!(lost.sessions + counts.sessions, written.sessions.len() as u64);
        }
        if counts.messages + 5 > written.messages.len() as u64 {
            most += 1;
        }
        assert!(commit(&store, retain("a", "1")).unwrap() > written.latest);
    }
    assert!(most > 20, "one bit takes few messages with it: {most}");
    let others = place.names().into_iter().filter(|name| !name.contains(".damaged-"));
    assert_eq!(others.collect::<Vec<_>>(), ["store.redb"]);
}

/// Only root can give a file away, and only root repairs a store of another user.
#[test]
fn a_repaired_store_stays_its_owner_s() {
    let place = Place::new();
    fill(&place.open());
    if chown(place.path(), Some(65_534), Some(65_534)).is_err() {
        return;
    }
    fs::write(place.path(), b"no store").unwrap();
    assert!(repair(&place.path()).unwrap().damaged.is_some());
    let repaired = fs::metadata(place.path()).unwrap();
    assert_eq!((repaired.uid(), repaired.gid()), (65_534, 65_534));
    assert_eq!(repaired.permissions().mode() & 0o777, 0o600);
}

#[test]
fn damaged_header_costs_nothing_after_an_orderly_stop() {
    let place = Place::new();
    let written = fill(&place.open());
    let sound = fs::read(place.path()).unwrap();
    for slot in [64, 192] {
        fs::write(place.path(), &sound).unwrap();
        flip(&place.path(), (slot + 20) * 8);
        if open_refuses_or_tells_the_truth(&place.path(), &written, "a slot") {
            continue;
        }
        let outcome = repair(&place.path()).unwrap();
        assert_eq!(outcome.lost, None, "it cannot know that both commits were the same");
        let store = place.open();
        let kept = Contents::of(&store, written.sessions.keys());
        assert_eq!((kept.messages, kept.sessions), (written.messages, written.sessions));
        assert!(kept.latest.get() > 1 << 40, "revisions jump");
        return;
    }
    panic!("neither slot was in use");
}

#[test]
fn hopeless_file_is_replaced_by_an_empty_store() {
    let place = Place::new();
    let mut latest = Revision::NONE;
    for number in 1..=2 {
        fs::write(place.path(), b"no database").unwrap();
        let outcome = repair(&place.path()).unwrap();
        assert_eq!((outcome.kept, outcome.lost), (Counts::default(), None));
        let damaged = outcome.damaged.unwrap();
        assert!(damaged.ends_with(format!("store.redb.damaged-{number}")));
        assert_eq!(fs::read(damaged).unwrap(), b"no database");
        let revision = commit(&place.open(), retain("a", "1")).unwrap();
        assert!(revision > latest, "{revision} was given before");
        latest = revision;
    }
}

#[test]
fn sound_store_is_not_repaired() {
    let place = Place::new();
    let written = fill(&place.open());
    let before = fs::read(place.path()).unwrap();
    let outcome = repair(&place.path()).unwrap();
    assert_eq!((outcome.damaged, outcome.lost), (None, Some(Counts::default())));
    assert_eq!(outcome.kept.messages, written.messages.len() as u64);
    assert!(fs::read(place.path()).unwrap() == before);
    assert_eq!(place.names(), ["store.redb"]);
}

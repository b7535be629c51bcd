//! Drives the durable store on real files: what is read is what was written, or refused.

#![allow(clippy::unwrap_used, clippy::panic)]

mod damage;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use herald_broker::message::{Message, Revision};
use herald_broker::retained::{
    Change, CommitError, Counts, Matching, OpenError, RepairError, Session, Store, Subscription,
    repair,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A directory for one store.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.redb")
    }

    fn open(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }

    /// The names beside the store.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Writes these bytes as the store, whose refusal is expected, and gives its text.
    fn refusal(&self, bytes: &[u8]) -> String {
        fs::write(self.path(), bytes).unwrap();
        match Store::open(&self.path()) {
            Err(error @ OpenError::Damaged { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn retain(topic: impl AsRef<str>, payload: impl AsRef<[u8]>) -> Change {
    Change::Retain {
        topic: Bytes::copy_from_slice(topic.as_ref().as_bytes()),
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

fn clear(topic: &str) -> Change {
    Change::Clear { topic: Bytes::copy_from_slice(topic.as_bytes()) }
}

fn save(client: &str, session: &Session) -> Change {
    Change::SaveSession { client: client.to_owned(), session: session.clone() }
}

fn drop_session(client: &str) -> Change {
    Change::DropSession { client: client.to_owned() }
}

fn session(owner: &str, acked: u64) -> Session {
    let subscription = |filter: &str| Subscription {
        filter: filter.to_owned(),
        qos: 1,
        acked: Revision::new(acked),
    };
    Session { owner: owner.to_owned(), subscriptions: vec![subscription("a/b"), subscription("c")] }
}

/// Commits one change and gives its revision.
fn commit(store: &Store, change: Change) -> Option<Revision> {
    store.commit(&[change]).unwrap()[0]
}

/// All that a store holds.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
struct Contents {
    messages: BTreeMap<Bytes, (Bytes, Revision)>,
    sessions: BTreeMap<String, Session>,
    latest: Revision,
}

impl Contents {
    /// Reads all messages, and the sessions of these clients.
    fn of<'a>(store: &Store, clients: impl IntoIterator<Item = &'a String>) -> Self {
        let revisions = store.newer(Matching::Prefix(""), Revision::NONE).unwrap();
        assert!(revisions.is_sorted());
        let messages = store.messages(&revisions).unwrap();
        assert_eq!(messages.len() as u64, store.retained());
        let sessions = clients
            .into_iter()
            .filter_map(|client| Some((client.clone(), store.session(client).unwrap()?)));
        Self {
            messages: messages.into_iter().map(by_topic).collect(),
            sessions: sessions.collect(),
            latest: store.latest(),
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Retain { topic, payload } => {
                self.latest = self.latest.next();
                self.messages.insert(topic.clone(), (payload.clone(), self.latest));
            }
            Change::Clear { topic } => drop(self.messages.remove(topic)),
            Change::SaveSession { client, session } => {
                self.sessions.insert(client.clone(), session.clone());
            }
            Change::DropSession { client } => drop(self.sessions.remove(client)),
        }
    }

    /// Whether every record of the other is here too, in the same words.
    fn includes(&self, other: &Self) -> bool {
        other.messages.iter().all(|(topic, message)| self.messages.get(topic) == Some(message))
            && other.sessions.iter().all(|(client, it)| self.sessions.get(client) == Some(it))
    }
}

fn by_topic(message: Message) -> (Bytes, (Bytes, Revision)) {
    (message.topic, (message.payload, message.revision.unwrap()))
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % limit
    }
}

/// Fills a store with some hundred records in several commits.
fn fill(store: &Store) -> Contents {
    let mut contents = Contents::default();
    for round in 0..4_usize {
        let mut changes = Vec::new();
        for host in 0..150 - round * 30 {
            let payload = vec![b'a' + round as u8; 40 + host * 9];
            changes.push(retain(format!("herald/v1/f/status/web-{host}/system"), payload));
            changes.push(save(&format!("web-{host}"), &session("f/web", (round * host) as u64)));
        }
        changes.push(clear(&format!("herald/v1/f/status/web-{}/system", 100 + round)));
        changes.push(drop_session(&format!("web-{}", 100 + round)));
        store.commit(&changes).unwrap();
        changes.iter().for_each(|change| contents.apply(change));
    }
    contents
}

#[test]
fn messages_and_sessions_survive_a_restart() {
    let place = Place::new();
    let store = place.open();
    assert_eq!((store.retained(), store.latest()), (0, Revision::NONE));
    let written = fill(&store);
    assert_eq!(Contents::of(&store, written.sessions.keys()), written);
    drop(store);
    let store = place.open();
    assert_eq!(Contents::of(&store, written.sessions.keys()), written);
    assert_eq!(store.session("web-102").unwrap(), None);
    assert_eq!(place.names(), ["store.redb"]);
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only for the broker");
}

#[test]
fn store_that_a_crash_left_open_is_read_whole() {
    let (place, crashed) = (Place::new(), Place::new());
    let store = place.open();
    let written = fill(&store);
    fs::copy(place.path(), crashed.path()).unwrap();
    assert_eq!(Contents::of(&crashed.open(), written.sessions.keys()), written);
}

#[test]
fn revisions_rise_over_clears_and_restarts() {
    let place = Place::new();
    let mut latest = Revision::NONE;
    for _ in 0..3 {
        let store = place.open();
        assert_eq!(store.latest(), latest);
        for change in [retain("a", "1"), retain("b", "2")] {
            let revision = commit(&store, change).unwrap();
            assert_eq!(revision, latest.next());
            latest = revision;
        }
        for change in [clear("a"), clear("b"), clear("b"), drop_session("x")] {
            assert_eq!(commit(&store, change), None);
        }
        assert_eq!((store.retained(), store.latest()), (0, latest));
    }
    assert_eq!(latest, Revision::new(6));
}

#[test]
fn batch_is_stored_in_its_order() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(store.commit(&[]).unwrap(), []);
    let batch = [
        retain("a", "first"),
        save("x", &session("f/x", 1)),
        retain("a", "second"),
        retain("b", "cleared at once"),
        clear("b"),
        drop_session("x"),
    ];
    let revisions = store.commit(&batch).unwrap();
    let [one, two, three] = [1, 2, 3].map(|number| Some(Revision::new(number)));
    assert_eq!(revisions, [one, None, two, three, None, None]);
    assert_eq!(store.newer(Matching::Prefix(""), Revision::NONE).unwrap(), [two.unwrap()]);
    assert_eq!(store.session("x").unwrap(), None);
}

#[test]
fn superseded_and_cleared_revisions_vanish() {
    let place = Place::new();
    let store = place.open();
    let [old, kept, new, gone] = ["a", "b", "a", "c"]
        .map(|topic| commit(&store, retain(topic, format!("on {topic}"))).unwrap());
    commit(&store, clear("c"));
    assert_eq!(store.message(old).unwrap(), None);
    assert_eq!(store.message(gone).unwrap(), None);
    assert_eq!(store.message(new.next().next()).unwrap(), None);
    assert_eq!(store.message(Revision::NONE).unwrap(), None);
    let messages = store.messages(&[new, old, kept, gone]).unwrap();
    let read: Vec<_> = messages.iter().map(|it| (&*it.topic, &*it.payload, it.revision)).collect();
    assert_eq!(read, [(&b"a"[..], &b"on a"[..], Some(new)), (&b"b"[..], &b"on b"[..], Some(kept))]);
}

#[test]
fn filter_finds_what_is_newer_in_the_order_of_revisions() {
    let place = Place::new();
    let store = place.open();
    let topics = ["status/web-10/x", "status/web-1/y", "status/web-1/x", "status/web-1", "statut"];
    let revisions = topics.map(|topic| commit(&store, retain(topic, topic)).unwrap());
    let newer = |topics, than| store.newer(topics, than).unwrap();
    let none: [Revision; 0] = [];
    let web = Matching::Prefix("status/web-1/");
    assert_eq!(newer(web, Revision::NONE), [revisions[1], revisions[2]]);
    assert_eq!(newer(web, revisions[1]), [revisions[2]]);
    assert_eq!(newer(web, revisions[2]), none);
    assert_eq!(newer(Matching::Prefix("status/"), Revision::NONE), revisions[..4]);
    assert_eq!(newer(Matching::Prefix(""), Revision::NONE), revisions);
    assert_eq!(newer(Matching::Prefix("statuu"), Revision::NONE), none);
    assert_eq!(newer(Matching::Topic("status/web-1"), Revision::NONE), [revisions[3]]);
    assert_eq!(newer(Matching::Topic("status/web-1"), revisions[3]), none);
    assert_eq!(newer(Matching::Topic("status/"), Revision::NONE), none);
}

#[test]
fn session_is_replaced_whole() {
    let place = Place::new();
    let store = place.open();
    commit(&store, save("web-1", &session("f/web-1", 1)));
    let other = Session { owner: "f/ops".to_owned(), subscriptions: Vec::new() };
    commit(&store, save("web-1", &other));
    commit(&store, save("", &session("anonymous", u64::MAX)));
    drop(store);
    let store = place.open();
    assert_eq!(store.session("web-1").unwrap(), Some(other));
    assert_eq!(store.session("").unwrap(), Some(session("anonymous", u64::MAX)));
    assert_eq!(store.session("web-2").unwrap(), None);
}

#[test]
fn nothing_is_written_when_the_disk_would_become_too_full() {
    let place = Place::new();
    let store = place.open().with_reserve(u64::MAX / 2);
    let error = store.commit(&[retain("a", "1")]).unwrap_err();
    let CommitError::NoSpace { path, free, needed } = &error else { panic!("{error}") };
    assert!(*path == place.path() && free < needed && *needed > u64::MAX / 2);
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!((store.retained(), store.latest()), (0, Revision::NONE));
    let store = store.with_reserve(0);
    assert_eq!(commit(&store, retain("a", "1")), Some(Revision::new(1)));
}

#[test]
fn store_in_use_is_neither_opened_nor_repaired() {
    let place = Place::new();
    let store = place.open();
    commit(&store, retain("a", "1"));
    assert!(matches!(Store::open(&place.path()), Err(OpenError::InUse { .. })));
    let refusal = repair(&place.path()).unwrap_err();
    assert!(matches!(refusal, RepairError::Open(OpenError::InUse { .. })), "{refusal}");
    assert_eq!(commit(&store, retain("a", "2")), Some(Revision::new(2)));
    assert_eq!(place.names(), ["store.redb"]);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let place = Place::new();
    let sound = {
        fill(&place.open());
        fs::read(place.path()).unwrap()
    };
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (b"listen = \"127.0.0.1:1883\"\n", "redb"),
        (&[0; 8192], "redb"),
        (&sound[..100], "redb"),
        (&sound[..4096], "redb"),
        (&sound[..sound.len() / 2], "redb"),
        (&sound[..sound.len() - 1], "redb"),
    ] {
        let text = place.refusal(bytes);
        assert!(text.contains(reason), "{text}");
        let advice = format!("`herald-broker repair --state {}`", place.dir.path().display());
        assert!(text.contains(&advice), "{text}");
        assert_eq!(fs::metadata(place.path()).unwrap().len(), bytes.len() as u64);
    }

    let dir = place.dir.path();
    assert!(matches!(Store::open(dir), Err(OpenError::NotAFile { .. })));
    assert!(matches!(repair(dir), Err(RepairError::Open(OpenError::NotAFile { .. }))));
    for nowhere in [dir.join("missing/store.redb"), place.path().join("store.redb")] {
        let error = Store::open(&nowhere).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        let error = repair(&nowhere).unwrap_err();
        assert!(matches!(error, RepairError::Open(OpenError::Io { .. })), "{error}");
    }
}

#[test]
fn foreign_redb_file_is_refused() {
    const TABLE: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("meta");
    let place = Place::new();
    let database = redb::Database::create(place.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&place.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn leftovers_of_a_crash_are_no_obstacle() {
    let place = Place::new();
    for name in ["store.redb.new", "store.redb.salvage"] {
        fs::write(place.dir.path().join(name), b"half").unwrap();
    }
    commit(&place.open(), retain("a", "1"));
    repair(&place.path()).unwrap();
    assert_eq!(place.names(), ["store.redb"]);
    assert_eq!(place.open().retained(), 1);
}

#[test]
fn overwriting_the_same_topics_does_not_grow_the_file() {
    let place = Place::new();
    let store = place.open();
    let mut numbers = Numbers(3);
    let mut sizes = Vec::new();
    for _ in 0..10 {
        for _ in 0..12 {
            let topic = |number| format!("herald/v1/f/status/web-{number}/system");
            let batch: Vec<_> =
                (0..100).map(|_| retain(topic(numbers.below(600)), [7; 1024])).collect();
            store.commit(&batch).unwrap();
        }
        sizes.push(fs::metadata(place.path()).unwrap().len());
    }
    assert!(sizes[9] <= sizes[3], "12,000 overwrites of 600 topics: {sizes:?}");
    assert!(sizes[9] < 600 * 1024 * 12, "{sizes:?}");
}

#[test]
fn large_file_with_little_in_it_is_made_small_at_the_start() {
    let place = Place::new();
    let store = place.open();
    let topics: Vec<_> = (0..36).map(|number| format!("t/{number}")).collect();
    let big: Vec<_> = topics.iter().map(|topic| retain(topic, vec![7; 1 << 20])).collect();
    store.commit(&big).unwrap();
    let cleared: Vec<_> = topics.iter().skip(1).map(|topic| clear(topic)).collect();
    store.commit(&cleared).unwrap();
    let large = fs::metadata(place.path()).unwrap().len();
    drop(store);
    let store = place.open();
    let small = fs::metadata(place.path()).unwrap().len();
    assert!(small < large / 4, "{large} to {small} bytes");
    let revision = Revision::new(1);
    assert_eq!(store.message(revision).unwrap().unwrap().payload, vec![7; 1 << 20]);
}

fn change() -> impl Strategy<Value = Change> {
    let topic = || (0..6_u8).prop_map(|number| format!("t/{number}"));
    let client = || (0..3_u8).prop_map(|number| format!("client-{number}"));
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (topic(), payload).prop_map(|(topic, payload)| retain(topic, payload)),
        2 => topic().prop_map(|topic| clear(&topic)),
        2 => (client(), any::<u64>()).prop_map(|(id, acked)| save(&id, &session(&id, acked))),
        1 => client().prop_map(|id| drop_session(&id)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Batches; before each the store may be opened again.
    #[test]
    fn store_does_what_a_map_does(
        batches in prop::collection::vec((any::<bool>(), prop::collection::vec(change(), 0..6)), 1..8)
    ) {
        let place = Place::new();
        let clients: Vec<_> = (0..3).map(|number| format!("client-{number}")).collect();
        let mut store = place.open();
        let mut model = Contents::default();
        for (reopen, batch) in batches {
            if reopen {
                drop(store);
                store = place.open();
            }
            let revisions = store.commit(&batch).unwrap();
            prop_assert_eq!(revisions.len(), batch.len());
            for (change, revision) in batch.iter().zip(revisions) {
                model.apply(change);
                let retains = matches!(change, Change::Retain { .. });
                prop_assert_eq!(revision, retains.then_some(model.latest));
            }
            prop_assert_eq!(&Contents::of(&store, &clients), &model);
            for (topic, (_, revision)) in &model.messages {
                let topic = Matching::Topic(str::from_utf8(topic).unwrap());
                prop_assert_eq!(store.newer(topic, Revision::NONE).unwrap(), [*revision]);
                prop_assert_eq!(store.newer(topic, *revision).unwrap(), []);
            }
        }
    }
}

//! Hosts that come in by the roster, and those who must not.

use herald_proto::{
    WIRE_VERSION,
    enrol::{RosterEntry, Token},
    id::Sequence,
    key::BareKey,
    signing::Gathering,
    time::Timestamp,
};
use rustix::process::Signal;

use crate::{
    BEACON, ORDER,
    client::{Client, Connect, texts},
    login::{Claims, LATE, TCP, everybody, key, now, signed, signed_as, site},
    process::{Broker, Site},
    wait::until,
};

const ENTRY: &str = "herald/v1/home/roster/new-1";
const HOST_ID: &str = "home:new-1";

/// What an entry about `new-1` says, by the names of keys.
#[derive(Clone, Copy)]
struct Entry<'a> {
    number: u64,
    key: Option<&'a str>,
    token: Option<&'a str>,
    expires_at: Timestamp,
}

impl Entry<'static> {
    fn new(number: u64) -> Self {
        Self { number, key: None, token: None, expires_at: now().plus(LATE) }
    }

    fn invited(number: u64) -> Self {
        Self { token: Some("token"), ..Self::new(number) }
    }

    fn member(number: u64) -> Self {
        Self { key: Some("new-1"), ..Self::new(number) }
    }
}

impl Entry<'_> {
    fn about(&self, fleet: &str, host: &str, by: &str) -> Vec<u8> {
        let bare = |name| BareKey::from(key(name).public());
        let mut gathering = Gathering::new(RosterEntry {
            version: WIRE_VERSION,
            fleet: fleet.parse().unwrap(),
            host: host.parse().unwrap(),
            number: Sequence::new(self.number),
            key: self.key.map(bare),
            token: self.token.map(|name| Token { key: bare(name), expires_at: self.expires_at }),
        });
        gathering.sign(&key(by)).unwrap();
        gathering.seal().0
    }

    fn by(&self, signer: &str) -> Vec<u8> {
        self.about("home", "new-1", signer)
    }

    /// As those who may have signed it.
    fn signed(&self) -> Vec<u8> {
        self.by("release")
    }
}

/// The logins that everybody knows, and a roster that this key signs.
fn guarded(listeners: &str) -> Site {
    let site = site(&everybody(), listeners);
    trust(&site, "trust.toml", "release");
    name_trust(&site, "trust = \"trust.toml\"\n");
    site
}

fn trust(site: &Site, file: &str, signer: &str) {
    let key = key(signer).public().to_string();
    let text = format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{key:?}]\n");
    site.write(file, &text);
}

fn name_trust(site: &Site, lines: &str) {
    let fleet = "fleet = \"home\"\n";
    site.write("home.toml", &everybody().replace(fleet, &format!("{fleet}{lines}")));
}

fn enrol_topic(token: &str) -> String {
    format!("herald/v1/home/enrol/{}", key(token).public().id())
}

/// Whoever has the token.
fn candidate(client_id: &str) -> Connect {
    let claims = Claims { client_id, ..Claims::of("new-1") };
    Connect::new(client_id).login("home/new-1", &claims.signed(&key("token")))
}

fn code(connect: &Connect, broker: &Broker) -> Option<u8> {
    connect.attempt(broker.address()).err()
}

fn alice(broker: &Broker) -> Client {
    signed("alice").open(broker.address())
}

fn reload(broker: &Broker) {
    let times = || broker.log().matches("logins and passwords were read again").count();
    let before = times();
    broker.signal(Signal::HUP);
    until("the logins are read again", || times() > before);
}

#[test]
fn a_new_host_with_a_token_may_ask_and_nothing_else() {
    let broker = guarded(TCP).start_configured();
    assert_eq!(code(&candidate("asks"), &broker), Some(4), "nobody has said so yet");
    let mut alice = alice(&broker);
    let entry = Entry::invited(1).signed();
    alice.retained(ENTRY, &entry);
    alice.subscribe("herald/v1/home/enrol/+");

    let own = enrol_topic("token");
    let mut asks = candidate("asks").open(broker.address());
    let granted = asks.subscribe_all(&[
        (ENTRY, 1),
        (&own, 1),
        (BEACON, 1),
        ("herald/v1/home/roster/web-1", 1),
        ("herald/v1/home/roster/+", 1),
        ("herald/v1/home/desired/new-1/system", 1),
        ("herald/v1/home/desired/new-1/+", 1),
        ("herald/v1/work/roster/new-1", 1),
    ]);
    assert_eq!(granted, [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]);
    assert_eq!(asks.take().payload, entry);
    asks.retained(&own, "request");
    assert_eq!(alice.take().text(), "request");

    for (topic, retain) in [
        (own.as_str(), false),
        (&enrol_topic("another"), true),
        (ENTRY, true),
        (ORDER, true),
        ("herald/v1/home/presence/new-1", true),
        ("herald/v1/home/event/new-1", false),
    ] {
        let mut thief = candidate("thief").open(broker.address());
        thief.publish(topic, "forged", retain);
        thief.assert_closed();
    }
    broker.wait_for_refusals("publish-denied", 6);
    // It is not the host, and nothing is kept of it.
    assert_eq!(code(&candidate(HOST_ID), &broker), Some(2));
    assert_eq!(code(&Connect { clean: false, ..candidate("asks") }, &broker), Some(2));
    let presence = "herald/v1/home/presence/new-1";
    assert_eq!(code(&candidate("wills").will(presence, "gone"), &broker), Some(5));
    assert_eq!(code(&signed("new-1"), &broker), Some(4), "its key is not known yet");
    asks.ping();
}

#[test]
fn once_its_key_is_on_the_roster_the_host_logs_in_by_it_and_the_token_is_used_up() {
    let broker = guarded(TCP).start_configured();
    let mut alice = alice(&broker);
    alice.retained(ENTRY, Entry::invited(1).signed());
    let mut asks = candidate("asks").open(broker.address());
    alice.retained(ENTRY, Entry::member(2).signed());
    // All at once with the acknowledgement.
    assert_eq!(code(&candidate("asks"), &broker), Some(4));
    asks.closed();
    let mut host = signed("new-1").open(broker.address());
    host.retained("herald/v1/home/presence/new-1", "here");

    // It may ask for another key, and is known by the one that it has until then.
    let rotating = Entry { token: Some("token"), ..Entry::member(3) };
    alice.retained(ENTRY, rotating.signed());
    host.ping();
    candidate("asks").open(broker.address()).ping();
    signed("new-1").open(broker.address()).ping();
    alice.retained(ENTRY, Entry { key: Some("second"), ..Entry::new(4) }.signed());
    host.closed();
    assert_eq!(code(&signed("new-1"), &broker), Some(4));
    let second = Claims::of("new-1").signed(&key("second"));
    Connect::new("new-1").login("home/new-1", &second).open(broker.address()).ping();
}

#[test]
fn a_host_that_is_removed_is_closed_and_refused_and_nothing_of_it_is_kept() {
    let broker = guarded(TCP).start_configured();
    let mut alice = alice(&broker);
    alice.retained(ENTRY, Entry::member(1).signed());
    let host = Connect { clean: false, ..signed_as("new-1", HOST_ID) };
    let mut connected = host.open(broker.address());
    connected.subscribe(ENTRY);
    broker.wait_for_metric("herald_broker_persistent_sessions", 1);
    alice.retained(ENTRY, Entry::new(2).signed());
    assert_eq!(code(&host, &broker), Some(4));
    connected.closed();
    broker.wait_for_refusals("login-changed", 1);
    broker.wait_for_metric("herald_broker_persistent_sessions", 0);
    // Whoever comes by its name later finds nothing.
    alice.retained(ENTRY, Entry::member(3).signed());
    host.open(broker.address()).ping();
}

#[test]
fn a_stolen_operator_login_puts_nobody_on_the_roster_without_a_release_key() {
    let anonymous = TCP.replace("\"tcp\"", "\"tcp\"\nanonymous = true");
    let broker = guarded(&format!("{TCP}{anonymous}")).start_configured();
    let mut watcher = signed("conductor").open(broker.address());
    watcher.subscribe("herald/v1/home/roster/+");
    alice(&broker).retained(ENTRY, Entry::invited(5).signed());
    let known = watcher.take().payload;

    let member = Entry::member(6);
    let taken = Entry { key: Some("web-1"), ..Entry::new(6) };
    let of_alice = Entry { token: Some("alice"), ..Entry::new(6) };
    let mut flipped = member.signed();
    *flipped.last_mut().unwrap() ^= 1;
    let forged = [
        member.by("alice"),
        member.by("new-1"),
        member.about("home", "new-2", "release"),
        member.about("work", "new-1", "release"),
        taken.signed(),
        of_alice.signed(),
        flipped,
        b"entry".to_vec(),
        Vec::new(),
    ];
    for entry in &forged {
        let mut thief = alice(&broker);
        thief.retain(ENTRY, entry);
        thief.assert_closed();
        let mut anybody = Client::connect(broker.addresses[1], "anybody");
        anybody.retain(ENTRY, entry);
        anybody.assert_closed();
    }
    broker.wait_for_refusals("roster-entry", 2 * forged.len() as u32);
    let mut named = alice(&broker);
    named.retain("herald/v1/home/roster/alice", member.about("home", "alice", "release"));
    named.assert_closed();
    watcher.assert_idle();
    assert_eq!(code(&signed("new-1"), &broker), Some(4));
    signed("web-1").open(broker.address()).ping();
    let mut late = signed("grafana").open(broker.address());
    late.subscribe(ENTRY);
    assert_eq!(late.take().payload, known);
    assert!(broker.log().contains("an entry of the roster is refused"));
}

#[test]
fn an_old_entry_is_refused_and_the_latest_can_be_said_again_also_after_a_restart() {
    let site = guarded(TCP);
    let broker = site.start_configured();
    let (first, second) = (Entry::invited(1).signed(), Entry::member(2).signed());
    let other = Entry::new(2).signed();
    let refused = |broker: &Broker, entry: &[u8]| {
        let mut client = alice(broker);
        client.retain(ENTRY, entry);
        client.assert_closed();
    };
    alice(&broker).retained(ENTRY, &first);
    alice(&broker).retained(ENTRY, &second);
    refused(&broker, &first);
    refused(&broker, &other);
    alice(&broker).retained(ENTRY, &second);
    broker.wait_for_refusals("roster-entry", 2);
    broker.kill();

    let broker = site.start_configured();
    signed("new-1").open(broker.address()).ping();
    assert_eq!(code(&candidate("asks"), &broker), Some(4));
    refused(&broker, &first);
    refused(&broker, &other);
    alice(&broker).retained(ENTRY, &second);
    alice(&broker).retained(ENTRY, Entry::new(3).signed());
    refused(&broker, &second);
    assert_eq!(code(&signed("new-1"), &broker), Some(4));
}

#[test]
fn of_two_operators_at_once_the_higher_entry_stays_and_no_lower_one_is_stored_after_it() {
    let broker = guarded(TCP).start_configured();
    let mut watcher = signed("conductor").open(broker.address());
    watcher.subscribe(ENTRY);
    let numbers = 1..=60;
    let all: Vec<_> = numbers.map(|number| Entry::invited(number).signed()).collect();
    let last = Entry::member(61).signed();
    // One speaks the even entries and one the odd ones, without waiting: who is late is closed.
    let halves = [0, 1].map(|half| {
        let mine: Vec<_> = all.iter().skip(half).step_by(2).cloned().collect();
        let mut client = signed_as("alice", &format!("alice-{half}")).open(broker.address());
        std::thread::spawn(move || mine.iter().for_each(|entry| _ = client.retain(ENTRY, entry)))
    });
    halves.into_iter().for_each(|half| half.join().unwrap());
    alice(&broker).retained(ENTRY, &last);

    let mut seen = vec![watcher.take().payload];
    while *seen.last().unwrap() != last {
        seen.push(watcher.take().payload);
    }
    let number = |bytes: &Vec<u8>| all.iter().chain([&last]).position(|one| one == bytes).unwrap();
    assert!(seen.iter().map(number).is_sorted(), "a lower one came after a higher one");
    signed("new-1").open(broker.address()).ping();
    assert_eq!(code(&candidate("asks"), &broker), Some(4));
}

#[test]
fn a_token_lets_nobody_in_after_its_time() {
    let broker = guarded(TCP).start_configured();
    let over = Entry { expires_at: now(), ..Entry::invited(1) };
    alice(&broker).retained(ENTRY, over.signed());
    assert_eq!(code(&candidate("asks"), &broker), Some(4));
    broker.wait_for_log("the token with which home/new-1 may ask to be let in expired");
    alice(&broker).retained(ENTRY, Entry::invited(2).signed());
    candidate("asks").open(broker.address()).ping();
}

#[test]
fn other_trust_counts_once_it_is_read_and_what_older_trust_signed_stays_good() {
    let site = guarded(TCP);
    let broker = site.start_configured();
    alice(&broker).retained(ENTRY, Entry::member(1).signed());
    let mut host = signed("new-1").open(broker.address());

    trust(&site, "new.toml", "successor");
    name_trust(&site, "trust = \"new.toml\"\nolder_trusts = [\"trust.toml\"]\n");
    reload(&broker);
    host.ping();
    let mut late = alice(&broker);
    late.retain(ENTRY, Entry::new(2).signed());
    late.assert_closed();
    alice(&broker).retained(ENTRY, Entry::member(3).by("successor"));
    host.ping();

    // A key that signs no more, and whose entries nobody stands by.
    name_trust(&site, "trust = \"trust.toml\"\n");
    reload(&broker);
    host.closed();
    assert_eq!(code(&signed("new-1"), &broker), Some(4));
    let log = broker.log();
    assert!(log.contains("new-1") && log.contains("run `herald host announce`"), "{log}");
    alice(&broker).retained(ENTRY, Entry::member(4).signed());
    let mut host = signed("new-1").open(broker.address());

    // Nobody signs: the roster is no more than messages.
    name_trust(&site, "");
    reload(&broker);
    host.closed();
    alice(&broker).retained(ENTRY, "anything");
    assert_eq!(code(&signed("new-1"), &broker), Some(4));
    broker.stop();
    name_trust(&site, "trust = \"trust.toml\"\n");
    let broker = site.start_configured();
    assert_eq!(code(&signed("new-1"), &broker), Some(4), "what is stored is not believed");
}

#[test]
fn where_no_trust_is_named_entries_are_messages_like_others_and_let_nobody_in() {
    let broker = site(&everybody(), TCP).start_configured();
    let mut alice = alice(&broker);
    alice.subscribe(ENTRY);
    let entries = [Entry::member(2).signed(), Entry::member(1).signed(), b"entry".to_vec()];
    for entry in &entries {
        alice.retained(ENTRY, entry);
        assert_eq!(alice.take().payload, *entry);
    }
    alice.retained(ENTRY, "");
    assert_eq!(texts(&[alice.take()]), [""]);
    for connect in [signed("new-1"), candidate("asks")] {
        assert_eq!(code(&connect, &broker), Some(4));
    }
}

#[test]
fn nobody_leaves_an_entry_behind_as_a_will() {
    let broker = guarded(TCP).start_configured();
    let will = signed("alice").will(ENTRY, "entry");
    assert_eq!(code(&will, &broker), Some(5));
    broker.wait_for_refusals("will", 1);
}

#[test]
fn check_config_reads_the_trust_that_the_logins_name() {
    let site = guarded(TCP);
    assert_eq!(site.run(&["check-config"]).code, Some(0));
    let other = "fleet = \"work\"\n[release]\nthreshold = 1\nkeys = []\n";
    for text in ["no TOML", other, &other.replace("[]", "[\"x:AAAA\"]")] {
        site.write("trust.toml", text);
        let checked = site.run(&["check-config"]);
        assert_eq!(checked.code, Some(2), "{checked:?}");
        assert!(checked.stderr.contains("trust.toml"), "{checked:?}");
    }
}

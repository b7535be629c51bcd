//! What one login may make the broker keep, and what becomes of it when the login is gone.

use rustix::process::Signal;

use crate::{
    BEACON, ORDER, PRESENCE, STATUS,
    client::Connect,
    login::{TCP, everybody, logins, signed, signed_as, site},
    process::Site,
};

const HOST_ID: &str = "home:web-1";

fn persistent(name: &str, client_id: &str) -> Connect {
    Connect { clean: false, ..signed_as(name, client_id) }
}

fn limited(settings: &str) -> Site {
    let site = site(&everybody(), TCP);
    site.configure(&format!("{settings}{}", site.settings()));
    site
}

#[test]
fn a_login_has_so_many_sessions_that_are_kept_and_no_more_until_it_gives_one_up() {
    let site = limited("max_kept_sessions = 2\n");
    let broker = site.start_configured();
    let keep = |id: &str| persistent("alice", id).attempt(broker.address()).map(|(one, _)| one);
    keep("first").unwrap().disconnect();
    keep("second").unwrap().disconnect();
    assert_eq!(keep("third").err(), Some(3));
    broker.wait_for_refusals("too-many-sessions", 1);
    // Another login, a host, and sessions that are not kept, have nothing to do with it.
    persistent("grafana", "grafana").open(broker.address()).disconnect();
    persistent("web-1", HOST_ID).open(broker.address()).disconnect();
    signed("alice").open(broker.address()).ping();
    persistent("alice", "first").resume(broker.address()).disconnect();
    broker.stop();
    // What is kept counts after a start too.
    let broker = site.start_configured();
    let attempt = |id: &str| persistent("alice", id).attempt(broker.address()).map(drop).err();
    assert_eq!(attempt("third"), Some(3));
    signed_as("alice", "first").open(broker.address()).disconnect();
    assert_eq!(attempt("third"), None);
    assert_eq!(attempt("fourth"), Some(3));
}

#[test]
fn a_host_keeps_the_reports_of_so_many_profiles_and_others_so_many_topics_in_all() {
    let site = limited("max_profiles = 2\nmax_retained = 1000\n");
    let broker = site.start_configured();
    let mut host = signed("web-1").open(broker.address());
    let status = |profile: &str| format!("herald/v1/home/status/web-1/{profile}");
    for profile in ["system", "home", "system"] {
        host.retained(&status(profile), profile);
    }
    host.retain(&status("work"), "work");
    host.closed();
    broker.wait_for_refusals("too-many-topics", 1);
    // Only a new topic is too many; one that is given up makes room.
    let mut host = signed("web-1").open(broker.address());
    host.retained(STATUS, "again");
    host.retained(&status("home"), "");
    host.retained(&status("work"), "work");
    // Other hosts, and other kinds, have room of their own.
    let other = "herald/v1/home/status/web-2/work";
    signed("web-2").open(broker.address()).retained(other, "work");
    host.retained("herald/v1/home/rollback/web-1/work", "work");

    let mut operator = signed("alice").open(broker.address());
    let order = |number: usize| format!("herald/v1/home/desired/x-{number}/system");
    let room = 1_000 - 4;
    (0..room).for_each(|number| operator.retained(&order(number), "order"));
    operator.retained(&order(0), "newer");
    operator.retain(&order(room), "one too many");
    operator.closed();
    broker.wait_for_refusals("too-many-topics", 2);
    // Hosts have room for what is theirs.
    host.retained(PRESENCE, "here");
    let mut operator = signed("alice").open(broker.address());
    operator.retained(&order(1), "");
    operator.retained(&order(2), "");
    operator.retained(ORDER, "order");
    broker.stop();
    let broker = site.start_configured();
    broker.wait_for_metric("herald_broker_retained_messages", 1_000);
}

#[test]
fn a_will_that_there_is_no_room_for_is_counted() {
    let site = limited("max_profiles = 1\n");
    let broker = site.start_configured();
    let mut host = signed("web-1").open(broker.address());
    host.retained(STATUS, "status");
    let will = "herald/v1/home/status/web-1/work";
    signed_as("web-1", "other").will(will, "gone").open(broker.address()).vanish();
    broker.wait_for_refusals("too-many-topics", 1);
    broker.wait_for_log("a last will was not kept");
    host.ping();
    broker.wait_for_metric("herald_broker_retained_messages", 1);
}

#[test]
fn the_sessions_of_a_login_have_so_many_filters_together() {
    let site = limited("max_filters = 20\n");
    let broker = site.start_configured();
    let filters: Vec<_> =
        (0..30).map(|number| format!("herald/v1/home/desired/x-{number}/system")).collect();
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    let connect = |id: &str| signed_as("alice", id).open(broker.address());
    let (mut first, mut second) = (connect("first"), connect("second"));
    assert_eq!(first.subscribe_all(&filters[..15]), [1; 15]);
    assert_eq!(second.subscribe_all(&filters[15..]), [vec![1; 5], vec![0x80; 10]].concat());
    broker.wait_for_refusals("too-many-filters", 10);
    // Again is not more, and what is given up is free.
    assert_eq!(first.subscribe_all(&filters[..15]), [1; 15]);
    first.unsubscribe(filters[0].0);
    assert_eq!(second.subscribe_all(&filters[20..22]), [1, 0x80]);
    first.vanish();
    broker.wait_for_metric("herald_broker_sessions", 1);
    assert_eq!(second.subscribe_all(&filters[16..30]), [1; 14]);
    // A host has enough for its profiles.
    let mut host = signed("web-1").open(broker.address());
    let own = |number| format!("herald/v1/home/desired/web-1/p{number}");
    let own: Vec<_> = (0..113).map(own).collect();
    let own: Vec<_> = own.iter().map(|filter| (filter.as_str(), 1)).collect();
    assert_eq!(host.subscribe_all(&own), [vec![1; 112], vec![0x80]].concat());
}

#[test]
fn what_is_kept_for_a_login_that_is_gone_is_forgotten_at_once_and_at_a_start() {
    let site = site(&everybody(), TCP);
    let broker = site.start_configured();
    let mut connected = persistent("web-1", HOST_ID).open(broker.address());
    connected.subscribe(ORDER);
    persistent("web-2", "home:web-2").open(broker.address()).disconnect();
    persistent("alice", "alice").open(broker.address()).disconnect();
    persistent("grafana", "grafana").open(broker.address()).disconnect();
    broker.wait_for_metric("herald_broker_persistent_sessions", 4);
    site.write("home.toml", &logins(&[("hosts", &["web-2"]), ("operators", &["alice"])]));
    broker.signal(Signal::HUP);
    broker.wait_for_log("forgot the sessions of logins that are gone");
    connected.closed();
    broker.wait_for_metric("herald_broker_persistent_sessions", 2);
    broker.stop();

    site.write("home.toml", &everybody().replace("\nalice", "\nbob"));
    let broker = site.start_configured();
    broker.wait_for_metric("herald_broker_persistent_sessions", 1);
    persistent("web-2", "home:web-2").resume(broker.address()).disconnect();
    let mut back = persistent("web-1", HOST_ID).open(broker.address());
    back.subscribe(BEACON);
    broker.stop();
    // Nobody is anonymous here; and where somebody is, that is no login that could be gone.
    let broker = site.start();
    Connect::persistent("somebody").open(broker.address()).disconnect();
    broker.stop();
    let broker = site.start();
    Connect::persistent("somebody").resume(broker.address()).disconnect();
    broker.stop();
    let broker = site.start_configured();
    broker.wait_for_metric("herald_broker_persistent_sessions", 2);
}

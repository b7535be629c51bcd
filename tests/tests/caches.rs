//! Binary caches over HTTP, between real processes: those that a release names, and hostile ones.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, path::Path};

use herald_tests::{Cache, Fleet, Manner, wait_for};

/// Makes a fleet of one host with further settings, and a cache that is not in its nix.conf.
fn fleet(settings: impl Fn(&Cache) -> String) -> (Fleet, Cache) {
    let mut fleet = Fleet::without_hosts();
    fleet.add_host("alpha");
    let cache = Cache::of(fleet.path("another-cache").as_ref());
    let file = fleet.host("alpha").config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{}\n{text}", settings(&cache))).unwrap();
    fleet.start_subscriber("alpha");
    (fleet, cache)
}

fn allowing(cache: &Cache) -> String {
    format!("allowed_substituters = [{:?}]", cache.url())
}

/// Publishes a system that is in that cache alone, and gives it.
fn publish(fleet: &Fleet, cache: &Cache, label: &str, key: Option<&str>, more: &[&str]) -> String {
    let system = fleet.build("alpha", label, &[]);
    let (operator, target) = (fleet.path("operator.key"), format!("alpha={system}"));
    let (url, copy_to) = (cache.url(), cache.for_operator(key));
    let mut all = vec!["publish", "--key", &operator, "--stable-for", "0s", "--host", &target];
    all.extend(["--substituter", &url, "--copy-to", &copy_to]);
    all.extend(more);
    let published = fleet.herald(&all);
    assert_eq!(published.code, Some(0), "{published:?}");
    system
}

/// Waits until the host says that it can't have the closure, and gives why.
fn wait_for_failure(fleet: &Fleet, code: &str) -> String {
    let report = wait_for("the host to say that fetching failed", || {
        fleet.report("alpha").filter(|report| report["code"] == code)
    });
    report["detail"].as_str().unwrap().to_owned()
}

fn has(fleet: &Fleet, system: &str) -> bool {
    let store = fleet.host("alpha").state().join("../../store");
    store.join(Path::new(system).file_name().unwrap()).exists()
}

#[test]
fn a_cache_that_the_release_names_and_the_host_allows_is_asked_and_its_manifest_used() {
    let (fleet, cache) = fleet(allowing);
    let key = fleet.path("cache.key");
    let system = publish(&fleet, &cache, "1", Some(&key), &[]);
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
    assert!(cache.asked() > 0);
    let log = fleet.host("alpha").log();
    assert!(log.contains("what is missing is known from the manifest"), "{log}");
}

#[test]
fn a_cache_that_the_host_does_not_allow_is_not_asked_and_the_report_says_so() {
    // What is allowed begins with the same letters.
    let (fleet, cache) =
        fleet(|cache| format!("allowed_substituters = [{:?}]", format!("{}/a", cache.url())));
    let key = fleet.path("cache.key");
    let system = publish(&fleet, &cache, "1", Some(&key), &[]);
    let detail = wait_for_failure(&fleet, "realise-failed");
    assert!(detail.contains("not asked") && detail.contains(&cache.url()), "{detail}");
    assert!(detail.contains("allowed_substituters"), "{detail}");
    assert_eq!(cache.asked(), 0);
    assert!(!has(&fleet, &system));
}

#[test]
fn a_cache_that_a_release_names_needs_signatures_as_any_other() {
    let (fleet, cache) = fleet(allowing);
    let system = publish(&fleet, &cache, "1", None, &[]);
    let detail = wait_for_failure(&fleet, "realise-failed");
    assert!(detail.contains("signed by any of the keys"), "{detail}");
    assert!(cache.asked() > 0);
    assert!(!has(&fleet, &system));
}

#[test]
fn data_without_an_end_are_cut_off_where_they_exceed_what_was_announced_and_a_good_cache_helps() {
    let (fleet, cache) = fleet(allowing);
    let key = fleet.path("cache.key");
    cache.send(Manner::Endless);
    let system = publish(&fleet, &cache, "1", Some(&key), &[]);
    let report = fleet.wait_for_phase("alpha", "failed");
    assert_eq!(report["code"], "closure-mismatch");
    let detail = report["detail"].as_str().unwrap();
    assert!(detail.contains("a cache sends more of") && detail.contains("announced"), "{detail}");
    let first = fleet.host("alpha").first_system.clone();
    fleet.host("alpha").assert_settled_on(&first);
    assert!(!has(&fleet, &system));

    cache.send(Manner::Honest);
    let system = publish(&fleet, &cache, "1", Some(&key), &[]);
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn a_cache_that_drips_ends_with_the_limit_of_the_order_and_a_good_cache_helps() {
    let (fleet, cache) = fleet(allowing);
    let key = fleet.path("cache.key");
    cache.send(Manner::Drips);
    publish(&fleet, &cache, "1", Some(&key), &["--realise-within", "4s"]);
    let report = fleet.wait_for_phase("alpha", "timed-out");
    assert_eq!(report["code"], "limit-reached");
    let first = fleet.host("alpha").first_system.clone();
    fleet.host("alpha").assert_settled_on(&first);
    let log = fleet.host("alpha").log();
    assert!(log.contains("the manifest does not come in time"), "{log}");

    cache.send(Manner::Honest);
    let system = publish(&fleet, &cache, "1", Some(&key), &["--realise-within", "60s"]);
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

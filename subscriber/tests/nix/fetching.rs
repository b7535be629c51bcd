//! Closures are fetched, checked, kept and given up.

use std::{
    fs,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use herald_proto::{
    id::BootId,
    rejection::Code,
    target::{Closure, Integrity},
};
use herald_subscriber::{adapters::unsynced::Unsynced, os::Linux};

use crate::{
    asked::{Request, ask, ask_as, other_digest, realise, realise_recorded, refused, target},
    common::{
        fleet::Fleet,
        machine::{make_gate, open_gate},
        wait_until,
    },
};

#[test]
fn the_digest_of_thousands_of_paths_is_the_operators_and_takes_seconds_at_most() {
    let fleet = Fleet::new();
    // More paths than one command line is given at once are put together.
    for packages in [2000, 4100] {
        let system = fleet.build("1", &["--argstr", "packages", &packages.to_string()]);
        let closure = fleet.closure(&system);
        assert!(closure.paths > packages, "{closure:?}");
        let answer = ask_as(&fleet, Fleet::on_operator, &Request::Measure(system));
        assert_eq!(answer.closure, Some(closure.digest), "{answer:?}");
        println!("the digest of {} paths took {:?}", closure.paths, answer.took);
        assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
    }
}

#[test]
fn a_closure_is_fetched_with_progress_and_has_the_operators_digest() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let closure = fleet.closure(&system);
    // One archive in the middle takes longer than the interval at which progress is told.
    let archive = fleet.archive(&fleet.requisite(&system, "-system-path"));
    let bytes = fs::read(&archive).unwrap();
    fs::remove_file(&archive).unwrap();
    make_gate(&archive);
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            let mut gate = open_gate(&archive);
            let opened = Instant::now();
            wait_until("an interval to pass", || opened.elapsed() > Duration::from_secs(1));
            gate.write_all(&bytes).unwrap();
        });
        realise(&fleet, &system, Integrity::Closure(closure))
    });
    assert_eq!(answer.closure, Some(closure.digest), "{answer:?}");
    let [told] = answer.progress[..] else { panic!("once a second: {answer:?}") };
    assert_eq!(told.total, closure.paths);
    assert!((2..=told.total).contains(&told.done), "{told:?}");
    assert_eq!(fleet.store_size() as u64, closure.paths);
}

#[test]
fn what_is_realised_is_kept_until_it_is_given_up() {
    let fleet = Fleet::new();
    let [first, second] = ["1", "2"].map(|label| fleet.system(label));
    for system in [&first, &second] {
        let answer = realise(&fleet, system, Integrity::Closure(fleet.closure(system)));
        assert_eq!(answer.closure, Some(fleet.closure(system).digest), "{answer:?}");
    }
    fleet.collect_garbage();
    assert!(fleet.has(&first) && fleet.has(&second));

    ask(&fleet, &Request::KeepOnly(vec![second.clone()]));
    fleet.collect_garbage();
    assert!(!fleet.has(&first) && fleet.has(&second));
    let whole = ask(&fleet, &Request::Measure(second.clone()));
    assert_eq!(whole.closure, Some(fleet.closure(&second).digest), "what it needs is there too");

    ask(&fleet, &Request::KeepOnly(vec![]));
    fleet.collect_garbage();
    assert_eq!(fleet.store_size(), 0);
    let gone = ask(&fleet, &Request::Measure(second.clone()));
    assert!(refused(&gone, Code::RealiseFailed, false).contains(second.as_str()));
}

#[test]
fn a_cache_that_another_key_has_signed_is_refused_in_nix_s_words_and_nothing_is_stored() {
    let fleet = Fleet::new();
    fleet.lose_cache_key();
    let system = fleet.system("1");
    let answer = realise(&fleet, &system, Integrity::Closure(fleet.closure(&system)));
    let detail = refused(&answer, Code::RealiseFailed, true);
    assert!(detail.contains("not signed by any of the keys"), "{detail}");
    assert!(detail.contains("nix-store --realise ended with exit status"), "{detail}");
    assert_eq!(fleet.store_size(), 0);
}

#[test]
fn a_path_that_is_nowhere_is_refused_in_nix_s_words_with_what_to_do_and_may_be_there_later() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let closure = fleet.closure(&system);
    let answer = realise(&fleet, &system, Integrity::Closure(closure));
    let detail = refused(&answer, Code::RealiseFailed, true);
    assert!(detail.contains("don't know how to build"), "{detail}");
    assert!(detail.contains("no cache that this host asks has all of it"), "{detail}");
    assert!(detail.contains(system.as_str()), "{detail}");

    fleet.push(&system);
    let later = realise(&fleet, &system, Integrity::Closure(closure));
    assert_eq!(later.closure, Some(closure.digest), "{later:?}");
}

#[test]
fn other_bytes_than_were_signed_are_refused_with_both_digests() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let found = fleet.closure(&system);
    let signed = Closure { digest: other_digest(), ..found };
    let answer = realise(&fleet, &system, Integrity::Closure(signed));
    let detail = refused(&answer, Code::ClosureMismatch, false);
    for named in [found.digest.to_string(), signed.digest.to_string(), system.to_string()] {
        assert!(detail.contains(&named), "{detail} names no {named}");
    }
}

#[test]
fn another_extent_than_was_signed_is_refused_by_name_and_more_is_not_fetched() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let found = fleet.closure(&system);
    // Nix rounds sizes to more than this closure has: that rule has a test of its own.
    let signed = Closure { paths: found.paths - 1, ..found };
    let answer = realise(&fleet, &system, Integrity::Closure(signed));
    let detail = refused(&answer, Code::ClosureMismatch, false);
    let missing = format!("{} paths and", found.paths);
    assert!(detail.contains(&missing) && detail.contains("are missing"), "{detail}");
    assert!(!fleet.has(&system));
    for signed in
        [Closure { size: found.size + 1, ..found }, Closure { paths: found.paths + 1, ..found }]
    {
        let answer = realise(&fleet, &system, Integrity::Closure(signed));
        let detail = refused(&answer, Code::ClosureMismatch, false);
        let (has, said) =
            (format!("{} bytes", found.size), format!("{} and {}", signed.paths, signed.size));
        assert!(detail.contains(&has) && detail.contains(&said), "{detail}");
    }
}

#[test]
fn nothing_is_fetched_where_there_is_no_room_for_it_and_what_is_there_needs_none() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let integrity = || Integrity::Closure(fleet.closure(&system));
    let crammed = || {
        let target = Box::new(target(&system, integrity()));
        ask(&fleet, &Request::Realise { target, recorded: None, margin: Some(1 << 60) })
    };
    let answer = crammed();
    let detail = refused(&answer, Code::DiskFull, true);
    assert!(detail.contains("make room"), "{detail}");
    assert!(!fleet.has(&system));
    assert_eq!(realise(&fleet, &system, integrity()).closure, Some(fleet.closure(&system).digest));
    assert_eq!(crammed().closure, Some(fleet.closure(&system).digest));
}

#[test]
fn a_recorded_system_must_have_the_digest_that_was_recorded() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let digest = fleet.closure(&system).digest;
    let recorded = |recorded| realise_recorded(&fleet, &system, Integrity::Recorded, recorded);
    assert_eq!(recorded(Some(digest)).closure, Some(digest));
    let wrong = recorded(Some(other_digest()));
    let detail = refused(&wrong, Code::ClosureMismatch, false);
    assert!(detail.contains(&digest.to_string()), "{detail}");
    assert!(detail.contains(&other_digest().to_string()), "{detail}");
    let none = recorded(None);
    assert!(refused(&none, Code::ClosureMismatch, false).contains("nothing recorded"));
}

#[test]
fn a_release_that_trusts_the_caches_takes_the_name_alone_and_records_the_digest() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let answer = realise_recorded(&fleet, &system, Integrity::Toplevel, Some(other_digest()));
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

#[test]
fn a_system_is_rooted_only_if_it_is_whole() {
    let fleet = Fleet::new();
    let [here, gone] = ["1", "2"].map(|label| fleet.system(label));
    fleet.in_host(&["nix-store", "--realise", here.as_str()]);
    assert!(ask(&fleet, &Request::Root(here.clone())).failure.is_none());
    assert!(ask(&fleet, &Request::Root(here.clone())).failure.is_none(), "a second time too");
    fleet.collect_garbage();
    assert!(fleet.has(&here));

    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    let answer = ask(&fleet, &Request::Root(gone));
    let detail = refused(&answer, Code::NoWayBack, false);
    assert!(detail.contains("not whole"), "{detail}");
}

#[test]
fn a_download_that_is_abandoned_stops() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    // The archive of the system itself becomes a pipe, which Nix waits for when all else is there.
    let gate = fleet.archive(&system);
    fs::remove_file(&gate).unwrap();
    make_gate(&gate);
    let target = Box::new(target(&system, Integrity::Toplevel));
    let gate = gate.to_str().unwrap().to_owned();
    let answer = ask(&fleet, &Request::RealiseAndAbandon { target, gate });
    assert!(answer.failure.is_none() && answer.closure.is_none());
    assert!(!fleet.has(&system));
    assert!(fleet.store_size() > 0, "the rest was fetched before");
}

#[test]
fn what_a_power_cut_made_of_a_closure_that_was_being_fetched_is_fetched_again() {
    let fleet = Fleet::new();
    let system = fleet.system("1");
    let closure = Integrity::Closure(fleet.closure(&system));
    assert!(realise(&fleet, &system, closure.clone()).failure.is_none());
    let switch = fleet.store().join(system.base_name()).join("bin/switch-to-configuration");
    let program = fs::read(&switch).unwrap();
    let units = fleet.store().join(fleet.requisite(&system, "-system-units").base_name());
    let damage = || {
        let mut mode = fs::metadata(&switch).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(&switch, mode).unwrap();
        fs::write(&switch, b"").unwrap();
        fleet.in_host(&["chmod", "-R", "u+w", units.to_str().unwrap()]);
        fs::remove_dir_all(&units).unwrap();
    };
    damage();
    let marks = fleet.scratch.file("unsynced");
    let earlier = Unsynced::new(marks.clone(), BootId::from_bytes([7; 16]));
    earlier.mark(&Linux, &system).unwrap();

    let answer = realise(&fleet, &system, closure.clone());
    assert!(answer.failure.is_none(), "{answer:?}");
    assert_eq!(fs::read(&switch).unwrap(), program);
    assert!(units.join("web.service").exists());
    assert_eq!(fs::read_dir(&marks).unwrap().count(), 0, "all is synced");

    // Without a cut nobody reads gigabytes: that is what the mark is for.
    damage();
    assert!(realise(&fleet, &system, closure).failure.is_none());
    assert_eq!(fs::read(&switch).unwrap(), b"");
}

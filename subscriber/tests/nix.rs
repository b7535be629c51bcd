//! The adapter of Nix, with real Nix: a signed cache on one side, a host's empty store on the
//! other, and the garbage collector.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod common;

use std::{
    cell::RefCell,
    fs,
    io::Write as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    fleet::Fleet,
    machine::{make_gate, open_gate},
    processes_naming, wait_until,
};
use herald_core::{Cause, Failure};
use herald_proto::{
    host::ProfileName,
    id::{BootId, ClosureDigest},
    rejection::Code,
    report::Progress,
    store_path::StorePath,
    target::{Action, Closure, Health, Integrity, Limits, Target},
};
use herald_subscriber::{
    adapters::{nix::Nix, unsynced::Unsynced},
    clock::Clock,
    os::Linux,
    ports::Closures as _,
    room::{Room, Size},
};
use serde::{Deserialize, Serialize};

/// What a test asks of the adapter on the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Realise { target: Box<Target>, recorded: Option<ClosureDigest>, margin: Option<u64> },
    RealiseAndAbandon { target: Box<Target>, gate: String },
    Measure(StorePath),
    Root(StorePath),
    KeepOnly(Vec<StorePath>),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    closure: Option<ClosureDigest>,
    failure: Option<Failed>,
    progress: Vec<Progress>,
    took: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    cause: Cause,
    retry: bool,
}

/// The host's side: drives the adapter as another test asks. It is a process of its own, as the
/// adapter finds the host's Nix by the environment, and the host's store by what is mounted.
#[test]
#[ignore = "a process that other tests start"]
fn the_host() {
    let Some(args) = common::arguments_of_this_process() else { return };
    let [request, answer] = [&args[0], &args[1]].map(Path::new);
    let request: Request = toml::from_str(&fs::read_to_string(request).unwrap()).unwrap();
    let store_dir = std::env::var("NIX_STORE_DIR").unwrap();
    let [roots, unsynced] = ["roots", "unsynced"].map(|name| answer.with_file_name(name));
    for folder in [&roots, &unsynced] {
        fs::create_dir_all(folder).unwrap();
    }
    let unsynced = Unsynced::new(unsynced, Clock::open().unwrap().now().boot);
    let margin = match &request {
        Request::Realise { margin, .. } => margin.unwrap_or_default(),
        _ => 0,
    };
    let room = Room { store: Size::of_bytes(margin), ..Room::default() };
    let nix = Nix::new(Arc::new(Linux), &store_dir, roots, unsynced, room);
    let progress = RefCell::new(Vec::new());
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(do_as_asked(&nix, request, &progress));
    let took = began.elapsed();
    let (closure, failure) = match outcome {
        Ok(closure) => (closure, None),
        Err(Failure { cause, retry }) => (None, Some(Failed { cause, retry })),
    };
    let answered = Answer { closure, failure, progress: progress.into_inner(), took };
    fs::write(answer, toml::to_string(&answered).unwrap()).unwrap();
}

async fn do_as_asked(
    nix: &Nix,
    request: Request,
    told: &RefCell<Vec<Progress>>,
) -> Result<Option<ClosureDigest>, Failure> {
    let tell = |progress| told.borrow_mut().push(progress);
    match request {
        Request::Realise { target, recorded, .. } => {
            nix.realise(&target, recorded, &tell).await.map(Some)
        }
        Request::RealiseAndAbandon { target, gate } => {
            let mut realising = nix.realise(&target, None, &tell);
            let realise = format!("--realise\0{}", target.toplevel);
            let gate = loop {
                tokio::select! {
                    ended = &mut realising => panic!("it did not stop at the gate: {ended:?}"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
                if let Ok(gate) = tokio::net::unix::pipe::OpenOptions::new().open_sender(&gate) {
                    break gate;
                }
            };
            assert_eq!(processes_naming(&realise).len(), 1);
            drop(realising);
            wait_until("Nix to be gone", || processes_naming(&realise).is_empty());
            // Held open until now: at its end Nix would have given up by itself.
            drop(gate);
            Ok(None)
        }
        Request::Measure(system) => nix.measure(&system).await.map(Some),
        Request::Root(system) => nix.root(&system).await.map(|()| None),
        Request::KeepOnly(systems) => {
            nix.keep_only(&systems);
            Ok(None)
        }
    }
}

fn ask(fleet: &Fleet, request: &Request) -> Answer {
    ask_as(fleet, Fleet::in_host, request)
}

fn ask_as(fleet: &Fleet, run: impl Fn(&Fleet, &[&str]) -> String, request: &Request) -> Answer {
    let (asked, answer) = (fleet.scratch.file("request"), fleet.scratch.file("answer"));
    fs::write(&asked, toml::to_string(request).unwrap()).unwrap();
    let _ = fs::remove_file(&answer);
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend(common::again("the_host"));
    command.extend([asked.into(), answer.clone().into()]);
    let command: Vec<&str> = command.iter().map(|word| word.to_str().unwrap()).collect();
    run(fleet, &command);
    toml::from_str(&fs::read_to_string(answer).unwrap()).unwrap()
}

fn realise(fleet: &Fleet, toplevel: &StorePath, integrity: Integrity) -> Answer {
    realise_recorded(fleet, toplevel, integrity, None)
}

fn realise_recorded(
    fleet: &Fleet,
    toplevel: &StorePath,
    integrity: Integrity,
    recorded: Option<ClosureDigest>,
) -> Answer {
    let target = Box::new(target(toplevel, integrity));
    ask(fleet, &Request::Realise { target, recorded, margin: None })
}

fn target(toplevel: &StorePath, integrity: Integrity) -> Target {
    Target {
        host: "alpha".parse().unwrap(),
        profile: ProfileName::system(),
        system: "x86_64-linux".parse().unwrap(),
        toplevel: toplevel.clone(),
        action: Action::Switch,
        integrity,
        limits: Limits::default(),
        health: Health::default(),
        expect_current: vec![],
        tolerated_units: vec![],
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![],
    }
}

/// Gives why it failed, having checked the code and whether it may be tried again.
fn refused(answer: &Answer, code: Code, retry: bool) -> &str {
    let failed = answer.failure.as_ref().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!((failed.cause.code, failed.retry), (code, retry), "{answer:?}");
    failed.cause.detail.as_str()
}

fn other_digest() -> ClosureDigest {
    ClosureDigest::of(b"another closure")
}

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
fn a_path_that_is_nowhere_is_refused_in_nix_s_words_and_may_be_there_later() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let closure = fleet.closure(&system);
    let answer = realise(&fleet, &system, Integrity::Closure(closure));
    let detail = refused(&answer, Code::RealiseFailed, true);
    assert!(detail.contains("don't know how to build"), "{detail}");
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

#[test]
fn other_bytes_under_a_good_cache_key_are_refused_and_make_way_for_the_right_ones() {
    let fleet = Fleet::new();
    let (used, system) = (fleet.build("0", &[]), fleet.build("1", &[]));
    let signed = Integrity::Closure(fleet.closure(&system));
    // Something of the closure is in use: it was there before, and is not touched.
    fleet.push(&used);
    fleet.in_host(&["nix-store", "--realise", used.as_str(), "--add-root", &gc_root(&fleet)]);
    let before = fleet.store_size();
    let units = fleet.requisite(&system, "-system-units");
    assert_ne!(units, fleet.requisite(&used, "-system-units"));
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&system);
    for _ in 0..2 {
        let answer = realise(&fleet, &system, signed.clone());
        let detail = refused(&answer, Code::ClosureMismatch, false);
        assert!(detail.contains("were deleted") && detail.contains("are in use here"), "{detail}");
        assert!(!fleet.has(&system) && !fleet.has(&units));
        assert_eq!(fleet.store_size(), before, "what is in use stays: {detail}");
    }
    // Nor do they stay where the program was stopped between fetching and comparing.
    fleet.in_host(&["nix-store", "--realise", system.as_str()]);
    let answer = realise(&fleet, &system, signed.clone());
    refused(&answer, Code::ClosureMismatch, false);
    assert!(!fleet.has(&units));

    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    fleet.push(&system);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

#[test]
fn a_path_that_was_here_with_other_bytes_and_is_in_use_is_left_alone_and_named() {
    let fleet = Fleet::new();
    let system = fleet.build("1", &[]);
    let signed = Integrity::Closure(fleet.closure(&system));
    let units = fleet.requisite(&system, "-system-units");
    let poisoned = fleet.poison(&units, "web.service");
    fleet.push(&units);
    fleet.in_host(&["nix-store", "--realise", units.as_str(), "--add-root", &gc_root(&fleet)]);
    poisoned.cure(&fleet);
    fs::remove_dir_all(fleet.scratch.file("cache")).unwrap();
    fleet.push(&system);
    let answer = realise(&fleet, &system, signed.clone());
    let detail = refused(&answer, Code::ClosureMismatch, false);
    assert!(detail.contains(units.as_str()) && detail.contains("--repair-path"), "{detail}");
    assert!(fleet.has(&units) && !fleet.has(&system));

    // What the report says is what helps.
    fleet.in_host(&["nix-store", "--repair-path", units.as_str()]);
    let answer = realise(&fleet, &system, signed);
    assert_eq!(answer.closure, Some(fleet.closure(&system).digest), "{answer:?}");
}

fn gc_root(fleet: &Fleet) -> String {
    fleet.scratch.file("in-use").to_str().unwrap().to_owned()
}

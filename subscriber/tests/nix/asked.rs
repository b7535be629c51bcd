//! The host's side of a test: a process that drives the adapter.

use std::{
    cell::RefCell,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use herald_core::{Cause, Failure};
use herald_proto::{
    host::ProfileName,
    id::ClosureDigest,
    rejection::Code,
    report::Progress,
    store_path::StorePath,
    target::{Action, Health, Integrity, Limits, Target},
};
use herald_subscriber::{
    adapters::{nix::Nix, unsynced::Unsynced},
    clock::Clock,
    os::Linux,
    ports::Closures as _,
    room::{Room, Size},
};
use serde::{Deserialize, Serialize};

use crate::common::{self, fleet::Fleet, processes_naming, wait_until};

/// What a test asks of the adapter on the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    Realise { target: Box<Target>, recorded: Option<ClosureDigest>, margin: Option<u64> },
    RealiseAndAbandon { target: Box<Target>, gate: String },
    Measure(StorePath),
    Root(StorePath),
    KeepOnly(Vec<StorePath>),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) closure: Option<ClosureDigest>,
    pub(crate) failure: Option<Failed>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) took: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    pub(crate) retry: bool,
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

pub(crate) fn ask(fleet: &Fleet, request: &Request) -> Answer {
    ask_as(fleet, Fleet::in_host, request)
}

pub(crate) fn ask_as(
    fleet: &Fleet,
    run: impl Fn(&Fleet, &[&str]) -> String,
    request: &Request,
) -> Answer {
    let (asked, answer) = (fleet.scratch.file("request"), fleet.scratch.file("answer"));
    fs::write(&asked, toml::to_string(request).unwrap()).unwrap();
    let _ = fs::remove_file(&answer);
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend(common::again("asked::the_host"));
    command.extend([asked.into(), answer.clone().into()]);
    let command: Vec<&str> = command.iter().map(|word| word.to_str().unwrap()).collect();
    run(fleet, &command);
    toml::from_str(&fs::read_to_string(answer).unwrap()).unwrap()
}

pub(crate) fn realise(fleet: &Fleet, toplevel: &StorePath, integrity: Integrity) -> Answer {
    realise_recorded(fleet, toplevel, integrity, None)
}

pub(crate) fn realise_recorded(
    fleet: &Fleet,
    toplevel: &StorePath,
    integrity: Integrity,
    recorded: Option<ClosureDigest>,
) -> Answer {
    let target = Box::new(target(toplevel, integrity));
    ask(fleet, &Request::Realise { target, recorded, margin: None })
}

pub(crate) fn target(toplevel: &StorePath, integrity: Integrity) -> Target {
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
        substituters: vec![],
    }
}

/// Gives why it failed, having checked the code and whether it may be tried again.
pub(crate) fn refused(answer: &Answer, code: Code, retry: bool) -> &str {
    let failed = answer.failure.as_ref().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!((failed.cause.code, failed.retry), (code, retry), "{answer:?}");
    failed.cause.detail.as_str()
}

pub(crate) fn other_digest() -> ClosureDigest {
    ClosureDigest::of(b"another closure")
}

pub(crate) fn gc_root(fleet: &Fleet) -> String {
    fleet.scratch.file("in-use").to_str().unwrap().to_owned()
}

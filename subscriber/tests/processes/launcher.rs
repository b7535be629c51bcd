//! The launcher: what it starts outlives the subscriber, is there once, and ends as a whole.

use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::Command,
    sync::Arc,
    sync::Barrier,
    thread,
};

use herald_core::ActivationEnd;
use herald_proto::host::ProfileName;
use herald_subscriber::{
    adapters::{
        launcher::{Launcher, Role},
        record::Records,
    },
    clock,
    config::Runner,
    os::Linux,
};
use rustix::process::{Signal, kill_process_group};

use crate::common::{
    self, LIMIT, Running, Scratch, leads_group,
    machine::{make_gate, open_gate},
    wait_until,
};

const ATTEMPT: u64 = 5;

fn launcher(folder: &Path) -> Launcher {
    Launcher::new(Arc::new(Linux), Runner::Direct, ProfileName::system(), folder)
}

/// Gives the arguments with which this program becomes a runner of a script.
fn activation(folder: &Path, script: &str) -> Vec<OsString> {
    let mut args = common::again("launcher::what_the_launcher_starts");
    args.extend(["activate".into(), "--folder".into(), folder.into()]);
    let until = clock::monotonic().plus(LIMIT).as_millis();
    let rest = format!("--attempt {ATTEMPT} --until {until} -- /bin/sh -c");
    args.extend(rest.split(' ').map(OsString::from));
    args.push(script.into());
    args
}

/// Runs something of the launcher to its end.
fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// The launcher starts the program that it is part of. Here that is this test: it makes way for
/// the real one, which keeps its process id and its lock.
#[test]
#[ignore = "a process that other tests start"]
fn what_the_launcher_starts() {
    let Some(args) = common::arguments_of_this_process() else { return };
    let error = common::subscriber().args(args).exec();
    panic!("{error}");
}

/// Stands for a subscriber that starts an activation, and is then killed.
#[test]
#[ignore = "a process that other tests start"]
fn a_subscriber() {
    let Some(args) = common::arguments_of_this_process() else { return };
    let (folder, script) = (Path::new(&args[0]), args[1].to_str().unwrap());
    let args = activation(folder, script);
    wait(launcher(folder).start(Role::Activate, ATTEMPT, args)).unwrap();
    fs::write(folder.join("started"), "").unwrap();
    open_to_read(&folder.join("gate"));
}

/// Stops until the gate is opened.
fn open_to_read(gate: &Path) {
    let _ = fs::File::open(gate).unwrap().read(&mut [0]);
}

#[test]
fn an_activation_outlives_the_subscriber_that_is_killed_with_its_process_group() {
    let scratch = Scratch::new();
    make_gate(&scratch.file("gate"));
    let folder = scratch.text();
    let script = format!(">{folder}/entered; cat {folder}/gate; echo done >{folder}/done; exit 3");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(common::again("launcher::a_subscriber")).arg(folder).arg(script).process_group(0);
    let mut parent = Running::start(&mut command, &scratch.file("parent.log"));
    for file in ["started", "entered"] {
        wait_until(file, || scratch.file(file).exists());
    }

    kill_process_group(parent.id(), Signal::KILL).unwrap();
    assert_eq!(parent.wait().signal(), Some(9));
    let launcher = launcher(scratch.path());
    assert!(wait(launcher.is_running(Role::Activate, ATTEMPT)));
    assert!(!wait(launcher.is_running(Role::Activate, ATTEMPT + 1)), "another attempt");
    assert!(!wait(launcher.is_running(Role::RollBack, ATTEMPT)), "another role");
    let records = Records::new(scratch.path());
    assert_eq!(records.result(ATTEMPT), None);

    open_gate(&scratch.file("gate"));
    wait_until("the activation to end", || !wait(launcher.is_running(Role::Activate, ATTEMPT)));
    assert_eq!(fs::read_to_string(scratch.file("done")).unwrap(), "done\n");
    let end = records.result(ATTEMPT).expect("the result is there before the lock is gone");
    assert!(matches!(end, ActivationEnd::Exited { status: 3, .. }), "{end:?}");
}

#[test]
fn of_many_starts_at_once_and_one_more_exactly_one_starts_a_process() {
    let scratch = Scratch::new();
    make_gate(&scratch.file("gate"));
    let folder = scratch.text();
    let script = format!("echo ran >>{folder}/ran; cat {folder}/gate");
    let (start, launcher) = (Barrier::new(8), launcher(scratch.path()));
    let start_one = || {
        let args = activation(scratch.path(), &script);
        wait(launcher.start(Role::Activate, ATTEMPT, args))
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                start_one().unwrap();
            });
        }
    });
    start_one().unwrap();
    // A start returns when the program runs, so another one would be seen: each leads a session.
    let leaders = || {
        let all = scratch.processes("");
        all.into_iter().filter(|id| leads_group(*id)).count()
    };
    wait_until("the switch program to run", || scratch.file("ran").exists());
    assert_eq!(leaders(), 1);
    open_gate(&scratch.file("gate"));
    wait_until("it to end", || !wait(launcher.is_running(Role::Activate, ATTEMPT)));
    assert_eq!(fs::read_to_string(scratch.file("ran")).unwrap(), "ran\n");

    // When it has ended, one can be started again.
    fs::remove_file(Records::new(scratch.path()).file("result", ATTEMPT)).unwrap();
    start_one().unwrap();
    assert!(wait(launcher.is_running(Role::Activate, ATTEMPT)));
}

#[test]
fn a_stop_kills_grandchildren_that_ignore_a_polite_request_and_leaves_no_result() {
    let scratch = Scratch::new();
    make_gate(&scratch.file("gate"));
    let folder = scratch.text();
    let deaf = format!("trap \"\" TERM HUP INT; >{folder}/deaf; cat {folder}/gate; >{folder}/out");
    let script = format!("sh -c '{deaf}' & wait; >{folder}/out");
    let launcher = launcher(scratch.path());
    let args = activation(scratch.path(), &script);
    wait(launcher.start(Role::Activate, ATTEMPT, args)).unwrap();
    wait_until("the grandchild to be deaf", || scratch.file("deaf").exists());

    wait(launcher.stop(Role::Activate, ATTEMPT)).unwrap();
    assert!(!wait(launcher.is_running(Role::Activate, ATTEMPT)));
    wait_until("the whole group to be gone", || scratch.processes("").is_empty());
    assert!(!scratch.file("out").exists());
    assert_eq!(Records::new(scratch.path()).result(ATTEMPT), None);
    wait(launcher.stop(Role::Activate, ATTEMPT)).expect("what is gone is stopped");
}

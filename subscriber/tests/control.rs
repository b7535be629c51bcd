//! The control socket of a real daemon: what its commands say, who may ask what, and what garbage
//! and crowds do to it. What comes of orders is tested with whole fleets, in `tests/tests`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::PathBuf,
    process::Command,
};

use common::{
    host::{Host, closed_port},
    wait_until,
};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

/// A user that no test runs as.
const NOBODY: u32 = 65534;

fn socket(host: &Host) -> PathBuf {
    host.scratch.file("herald/control.sock")
}

/// Sends bytes and gives the answer.
fn tell(host: &Host, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(host)).unwrap();
    // The daemon hangs up on whoever says too much.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn status(host: &Host) -> Value {
    let said = host.run_with(&["status", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_host_says_where_it_is_to_people_and_to_programs() {
    let host = Host::new(closed_port());
    let _daemon = host.start();
    let said = host.run("status");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let expected = "alpha of fleet home, profile system\n\
                    phase        idle\n\
                    since        before the daemon started\n\
                    running      none is known\n\
                    boot default none is known\n\
                    previous     none is known\n\
                    broker       not connected: `journalctl -u herald-subscriber` says why\n";
    assert_eq!(said.stdout, expected);
    let expected = json!({
        "fleet": "home", "host": "alpha", "profile": "system", "phase": "idle",
        "since_ms": null, "waits_for": null, "code": null, "detail": null,
        "release": null, "target": null, "sequence": null, "hold": null, "refusal": null,
        "running": null, "booted": null, "boot_default": null, "profile_points_to": null,
        "previous": null, "connected": false,
    });
    assert_eq!(status(&host), expected);
}

#[test]
fn a_hold_is_kept_over_a_crash_and_told_until_it_ends() {
    let host = Host::new(closed_port());
    let mut daemon = host.start();
    for reason in ["a demonstration", "another one"] {
        let said = host.run_with(&["hold", "--reason", reason]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(status(&host)["hold"]["reason"], reason);
    }
    daemon.kill();
    let _daemon = host.start();
    assert_eq!(status(&host)["hold"]["reason"], "another one");
    assert!(host.run("status").stdout.contains(": another one\n"));
    assert_eq!(host.run("resume").code, Some(0));
    assert_eq!(status(&host)["hold"], Value::Null);
    let said = host.run("resume");
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stderr.contains("nothing waits for that here: the host is idle"), "{said:?}");
}

#[test]
fn what_can_not_be_done_is_refused_with_its_reason() {
    let host = Host::new(closed_port());
    let _daemon = host.start();
    let [junk, empty, large] = ["junk", "empty", "large"].map(|name| host.scratch.file(name));
    fs::write(&junk, b"\xd8\x62 no order").unwrap();
    fs::write(&empty, b"").unwrap();
    fs::write(&large, vec![0; 25 * 1024]).unwrap();
    let [junk, empty, large] = [&junk, &empty, &large].map(|path| path.to_str().unwrap());
    for (command, code, expected) in [
        (&["consent", "now"][..], 4, "nothing waits for that here: the host is idle"),
        (&["rollback"], 4, "no system is known that ran here before"),
        (&["status", "--profile", "desk"], 4, "no profile desk; it has system"),
        (&["apply", junk], 4, "the order was refused: malformed"),
        (&["apply", empty], 1, "is empty"),
        (&["apply", large], 1, "more than 24576 bytes"),
        (&["apply", "/does/not/exist"], 1, "/does/not/exist"),
        (&["apply", "-"], 1, "- is empty"),
        (&["hold"], 2, "--reason"),
        (&["hold", "--reason", " "], 2, "words"),
        (&["hold", "--reason", "\u{1b}[2J"], 2, "control characters"),
        (&["consent", "perhaps"], 2, "perhaps"),
    ] {
        let said = host.run_with(command);
        assert_eq!(said.code, Some(code), "{command:?}: {said:?}");
        assert!(said.stderr.contains(expected), "{command:?}: {said:?}");
    }
    let refusal = &status(&host)["refusal"];
    assert_eq!(refusal["code"], "malformed", "what was refused here is told too");
}

#[test]
fn without_a_daemon_a_command_says_so() {
    let host = Host::new(closed_port());
    let missing = |what: &str| {
        let said = host.run("status");
        assert_eq!(said.code, Some(6), "{what}: {said:?}");
        assert!(said.stderr.contains("herald-subscriber does not run"), "{said:?}");
        assert!(said.stderr.contains(socket(&host).to_str().unwrap()), "{said:?}");
    };
    missing("it was never started");
    let mut daemon = host.start();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!socket(&host).exists(), "it goes with the daemon");
    missing("it was stopped");
    host.start().kill();
    assert!(socket(&host).exists());
    missing("it was killed");
}

#[test]
fn a_socket_that_a_crash_left_is_replaced_and_one_that_is_in_use_is_not() {
    let host = Host::new(closed_port());
    host.start().kill();
    let _daemon = host.start();
    status(&host);

    // Another daemon, with a state of its own, but at the same path.
    let other = Host::new(closed_port());
    let at = |path: PathBuf| {
        let config = fs::read_to_string(other.config()).unwrap();
        let control = format!("control = {path:?}\n");
        let lines = config.lines().filter(|line| !line.starts_with("control"));
        let config: Vec<_> = lines.collect();
        fs::write(other.config(), format!("{control}{}\n", config.join("\n"))).unwrap();
    };
    at(socket(&host));
    let mut second = other.start();
    other.wait_for_log("another program listens at");
    assert!(second.is_running(), "orders matter more");
    status(&host);
    second.kill();

    let file = other.scratch.file("precious");
    fs::write(&file, "precious").unwrap();
    at(file.clone());
    let _second = other.start();
    other.wait_for_log("is no socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(fs::metadata(socket(&host)).unwrap().file_type().is_socket());
}

#[test]
fn garbage_on_the_socket_harms_nothing() {
    let host = Host::new(closed_port());
    let mut daemon = host.start();
    let before = status(&host);
    let system = r#"{"version":1,"profile":"system","ask":"#;
    for (bytes, expected) in [
        (b"".to_vec(), "no first line"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "unreadable"),
        (vec![0; 100], "no first line"),
        (vec![0xff; 1 << 20], ""),
        (b"\n\n\n".to_vec(), "unreadable"),
        (b"{\"version\":7}\n".to_vec(), "other-version"),
        (format!("{system}\"status\"}}\nmore").into_bytes(), "unreadable"),
        (format!("{system}{{\"hold\":{{}}}}}}\n").into_bytes(), "reason"),
        (format!("{system}{{\"hold\":{{\"reason\":\"\\u001b\"}}}}}}\n").into_bytes(), "unreadable"),
        ("[".repeat(4000).into_bytes(), "no first line"),
        (format!("{{\"version\":{}\n", "[".repeat(4000)).into_bytes(), "unreadable"),
        (format!("{system}\"apply\"}}\n\0\0\0").into_bytes(), "malformed"),
    ] {
        let answer = tell(&host, &bytes);
        assert!(answer.contains(expected), "{answer:?}, not {expected}");
        assert!(answer.len() < 4096, "{answer}");
    }
    let mut after = status(&host);
    assert_eq!(after["refusal"]["code"], "malformed");
    after["refusal"] = Value::Null;
    assert_eq!(after, before);
    assert!(daemon.is_running());
}

#[test]
fn a_crowd_that_says_nothing_is_bounded_and_keeps_nobody_out_for_long() {
    let host = Host::new(closed_port());
    let _daemon = host.start();
    let crowd: Vec<_> = (0..50).map(|_| UnixStream::connect(socket(&host)).unwrap()).collect();
    wait_until("the places to be taken", || {
        let said = host.run("status");
        said.code == Some(6) && said.stderr.contains("too many ask at once")
    });
    // Whoever says nothing is sent away, without hanging up by themselves.
    wait_until("a place", || host.run("status").code == Some(0));
    drop(crowd);
}

#[test]
fn another_user_may_look_and_change_nothing() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED, as only root can become another user");
        return;
    }
    let host = Host::new(closed_port());
    let path = host.scratch.text();
    let config = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("control = \"{path}/open/control.sock\"\n{config}")).unwrap();
    fs::set_permissions(host.scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = host.scratch.file("program");
    fs::copy(env!("CARGO_BIN_EXE_herald-subscriber"), &program).unwrap();
    let _daemon = host.start();
    let order = host.scratch.file("order");
    fs::write(&order, "order").unwrap();
    let as_nobody = |command: &[&str]| {
        let mut run = Command::new("setpriv");
        run.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}"));
        run.arg("--clear-groups").arg("--").arg(&program).args(command);
        host.said(run.arg("--config").arg(host.config()))
    };
    let said = as_nobody(&["status"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for command in [
        &["hold", "--reason", "mine"][..],
        &["resume"],
        &["rollback"],
        &["apply", order.to_str().unwrap()],
        // Nobody is not logged in.
        &["consent", "later"],
    ] {
        let said = as_nobody(command);
        assert_eq!(said.code, Some(7), "{command:?}: {said:?}");
        assert!(said.stderr.contains("run it as root"), "{said:?}");
    }
    assert_eq!(status(&host)["hold"], Value::Null);
    fs::set_permissions(host.scratch.file("open"), fs::Permissions::from_mode(0o700)).unwrap();
    let said = as_nobody(&["status"]);
    assert_eq!(said.code, Some(7), "{said:?}");
}

//! A new host joins as `examples/nomad-client` has it, and is healthy when Nomad's servers call it ready.
//! No Nomad can be installed here: a program plays the command, and a thread the agent's HTTP.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use herald_tests::{Fleet, wait_for};
use serde_json::Value;

const HOST: &str = "client-3";
const AGENT: &str = "http://127.0.0.1:4646/v1/agent/health?type=client";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nomad-client").join(name)
}

/// Answers as an agent does that is a client and knows servers; gives its port.
fn agent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            let knows = request.starts_with("GET /v1/agent/health?type=client HTTP/1.1");
            let answer = if knows { "200 OK" } else { "404 Not Found" };
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

/// Writes the checks of the example into the host's folder, and a `nomad` that says what is in a file.
fn add_checks(fleet: &Fleet) {
    let client = fs::read_to_string(example("client.nix")).unwrap();
    assert!(client.contains(AGENT) && client.contains("${./node-ready}"));
    let folder = PathBuf::from(fleet.path("health.d"));
    let programs = PathBuf::from(fleet.path("programs"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&programs).unwrap();
    let nomad = programs.join("nomad");
    let answer = fleet.path("node-status");
    fs::write(
        &nomad,
        format!(
            "#!/bin/sh\n[ \"$*\" = \"node status -self -t {{{{ .Status }}}}\" ] && \
             [ \"$NOMAD_TOKEN\" = s.secret ] && cat {answer}\n"
        ),
    )
    .unwrap();
    fs::set_permissions(&nomad, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(programs.join("nomad-token"), "s.secret\n").unwrap();
    let url = AGENT.replace("4646", &agent().to_string());
    fs::write(folder.join("nomad-agent.toml"), format!("check.http = {url:?}\n")).unwrap();
    // What the unit of the module sets, and the daemon of a test has not.
    let set = format!("export CREDENTIALS_DIRECTORY={0} PATH={0}:$PATH", programs.display());
    let check = format!("{set}; exec /bin/sh {}", example("node-ready").display());
    let command = format!("check.command = [\"/bin/sh\", \"-c\", {check:?}]\n");
    fs::write(folder.join("nomad-node.toml"), command).unwrap();

    let file = fleet.host(HOST).config_file();
    let own = fs::read_to_string(&file).unwrap();
    let token = fleet.path("client-3.token");
    let own = format!("health_folder = {folder:?}\n{own}[enrol]\ntoken = {token:?}\n");
    fs::write(file, own).unwrap();
}

/// Says what the servers call the node.
fn servers_say(fleet: &Fleet, status: &str) {
    fs::write(fleet.path("node-status"), status).unwrap();
}

fn herald(fleet: &Fleet, arguments: &[&str]) -> Option<i32> {
    let outcome = fleet.herald(arguments);
    println!("{arguments:?}: {outcome:?}");
    outcome.code
}

fn deploy(fleet: &Fleet, system: &str) -> Option<i32> {
    let (key, target) = (fleet.path("operator.key"), format!("{HOST}={system}"));
    let limits = ["--stable-for", "200ms", "--confirm-within", "4s", "--watch"];
    let publish = ["publish", "--key", &key, "--host", &target];
    herald(fleet, &[publish.as_slice(), limits.as_slice()].concat())
}

#[test]
fn a_new_client_is_let_in_by_its_token_and_goes_back_until_the_servers_call_it_ready() {
    let mut fleet = Fleet::without_hosts();
    fleet.write_fleet_file();
    let file = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    fs::write(fleet.path("fleet.toml"), format!("trust = \"trust.toml\"\n{file}")).unwrap();
    fleet.add_unknown_host(HOST);
    add_checks(&fleet);
    let (key, token) = (fleet.path("operator.key"), fleet.path("client-3.token"));
    let made = herald(&fleet, &["host", "token", HOST, "--out", &token, "--key", &key]);
    assert_eq!(made, Some(0));
    fleet.spawn_subscriber(HOST);
    wait_for("the host to ask", || {
        fleet.host(HOST).log().contains("asking to be enrolled").then_some(())
    });
    let shown = fleet.public_key(HOST, &["--fingerprint"]);
    let enrol = ["host", "enrol", HOST, "--wait", "60s", "--fingerprint", &shown, "--key", &key];
    assert_eq!(herald(&fleet, &enrol), Some(0));
    wait_for("the host to report", || fleet.report(HOST));
    let first = fleet.host(HOST).first_system.clone();

    servers_say(&fleet, "initializing");
    let system = fleet.system(HOST, "1", &[]);
    assert_eq!(deploy(&fleet, &system), Some(3));
    let report: Value = fleet.wait_for_phase(HOST, "rolled-back");
    assert!(report.to_string().contains("the servers call this node: initializing"), "{report}");
    fleet.host(HOST).assert_settled_on(&first);

    servers_say(&fleet, "ready");
    let system = fleet.system(HOST, "2", &[]);
    assert_eq!(deploy(&fleet, &system), Some(0));
    fleet.host(HOST).assert_settled_on(&system);
}

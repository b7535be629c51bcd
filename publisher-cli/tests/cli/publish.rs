//! `herald publish`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use herald_proto::{
    order::Order,
    rejection::Code,
    report::PhaseName,
    target::{Action, Check, Integrity},
    time::Timestamp,
};

use crate::support::{Answer, Host, Scene, exits, json, path, stderr, stdout};

const SUCCEEDED: Answer = Answer::Phase(PhaseName::Succeeded, None);
const ACCEPTED: Answer = Answer::Phase(PhaseName::Accepted, None);

#[test]
fn the_exit_code_tells_how_the_host_ended() {
    let phase = |phase, code| Answer::Phase(phase, code);
    for (answer, code, outcome) in [
        (SUCCEEDED, 0, "succeeded"),
        (phase(PhaseName::RolledBack, Some(Code::Unhealthy)), 3, "rolled-back"),
        (phase(PhaseName::Failed, Some(Code::RealiseFailed)), 4, "failed"),
        (phase(PhaseName::Rejected, Some(Code::WrongStore)), 4, "rejected"),
        (phase(PhaseName::Degraded, Some(Code::RollbackFailed)), 4, "degraded"),
        (phase(PhaseName::TimedOut, Some(Code::LimitReached)), 5, "timed-out"),
        (Answer::Refuse(Code::StateLost, 0), 4, "refused"),
    ] {
        let (scene, _alpha) = Scene::with_alpha(&[&[ACCEPTED, answer]]);
        let output = scene.publish("--watch --json");
        let said = exits(&output, code);
        assert!(said.contains(outcome), "{said}");
        let shown = json(&output);
        assert_eq!(shown["hosts"][0]["outcome"], outcome);
        assert_eq!(shown["hosts"][0]["host"], "alpha");
        assert!(shown["hosts"][0]["elapsed_ms"].is_u64() && shown["published_ms"].is_u64());
    }
}

#[test]
fn the_worst_host_gives_the_exit_code_and_people_get_a_table() {
    let hosts = ["alpha", "beta", "gamma"].into_iter().zip(1..);
    let hosts: Vec<_> = hosts.map(|(name, key)| Host::new(name, key)).collect();
    let scene = Scene::new(&hosts.iter().collect::<Vec<_>>());
    let rolled_back = Answer::Phase(PhaseName::RolledBack, Some(Code::Unhealthy));
    let ends = [SUCCEEDED, rolled_back, SUCCEEDED];
    let connect = |(host, end)| scene.connect(host, &[&[end]]);
    let _hosts: Vec<_> = hosts.into_iter().zip(ends).map(connect).collect();
    let wanted = ["alpha", "beta", "gamma"].map(|name| format!("--host {name}={}", path(name)));
    let all = format!("publish --integrity toplevel --watch {}", wanted.join(" "));
    let output = scene.desk.herald(&all);
    exits(&output, 3);
    let table = stdout(&output);
    let rows: Vec<_> =
        table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(rows[0], ["HOST", "OUTCOME", "AFTER", "CAUSE"]);
    assert_eq!(rows[1][..2], ["alpha", "succeeded"]);
    assert_eq!(rows[2][..2], ["beta", "rolled-back"]);
    assert_eq!(rows[2][4..6], ["unhealthy:", "as"]);
    assert_eq!(rows[3][..2], ["gamma", "succeeded"]);
}

#[test]
fn a_roll_back_ends_the_watching_only_when_the_status_says_it_too() {
    let (scene, _alpha) = Scene::with_alpha(&[&[Answer::RollbackAlone]]);
    let watch = "publish --integrity toplevel --watch --timeout 2s --host alpha=";
    exits(&scene.desk.herald(&format!("{watch}{}", path("new"))), 5);
}

#[test]
fn an_order_says_what_the_options_say() {
    let (scene, alpha) = Scene::with_alpha(&[]);
    let old = path("old");
    let output = scene.desk.run(&[
        "publish",
        "--host",
        &format!("alpha={}", path("new")),
        "--integrity",
        "toplevel",
        "--action",
        "boot",
        "--reason",
        "because of this",
        "--revision",
        "abc",
        "--valid-for",
        "1h",
        "--stable-for",
        "3s",
        "--confirm-within",
        "4s",
        "--activate-within",
        "5s",
        "--realise-within",
        "6s",
        "--health-command",
        "curl it",
        "--health-tcp",
        "[::1]:80",
        "--health-http",
        "http://127.0.0.1:8080/ready status=204",
        "--health-unit",
        "sshd.service",
        "--tolerate",
        "bad.service",
        "--expect-current",
        &old,
        "--system",
        "aarch64-linux",
        "--not-before",
        "2100-01-01T00:00:00Z",
    ]);
    exits(&output, 0);
    let Order { release, target, .. } = alpha.order();
    assert_eq!(stdout(&output).trim(), release.id.to_string());
    assert_eq!(release.reason.unwrap().as_str(), "because of this");
    assert_eq!(release.revision.unwrap().as_str(), "abc");
    assert_eq!(release.not_before, Timestamp::from_millis(4_102_444_800_000));
    assert_eq!(release.expires_at.since(release.not_before).as_secs(), 3600);
    assert_eq!(target.action, Action::Boot);
    assert_eq!(target.integrity, Integrity::Toplevel);
    assert_eq!(target.system.as_str(), "aarch64-linux");
    let limits = target.limits;
    let limits = [limits.realise, limits.activate, limits.confirm, target.health.stable_for];
    assert_eq!(limits.map(|limit| limit.as_secs()), [6, 5, 4, 3]);
    let command = ["/bin/sh", "-c", "curl it"].map(str::to_owned).to_vec();
    let checks = [
        Check::Command(command),
        Check::Tcp("[::1]:80".parse().unwrap()),
        Check::Http("http://127.0.0.1:8080/ready status=204".parse().unwrap()),
        Check::Unit("sshd.service".parse().unwrap()),
    ];
    assert_eq!(target.health.checks, checks);
    assert_eq!(target.tolerated_units, ["bad.service".parse().unwrap()]);
    assert_eq!(target.expect_current, [old.parse().unwrap()]);
    assert_eq!(target.incarnation, None);
}

#[test]
fn a_host_that_says_nothing_is_given_up_after_the_timeout() {
    let (scene, _alpha) = Scene::with_alpha(&[&[ACCEPTED]]);
    let output = scene.publish("--watch --json --timeout 300ms");
    exits(&output, 5);
    let host = &json(&output)["hosts"][0];
    assert_eq!((&host["outcome"], &host["phase"]), (&"unfinished".into(), &"accepted".into()));
}

#[test]
fn an_order_that_lost_its_place_on_the_topic_is_published_again() {
    let (scene, alpha) = Scene::with_alpha(&[&[ACCEPTED, Answer::Displace], &[SUCCEEDED]]);
    let output = scene.publish("--watch");
    let said = exits(&output, 0);
    assert!(said.contains("publishing it again"), "{said}");
    assert_eq!(alpha.order().message, alpha.order().message);
}

#[test]
fn recovering_names_the_state_that_the_host_reports() {
    let (scene, alpha) = Scene::with_alpha(&[]);
    exits(&scene.publish("--recover"), 0);
    let incarnation = alpha.order().target.incarnation.unwrap();
    assert_eq!(incarnation, Host::new("alpha", 1).report.incarnation);
}

#[test]
fn a_forged_report_does_not_end_the_watch() {
    let scene = Scene::new(&[&Host::new("alpha", 1)]);
    let _forger = scene.connect(Host::new("alpha", 2), &[&[SUCCEEDED]]);
    let output = scene.publish("--watch --json --timeout 300ms");
    let said = exits(&output, 5);
    let host = &json(&output)["hosts"][0];
    assert_eq!(host["outcome"], "no-answer");
    let problem = "unverified: it is signed with a key that is not pinned for alpha";
    assert_eq!(host["problem"], problem);
    assert!(said.contains(&format!("alpha: {problem}")), "{said}");
    let table = stdout(&scene.publish("--watch --timeout 300ms"));
    assert!(table.lines().nth(1).unwrap().ends_with(problem), "{table}");
    let said = exits(&scene.publish("--recover"), 1);
    assert!(said.contains("alpha (unverified: "), "{said}");
}

#[test]
fn many_hosts_get_one_release() {
    let hosts: Vec<_> = (1..=200).map(|n| Host::new(&format!("h{n}"), n)).collect();
    let scene = Scene::new(&hosts.iter().collect::<Vec<_>>());
    let wanted = hosts.iter().map(|host| (host.name.to_string(), path("new")));
    let wanted: serde_json::Map<_, _> = wanted.map(|(host, path)| (host, path.into())).collect();
    scene.desk.write("hosts.json", &serde_json::Value::Object(wanted).to_string());
    let output = scene.desk.herald("publish --from hosts.json --integrity toplevel --json");
    exits(&output, 0);
    assert_eq!(json(&output)["hosts"].as_array().unwrap().len(), 200);
    assert!(stderr(&output).contains("to 200 hosts in"));
}

#[test]
fn a_broker_that_goes_away_does_not_end_the_watch_before_its_time() {
    let (scene, mut alpha) = Scene::with_alpha(&[&[ACCEPTED]]);
    let wanted = format!("alpha={}", path("new"));
    let mut command =
        scene.desk.command(&["publish", "--host", &wanted, "--integrity", "toplevel"]);
    command.args(["--watch", "--timeout", "2s"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    // By then the order was acknowledged and read back.
    let mut said = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("accepted")));
    alpha.stop();
    drop(scene.broker);
    assert!(said.any(|line| line.contains("trying again")));
    let last = said.last();
    assert_eq!(running.wait().unwrap().code(), Some(5), "{last:?}");
}

#[test]
fn what_a_broker_lost_is_published_again_once_to_hosts_that_have_not_ended() {
    let hosts = [Host::new("alpha", 1), Host::new("beta", 2)];
    let mut scene = Scene::new(&hosts.iter().collect::<Vec<_>>());
    let [alpha, beta] = hosts;
    let beta = scene.connect(beta, &[&[SUCCEEDED]]);
    let alpha = scene.connect(alpha, &[&[ACCEPTED], &[SUCCEEDED]]);
    let [a, b] = ["alpha", "beta"].map(|host| format!("{host}={}", path("new")));
    let args = ["publish", "--host", &a, "--host", &b, "--integrity", "toplevel", "--watch"];
    let mut command = scene.desk.command(&args);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut waiting = vec!["accepted", "succeeded"];
    while !waiting.is_empty() {
        let line = said.next().unwrap();
        waiting.retain(|word| !line.contains(word));
    }
    scene.broker.restart();
    let said: Vec<_> = said.collect();
    let again: Vec<_> = said.iter().filter(|line| line.contains("publishing them again")).collect();
    assert!(matches!(again[..], [line] if line.ends_with(": alpha")), "{said:?}");
    assert_eq!(running.wait().unwrap().code(), Some(0), "{said:?}");
    assert_eq!(alpha.order().message, alpha.order().message);
    beta.order();
    assert!(alpha.orders.try_recv().is_err() && beta.orders.try_recv().is_err());
}

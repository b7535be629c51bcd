//! `herald status` and `herald listen`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use herald_proto::{rejection::Code, report::PhaseName};

use crate::support::{Answer, Host, Scene, documented, exits, json, path, stdout};

#[test]
fn status_shows_what_is_proved_and_says_what_is_not() {
    let (alpha, beta, gamma) = (Host::new("alpha", 1), Host::new("beta", 2), Host::new("gamma", 3));
    let scene = Scene::new(&[&alpha, &beta, &gamma]);
    let rolled_back = Answer::Phase(PhaseName::RolledBack, Some(Code::Unhealthy));
    let _alpha = scene.connect(alpha, &[&[rolled_back]]);
    let _forger = scene.connect(Host::new("beta", 7), &[]);
    exits(&scene.publish("--watch"), 3);

    let output = scene.desk.herald("status --json --wait 300ms");
    exits(&output, 0);
    let shown = json(&output);
    assert_eq!(shown["fleet"], "home");
    let [alpha, beta, gamma] = [0, 1, 2].map(|at| &shown["hosts"][at]);
    let expected: [(&str, serde_json::Value); 7] = [
        ("host", "alpha".into()),
        ("phase", "rolled-back".into()),
        ("code", "unhealthy".into()),
        ("presence", "online".into()),
        ("verified", true.into()),
        ("running", path("old").into()),
        ("agent", "0.1.0".into()),
    ];
    for (field, value) in expected {
        assert_eq!(alpha[field], value, "{field}");
    }
    assert!(alpha["age_ms"].as_u64().unwrap() > 86_400_000);
    assert_eq!(alpha["last_rollback"]["code"], "unhealthy");
    assert_eq!((&beta["verified"], &beta["phase"]), (&false.into(), &serde_json::Value::Null));
    assert!(beta["problem"].as_str().unwrap().starts_with("unverified: "));
    assert_eq!(beta["presence"], "unknown");
    assert_eq!(gamma["problem"], "no report");

    let shown = scene.desk.herald("status --wait 300ms");
    let meaning = format!("unhealthy: {}\n", Code::Unhealthy.meaning());
    assert_eq!(exits(&shown, 0), meaning, "what is in the table is told once");
    let table = stdout(&shown);
    let alpha = table.lines().nth(1).unwrap();
    for word in ["alpha", "online", "rolled-back", " d  ", "unhealthy: as the test says"] {
        assert!(alpha.contains(word), "{table}");
    }
    assert!(table.lines().nth(2).unwrap().contains("unverified"), "{table}");
    assert!(table.lines().nth(3).unwrap().contains("no report"), "{table}");
}

#[test]
fn status_ends_as_soon_as_every_host_has_answered() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let _alpha = scene.connect(alpha, &[]);
    let began = std::time::Instant::now();
    exits(&scene.desk.herald("status --wait 5m"), 0);
    assert!(began.elapsed().as_secs() < 60);
}

#[test]
fn listen_prints_each_verified_report_and_roll_back_once() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let rolled_back = Answer::Phase(PhaseName::RolledBack, Some(Code::Unhealthy));
    let accepted = Answer::Phase(PhaseName::Accepted, None);
    let _alpha = scene.connect(alpha, &[&[accepted, rolled_back]]);
    let _forger = scene.connect(Host::new("alpha", 7), &[]);
    let mut listening = scene
        .desk
        .command(&["listen", "--json", "--count", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens as soon as it has seen what is there: the forger's report, in the host's place.
    let mut notes = BufReader::new(listening.stderr.take().unwrap()).lines();
    let note = notes.next().unwrap().unwrap();
    assert!(note.starts_with("ignored a message"), "{note}");
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    let mut next = move || -> Option<serde_json::Value> {
        lines.next().map(|line| documented(serde_json::from_str(&line.unwrap()).unwrap()))
    };
    exits(&scene.publish(""), 0);
    let lines = [next().unwrap(), next().unwrap(), next().unwrap()];
    assert_eq!(lines[0]["phase"], "accepted");
    for line in &lines[1..] {
        assert_eq!((&line["host"], &line["phase"]), (&"alpha".into(), &"rolled-back".into()));
    }
    let kinds = [&lines[1]["kind"], &lines[2]["kind"]];
    assert_eq!(kinds, ["rollback", "report"]);
    assert!(next().is_none());
    assert!(listening.wait().unwrap().success());
}

#[test]
fn listen_begins_with_the_latest_and_ends_quietly_on_ctrl_c() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let _alpha = scene.connect(alpha, &[]);
    let mut listening = scene
        .desk
        .command(&["listen"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(listening.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "2023-11-14T22:13:20Z  alpha  idle\n");
    let interrupt = Command::new("kill").args(["-INT", &listening.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let output = listening.wait_with_output().unwrap();
    assert_eq!(exits(&output, 0), "");
}

#[test]
fn listen_ends_quietly_when_nobody_reads_any_more() {
    let alpha = Host::new("alpha", 1);
    let scene = Scene::new(&[&alpha]);
    let _alpha = scene.connect(alpha, &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = scene.desk.command(&["listen"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(exits(&output, 0), "");
}

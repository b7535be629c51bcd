//! Releases that several operators sign, each with a key of their own: `sign`, `cosign`, and
//! `publish --release`.

use std::{io::Write as _, process::Stdio};

use herald_proto::{
    codec, key::SecretKey, rejection::Rejection, release::Release, release_file::ReleaseFile,
    report::PhaseName, signing, topic::Subject, trust::Trust,
};

use crate::support::{
    Agent, Answer, Desk, HOME, Host, Scene, Scripted, answers, exits, json, path, stderr, stdout,
};

const SUCCEEDED: Answer = Answer::Phase(PhaseName::Succeeded, None);

/// A fleet of one host, `alpha`, whose releases two of alice, bob and carol sign. Bob's key is in
/// an ssh-agent.
struct Three {
    scene: Scene,
    agent: Agent,
    trust: String,
}

impl Three {
    fn new() -> Self {
        let alpha = Host::new("alpha", 1);
        let scene = Scene::new(&[&alpha]);
        let agent = Agent::start();
        let bob = agent.add("bob@laptop");
        let desk = &scene.desk;
        exits(&desk.herald("key generate carol --out carol.key"), 0);
        exits(&desk.herald("key generate conductor --out conductor.key"), 0);
        let public = |source: &str| {
            let output = desk.run(&["key", "public", source]);
            exits(&output, 0);
            stdout(&output).trim().to_owned()
        };
        let bob = public(&format!("{}.pub", bob.display())).replace("bob@laptop", "bob");
        let keys = [scene.operator.clone(), bob, public("carol.key")];
        let conductor = public("conductor.key");
        let trust = format!(
            "fleet = \"{HOME}\"\n[release]\nthreshold = 2\nkeys = {keys:?}\n\
             [rollout]\nthreshold = 1\nkeys = [{conductor:?}]\n"
        );
        desk.write("trust.toml", &trust);
        let three = Self { scene, agent, trust };
        three.fleet(&[&alpha]);
        three
    }

    fn fleet(&self, hosts: &[&Host]) {
        self.desk().fleet_with(&self.scene.broker.url(), hosts, "trust = \"trust.toml\"");
    }

    fn desk(&self) -> &Desk {
        &self.scene.desk
    }

    /// Runs the command with the agent at hand.
    fn run(&self, args: &str) -> std::process::Output {
        let args: Vec<_> = args.split_whitespace().collect();
        let mut command = self.desk().command(&args);
        command.env("SSH_AUTH_SOCK", self.agent.socket()).output().unwrap()
    }

    fn sign(&self, more: &str) -> std::process::Output {
        let new = path("new");
        self.run(&format!("sign --host alpha={new} --integrity toplevel --out r.release {more}"))
    }

    fn file(&self) -> ReleaseFile {
        ReleaseFile::read(&std::fs::read(self.desk().path("r.release")).unwrap()).unwrap()
    }

    fn connect(&self, answer: Answer) -> Scripted {
        let script = answers(&[&[answer]]);
        Scripted::start_trusting(Host::new("alpha", 1), &self.scene.broker, &self.trust, script)
    }

    /// What a host with the trust makes of the file's order.
    fn host_says(&self) -> Result<usize, Rejection> {
        let order = codec::encode(&self.file().orders().next().unwrap().1);
        let trust = Trust::from_toml(&self.trust).unwrap();
        signing::verify_any_order(&order, &trust).map(|order| order.signers().len())
    }
}

#[test]
fn two_of_three_sign_with_a_file_and_an_agent_and_the_host_takes_it() {
    let three = Three::new();
    let alpha = three.connect(SUCCEEDED);
    let signed = three.sign("--reason why");
    assert!(exits(&signed, 0).contains("signed by alice; 1 more of the 2 keys must sign"));
    let release = stdout(&signed).trim().to_owned();
    assert_eq!(three.host_says(), Err(Rejection::UnderSigned { valid: 1, threshold: 2 }));

    let refused = three.run("publish --release r.release");
    let said = exits(&refused, 1);
    assert!(said.contains("1 of the 2 keys") && said.contains("cosign"), "{said}");

    let cosigned = three.run("cosign r.release --key agent:bob --yes");
    let said = exits(&cosigned, 0);
    assert!(said.contains("signed by alice and bob: enough"), "{said}");
    let shown = stdout(&cosigned);
    for expected in [
        &release,
        "signed by   alice; 1 more",
        "reason      why",
        "alpha\n",
        "action      switch",
        &path("new"),
        &format!("runs now    {}", path("old")),
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(three.host_says(), Ok(2));

    let published = three.run("publish --release r.release --watch --json");
    exits(&published, 0);
    assert_eq!(json(&published)["release"], release);
    let order = alpha.order();
    assert_eq!(order.release.id.to_string(), release);
    assert_eq!(order.target.toplevel.to_string(), path("new"));
    // The same file again is the same release, and no conflict.
    exits(&three.run("publish --release r.release"), 0);
}

#[test]
fn a_key_signs_once_and_only_with_the_role() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    let before = std::fs::read(three.desk().path("r.release")).unwrap();
    let refused = |key: &str, expected: &str| {
        let said = exits(&three.run(&format!("cosign r.release --offline --yes {key}")), 1);
        assert!(said.contains(expected), "{said}");
        assert_eq!(std::fs::read(three.desk().path("r.release")).unwrap(), before);
    };
    refused("", "alice has signed r.release already");
    refused("--key conductor.key", "conductor is in [rollout] of the trust file");
    exits(&three.desk().herald("key generate mallory --out mallory.key"), 0);
    refused("--key mallory.key", "mallory is not in [release]");
    let said = exits(&three.run("cosign r.release --offline --key carol.key"), 1);
    assert!(said.contains("nobody is there to be asked") && said.contains("--yes"), "{said}");
    let unseen = three.run("cosign r.release --offline --json --key carol.key");
    assert!(exits(&unseen, 1).contains("--show"));
    exits(&three.sign("--key conductor.key"), 1);
}

#[test]
fn whoever_sits_at_a_terminal_is_asked_and_anything_but_yes_signs_nothing() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    let file = three.desk().path("r.release");
    let before = std::fs::read(&file).unwrap();
    // script (bsdutils) gives the command a terminal of its own.
    let answered = |answer: &str| {
        let cosign = "cosign r.release --offline --key carol.key";
        let line = format!("{} {cosign}", env!("CARGO_BIN_EXE_herald"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(three.desk().path(""));
        script.env("HOME", three.desk().path("home"));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = script.spawn().unwrap();
        process.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    };
    for answer in ["n\n", "\n", "no way\n"] {
        let output = answered(answer);
        assert_eq!(output.status.code(), Some(1));
        let said = stdout(&output);
        assert!(said.contains("Sign this as carol? [y/N]"), "{said}");
        assert!(said.contains("nothing was signed"), "{said}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    assert_eq!(answered("y\n").status.code(), Some(0));
    assert_eq!(three.host_says(), Ok(2));
}

#[test]
fn a_release_file_is_told_from_an_order() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    let said = exits(&three.run("verify r.release"), 1);
    assert!(said.contains("herald cosign r.release --show"), "{said}");
}

#[test]
fn the_rollout_role_s_signature_publishes_nothing_and_no_host_takes_it() {
    let three = Three::new();
    let signed = three.sign("--json");
    exits(&signed, 0);
    assert_eq!(
        (&json(&signed)["file"], &json(&signed)["missing"]),
        (&"r.release".into(), &1.into())
    );
    // What no honest program does: the conductor's signature is put beside alice's.
    let text = std::fs::read_to_string(three.desk().path("conductor.key")).unwrap();
    let conductor: SecretKey = text.parse().unwrap();
    let mut file = three.file();
    file.gathering_mut().sign(&conductor).unwrap();
    std::fs::write(three.desk().path("r.release"), file.to_bytes()).unwrap();
    assert_eq!(three.host_says(), Err(Rejection::UnderSigned { valid: 1, threshold: 2 }));
    let said = exits(&three.run("publish --release r.release"), 1);
    assert!(said.contains("1 of the 2 keys"), "{said}");
    let shown = three.run("cosign r.release --show --json --offline");
    exits(&shown, 0);
    let shown = json(&shown);
    assert_eq!(shown["signers"], serde_json::json!(["alice"]));
    assert_eq!((&shown["missing"], &shown["unknown_signatures"]), (&1.into(), &1.into()));
}

#[test]
fn a_file_that_was_changed_is_refused_before_anything_of_it_is_shown() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    let mut bytes = std::fs::read(three.desk().path("r.release")).unwrap();
    // The store path that alpha is to run, after it was signed.
    let at = bytes.windows(4).rposition(|window| window == b"-new").unwrap();
    bytes[at + 1] = b'o';
    std::fs::write(three.desk().path("r.release"), &bytes).unwrap();
    for command in ["cosign r.release --show", "publish --release r.release"] {
        let output = three.run(command);
        let said = exits(&output, 1);
        assert!(said.contains("somebody has changed the file"), "{said}");
        assert_eq!(stdout(&output), "");
    }
    three.desk().write("r.release", "no release");
    assert!(exits(&three.run("cosign r.release"), 1).contains("r.release can't be used"));
}

#[test]
fn a_release_that_has_expired_or_is_another_fleet_s_is_neither_signed_nor_sent() {
    let three = Three::new();
    exits(&three.sign("--valid-for 1ms"), 0);
    let said = exits(&three.run("cosign r.release --offline --yes --key carol.key"), 1);
    assert!(said.contains("expired at"), "{said}");
    // Both keys at once, so that nothing is missing but time.
    std::fs::remove_file(three.desk().path("r.release")).unwrap();
    exits(&three.sign("--valid-for 1ms --key carol.key --key agent:bob"), 0);
    assert!(exits(&three.run("publish --release r.release"), 1).contains("expired at"));

    std::fs::remove_file(three.desk().path("r.release")).unwrap();
    exits(&three.sign("--key carol.key --key agent:"), 0);
    three.desk().write("trust.toml", &three.trust.replace("\"home\"", "\"away\""));
    let text = std::fs::read_to_string(three.desk().path("fleet.toml")).unwrap();
    three.desk().write("fleet.toml", &text.replace("\"home\"", "\"away\""));
    for command in ["publish --release r.release", "cosign r.release --offline --yes"] {
        let said = exits(&three.run(command), 1);
        assert!(said.contains("for the fleet home; this is away"), "{said}");
    }
}

#[test]
fn a_release_that_was_overtaken_while_it_was_signed_is_not_sent() {
    let three = Three::new();
    let alpha = three.connect(SUCCEEDED);
    exits(&three.sign(""), 0);
    let new = path("newer");
    let keys = "--key carol.key --key agent:bob";
    exits(&three.run(&format!("publish --host alpha={new} --integrity toplevel {keys}")), 0);
    assert_eq!(alpha.order().target.toplevel.to_string(), new);
    exits(&three.run("cosign r.release --yes --key carol.key"), 0);
    let said = exits(&three.run("publish --release r.release"), 1);
    assert!(said.contains("was published since this one"), "{said}");
}

#[test]
fn copies_that_were_signed_side_by_side_become_one() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    std::fs::copy(three.desk().path("r.release"), three.desk().path("copy.release")).unwrap();
    exits(&three.run("cosign r.release --offline --yes --key agent:bob@laptop"), 0);
    exits(&three.run("cosign copy.release --offline --yes --key carol.key"), 0);
    let merged = three.run("cosign r.release copy.release --merge --offline --out all.release");
    exits(&merged, 0);
    let shown = three.run("cosign all.release --show --offline");
    assert!(
        stdout(&shown).contains("signed by   alice and bob and carol: enough")
            || stdout(&shown).contains(": enough (the trust file asks for 2)")
    );
    let bytes = std::fs::read(three.desk().path("all.release")).unwrap();
    assert_eq!(ReleaseFile::read(&bytes).unwrap().gathering().key_ids().len(), 3);
    let other = path("other");
    let more = format!("sign --host alpha={other} --integrity toplevel --out other.release");
    exits(&three.run(&more), 0);
    let said = exits(&three.run("cosign r.release other.release --merge --offline"), 1);
    assert!(said.contains("different releases"), "{said}");
}

#[test]
fn what_is_signed_is_never_overwritten_and_options_that_change_nothing_are_refused() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    assert!(exits(&three.sign(""), 1).contains("never overwritten"));
    for more in ["--reason x", "--action boot", "--valid-for 1d", "--host alpha=/x", "--dry-run"] {
        let output = three.run(&format!("publish --release r.release {more}"));
        assert_eq!(output.status.code(), Some(2), "{more}: {}", stderr(&output));
    }
    let said = exits(&three.run("publish --release r.release --key carol.key"), 1);
    assert!(said.contains("cosign"), "{said}");
}

#[test]
fn to_sign_one_need_not_reach_the_broker_and_need_not_have_the_closures() {
    let three = Three::new();
    exits(&three.sign(""), 0);
    three.desk().fleet_with(
        "mqtt://127.0.0.1:9",
        &[&Host::new("alpha", 1)],
        "trust = \"trust.toml\"",
    );
    let output = three.run("cosign r.release --yes --key carol.key --connect-timeout 100ms");
    let said = exits(&output, 0);
    assert!(said.contains("what hosts run now is not known"), "{said}");
    assert!(stdout(&output).contains("runs now    not known"));
}

#[test]
fn each_profile_of_a_host_is_shown_with_what_runs_there() {
    let three = Three::new();
    let mut alpha = Host::new("alpha", 1);
    exits(&three.sign(""), 0);
    let signed = three.file();
    let mut home = signed.targets()[0].clone();
    home.profile = "home".parse().unwrap();
    let targets = vec![signed.targets()[0].clone(), home.clone()];
    let mut file = ReleaseFile::unsigned(targets, |root, count| Release {
        targets_root: root,
        targets_count: count,
        ..signed.release().clone()
    });
    // Whoever signed it does not matter to be shown what is in it.
    file.gathering_mut().sign(&alpha.key).unwrap();
    std::fs::write(three.desk().path("both.release"), file.to_bytes()).unwrap();
    for (profile, runs) in [("system", "old"), ("home", "older-home")] {
        alpha.report.profile = profile.parse().unwrap();
        alpha.report.systems.running = Some(path(runs).parse().unwrap());
        let report = signing::sign_as_host(&alpha.report, &HOME.parse().unwrap(), &alpha.key);
        let subject = Subject::Status(alpha.name.clone(), alpha.report.profile.clone());
        three.scene.broker.publish(subject, report);
    }
    let shown = three.run("cosign both.release --show --json");
    exits(&shown, 0);
    let targets = &json(&shown)["targets"];
    for (at, profile, runs) in [(0, "system", "old"), (1, "home", "older-home")] {
        assert_eq!(
            (&targets[at]["profile"], &targets[at]["running"]),
            (&profile.into(), &path(runs).into())
        );
    }
    let text = stdout(&three.run("cosign both.release --show"));
    for runs in ["old", "older-home"] {
        assert!(text.contains(&format!("runs now    {}\n", path(runs))), "{text}");
    }
}

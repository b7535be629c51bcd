//! The pipelines of `examples/ci`: their steps are run as a runner would, for a real fleet.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use herald_tests::{Fleet, Guarded, binary, wait_for};
use serde_json::Value;

/// A pipeline of the examples.
#[derive(Debug, Clone, Copy)]
struct Pipeline {
    kind: &'static str,
    file: &'static str,
    schema: &'static str,
}

const GITLAB: Pipeline =
    Pipeline { kind: "gitlab", file: "gitlab-ci.yml", schema: "vendor.gitlab-ci" };
const GITHUB: Pipeline =
    Pipeline { kind: "github", file: "github-workflow.yml", schema: "vendor.github-workflows" };

impl Pipeline {
    fn path(self) -> PathBuf {
        root().join("examples/ci").join(self.file)
    }

    /// Gives the scripts of a job.
    fn steps(self, job: &str) -> Vec<Value> {
        let program = root().join("tests/pipelines/steps.py");
        let output = python(&[&text(&program), self.kind, &text(&self.path()), job]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A fleet that wants two signatures, at a broker that wants logins; and the repository of its systems.
struct Project {
    fleet: Fleet,
    _broker: Guarded,
    /// What the project has as secret variables, and what a runner sets.
    given: BTreeMap<&'static str, String>,
}

impl Project {
    fn new() -> Self {
        let mut fleet = Fleet::without_hosts();
        let make = |name: &str| {
            let file = fleet.path(&format!("{name}.key"));
            let made = fleet.herald(&["key", "generate", name, "--out", &file]);
            assert_eq!(made.code, Some(0), "{made:?}");
            (made.stdout.trim().to_owned(), fs::read_to_string(file).unwrap().trim().to_owned())
        };
        let (release, release_key) = make("ci");
        let (login, login_key) = make("ci-login");
        let (alice, _) = make("alice");
        fleet.write_trust(2, &[&release, &alice]);
        fleet.add_host("alpha");
        fleet.add_host("beta");
        let mut logins = "fleet = \"test\"\n[hosts]\n".to_owned();
        for host in ["alpha", "beta"] {
            logins += &format!("{host} = [{:?}]\n", fleet.public_key(host, &[]));
        }
        logins += &format!("[operators]\nci-login = [{login:?}]\n");
        let broker = Guarded::start(&mut fleet, &logins);
        for host in ["alpha", "beta"] {
            broker.point_here(&fleet.host(host).config_file());
            fleet.spawn_subscriber(host);
        }
        broker.point_here(fleet.path("fleet.toml").as_ref());
        let given = BTreeMap::from([
            ("RELEASE_KEY", release_key),
            ("LOGIN_KEY", login_key),
            ("CACHE_KEY", fs::read_to_string(fleet.path("cache.key")).unwrap()),
            ("AWS_ACCESS_KEY_ID", String::new()),
            ("AWS_SECRET_ACCESS_KEY", String::new()),
            ("REASON", "a new kernel\n\nand why".to_owned()),
            ("CI_COMMIT_TITLE", "a new kernel".to_owned()),
            ("CI_COMMIT_SHA", "0123abc".to_owned()),
            ("GITHUB_SHA", "0123abc".to_owned()),
            // In place of what the pipeline says: this fleet's cache, and less patience.
            ("CACHE", format!("file://{}?compression=none", fleet.path("cache"))),
            ("LIMITS", "--stable-for 0s --confirm-within 10s".to_owned()),
        ]);
        let project = Self { fleet, _broker: broker, given };
        project.wait_for_hosts();
        project
    }

    fn wait_for_hosts(&self) {
        let login = self.fleet.path("ci-login.key");
        wait_for("both hosts to say that they are there", || {
            let status = self.fleet.herald(&["--login-key", &login, "status", "--json"]);
            (status.stdout.matches("\"online\"").count() == 2).then_some(())
        });
    }

    fn repository(&self) -> PathBuf {
        self.fleet.path("repository").into()
    }

    /// Commits the systems, with what activating the one of beta leads to.
    fn commit(&self, beta: &str) {
        let repository = self.repository();
        fs::create_dir_all(&repository).unwrap();
        let flake = fs::read_to_string(root().join("tests/pipelines/flake.nix")).unwrap();
        let flake = flake
            .replace("@system@", &format!("{}-linux", env::consts::ARCH))
            .replace("@path@", &env::var("PATH").unwrap())
            .replace("@hosts@", &self.fleet.path("hosts"))
            .replace("@beta@", beta);
        fs::write(repository.join("flake.nix"), flake).unwrap();
        for name in ["system.nix", "switch-to-configuration.sh"] {
            fs::copy(root().join("examples/quickstart").join(name), repository.join(name)).unwrap();
        }
        fs::copy(self.fleet.path("trust.toml"), repository.join("trust.toml")).unwrap();
        let file = fs::read_to_string(self.fleet.path("fleet.toml")).unwrap();
        fs::write(repository.join("fleet.toml"), format!("trust = \"trust.toml\"\n{file}"))
            .unwrap();
        self.git(&["init", "--quiet", "."]);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "systems"]);
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@example.org"]);
        command.current_dir(self.repository()).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs a job up to the first step that fails, and gives that or the last one.
    fn run(&self, pipeline: Pipeline, job: &str) -> Output {
        let mut last = None;
        for step in pipeline.steps(job) {
            let output = self.step(&step);
            let failed = !output.status.success();
            last = Some(output);
            if failed {
                break;
            }
        }
        last.expect("the job has steps")
    }

    fn step(&self, step: &Value) -> Output {
        let herald = binary("herald");
        let mut command = Command::new("bash");
        command.args(["-eo", "pipefail", "-c", step["script"].as_str().unwrap()]);
        // The operator's Nix, which is the machine's own otherwise.
        let nix = self.fleet.herald_command(&[]);
        command.env_clear().envs(nix.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let path = format!("{}:{}", text(herald.parent().unwrap()), env::var("PATH").unwrap());
        command.current_dir(self.repository()).env("PATH", path);
        for (name, value) in step["environment"].as_object().unwrap() {
            let value = value.as_str().unwrap().to_owned();
            command.env(name, self.given.get(name.as_str()).unwrap_or(&value));
        }
        let asked = step["asked"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        // GitLab has its variables everywhere.
        let given = self.given.iter().filter(|_| step["asked"] == Value::Array(vec![]));
        for (name, value) in given.map(|(name, value)| (*name, value)) {
            command.env(name, value);
        }
        for name in asked {
            command.env(name, self.given.get(name).expect("a secret that the README names"));
        }
        command.output().unwrap()
    }

    /// Adds alice's signature, as the README shows it, and what goes onto the branch `deploy/…`.
    fn cosign(&self) {
        let (login, key) = (self.fleet.path("ci-login.key"), self.fleet.path("alice.key"));
        let file = text(&self.repository().join("deploy.release"));
        let fleet = text(&self.repository().join("fleet.toml"));
        let mut command = Command::new(binary("herald"));
        command.args(["--fleet-file", &fleet, "--login-key", &login, "cosign", &file]);
        let signed = command.args(["--key", &key, "--yes"]).output().unwrap();
        assert!(signed.status.success(), "{signed:?}");
        self.git(&["add", "deploy.release"]);
        self.git(&["commit", "--quiet", "--message", "deploy"]);
    }

    fn assert_ended(&self, host: &str, phase: &str) {
        let text = fs::read_to_string(self.repository().join("result.json")).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        let hosts = result["hosts"].as_array().unwrap();
        let ended = hosts.iter().find(|one| one["host"] == host).unwrap();
        assert!(ended.to_string().contains(phase), "{host}: {result}");
    }
}

#[test]
fn the_gitlab_pipeline_deploys_what_ci_and_a_person_have_signed_and_nothing_before() {
    let project = Project::new();
    project.commit("good");
    let signed = project.run(GITLAB, "sign");
    assert!(signed.status.success(), "{signed:?}");
    let shown = String::from_utf8_lossy(&signed.stdout);
    assert!(shown.contains("a new kernel") && shown.contains("0123abc"), "{shown}");

    let early = project.run(GITLAB, "publish");
    assert_eq!(early.status.code(), Some(1), "{early:?}");
    let said = String::from_utf8_lossy(&early.stderr);
    assert!(said.contains("cosign"), "{said}");

    project.cosign();
    let published = project.run(GITLAB, "publish");
    assert_eq!(published.status.code(), Some(0), "{published:?}");
    for host in ["alpha", "beta"] {
        project.assert_ended(host, "succeeded");
        let built = fs::read_link(project.repository().join(format!("result-{host}"))).unwrap();
        project.fleet.host(host).assert_settled_on(&text(&built));
    }
}

#[test]
fn the_github_workflow_fails_with_the_code_of_a_host_that_rolled_back() {
    let project = Project::new();
    project.commit("fails");
    let signed = project.run(GITHUB, "sign");
    assert!(signed.status.success(), "{signed:?}");
    project.cosign();
    let published = project.run(GITHUB, "publish");
    assert_eq!(published.status.code(), Some(3), "{published:?}");
    project.assert_ended("alpha", "succeeded");
    project.assert_ended("beta", "rolled-back");
}

#[test]
fn a_host_that_is_away_is_a_warning_on_github_and_one_that_failed_an_error() {
    let steps = GITHUB.steps("publish");
    let script = steps.last().unwrap()["script"].as_str().unwrap();
    for (ended, code, warns) in [(0, 0, false), (3, 3, false), (4, 4, false), (5, 0, true)] {
        let folder = tempfile::tempdir().unwrap();
        let ends = format!("herald() {{ return {ended}; }}\n{script}");
        let mut command = Command::new("bash");
        let output = command.args(["-e", "-c", &ends]).current_dir(&folder).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{ended}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).contains("::warning::"), warns);
    }
}

#[test]
fn the_pipelines_are_what_gitlab_and_github_take() {
    for pipeline in [GITLAB, GITHUB] {
        let file = text(&pipeline.path());
        let checked =
            python(&["-m", "check_jsonschema", "--builtin-schema", pipeline.schema, &file]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

/// Runs Python with the packages of the interoperability tests.
fn python(arguments: &[&str]) -> Output {
    let mut command = Command::new(root().join("tests/interop/run"));
    command.arg("python").args(arguments).output().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().expect("the paths of tests are text").to_owned()
}

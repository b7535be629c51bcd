//! The page of settings: each that a file may have, and none that it may not; defaults are tried, and
//! what is required is left out.

use std::{collections::BTreeSet, fs, path::Path};

use herald_broker::{config::Config as Broker, logins::Logins};
use herald_fleet::fleet::Fleet;
use herald_proto::trust::Trust;
use herald_subscriber::config::Config as Subscriber;

use super::page;

const KEY: &str = "k:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const HOST: &str = "fleet = 'a'\nhost = 'b'\nbroker = 'mqtts://c'\ntrust = '/t'\n";
const OPERATOR: &str = "fleet = 'a'\nbroker = 'mqtts://c'\n";
const SIGNERS: &str = "fleet = 'a'\n";

/// A section of the page, and the least that a file with these settings has: before the section, and in
/// it.
struct Section {
    heading: &'static str,
    read: fn(&str) -> Result<String, String>,
    before: String,
    own: String,
}

#[test]
fn every_setting_is_in_the_reference_with_its_default() {
    let text = page::read("settings.md");
    let sections = sections();
    let headings: BTreeSet<_> = sections.iter().map(|section| section.heading).collect();
    let rows = page::rows(&text);
    let rows = rows.iter().filter(|(_, cells)| cells.len() == 4);
    for (heading, cells) in rows.clone() {
        assert!(headings.contains(&**heading), "nothing looks at {heading}: {cells:?}");
    }
    let mut defaults = 0;
    for section in &sections {
        assert!(text.contains(&format!("# {}\n", section.heading)), "{}", section.heading);
        let rows = rows.clone().filter(|(heading, _)| heading == section.heading);
        let rows: Vec<_> = rows.map(|(_, cells)| (code(&cells[0]), &*cells[2])).collect();
        let written: BTreeSet<_> = rows.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(written, section.known(), "settings of {}", section.heading);
        for (name, default) in rows {
            if default == "required" {
                section.check_required(name);
            } else if default.starts_with('`') && default.ends_with('`') && is_value(code(default))
            {
                section.check_default(name, code(default));
                defaults += 1;
            }
        }
    }
    assert!(defaults > 20, "only {defaults} defaults were tried");
}

impl Section {
    fn read(&self, own: &str) -> Result<String, String> {
        (self.read)(&format!("{}{own}", self.before))
    }

    /// Gives the names that the program knows here: it lists them where it is given another one.
    fn known(&self) -> BTreeSet<String> {
        let refused = self.read(&format!("zzz = 1\n{}", self.own)).unwrap_err();
        let (_, said) = refused
            .split_once("unknown field `zzz`, ")
            .unwrap_or_else(|| panic!("{}: {refused}", self.heading));
        let said = said.lines().next().unwrap();
        let names = said.split('`').skip(1).step_by(2).map(str::to_owned);
        assert!(said.starts_with("expected ") || said == "there are no fields", "{said}");
        names.collect()
    }

    fn check_default(&self, name: &str, default: &str) {
        let without = self.read(&self.own).unwrap();
        let with = self.read(&format!("{name} = {default}\n{}", self.own));
        assert_eq!(with.as_ref(), Ok(&without), "{}: {name} = {default}", self.heading);
    }

    fn check_required(&self, name: &str) {
        let lines = self.own.lines().filter(|line| !line.starts_with(&format!("{name} ")));
        let without: String = lines.map(|line| format!("{line}\n")).collect();
        let section = format!("[{name}]\n");
        let without = match without.split_once(&section) {
            Some((before, _)) => before,
            None => &without,
        };
        assert_ne!(without, self.own, "{}: {name} is not in the least file", self.heading);
        let refused = self.read(without).unwrap_err();
        assert!(refused.contains(&format!("missing field `{name}`")), "{name}: {refused}");
    }
}

fn sections() -> Vec<Section> {
    let section = |heading, read, before: &str, own: &str| Section {
        heading,
        read,
        before: before.to_owned(),
        own: own.to_owned(),
    };
    let role = format!("threshold = 1\nkeys = [{KEY:?}]\n");
    let release = format!("[release]\n{role}");
    let signed = format!("{SIGNERS}{release}[rollout]\nthreshold = 1\nkeys = [{:?}]\n", other());
    let password = "kind = 'password'\nfile = '/f'\n";
    let user = format!("{password}user = 'u'\n");
    let links = "profile = '/p'\ncurrent = '/c'\nbooted = '/b'\n";
    let in_host = |name| format!("{HOST}[{name}]\n");
    let in_fleet = |name| format!("{OPERATOR}[{name}]\n");
    let token = format!("key = {KEY:?}\nexpires_at = '2026-12-24T18:00:00Z'\n");
    vec![
        section("Subscriber", subscriber, "", HOST),
        section(
            "Subscriber: login none",
            subscriber,
            &format!("{}kind = 'none'\n", in_host("login")),
            "",
        ),
        section(
            "Subscriber: login signed",
            subscriber,
            &format!("{}kind = 'signed'\n", in_host("login")),
            "",
        ),
        section("Subscriber: login password", subscriber, &in_host("login"), password),
        section("Subscriber: tls", subscriber, &in_host("tls"), ""),
        section("Subscriber: enrol", subscriber, &in_host("enrol"), "token = '/t'\n"),
        section(
            "Subscriber: window",
            subscriber,
            &in_host("window"),
            "opens = ['Sat']\nlasts = '1h'\n",
        ),
        section("Subscriber: consent", subscriber, &in_host("consent"), "deadline = '1h'\n"),
        section("Subscriber: reboot", subscriber, &in_host("reboot"), ""),
        section("Subscriber: room", subscriber, &in_host("room"), ""),
        section("Subscriber: retention", subscriber, &in_host("retention"), ""),
        section("Subscriber: profile", subscriber, &in_host("profiles.p"), links),
        section("Health check", health, "", "check = { unit = 'a.service' }\n"),
        section("Broker", broker, "", ""),
        section(
            "Broker: listener",
            broker,
            "[[listener]]\n",
            "address = '127.0.0.1:1'\ntransport = 'tcp'\n",
        ),
        section("Logins", logins, "", SIGNERS),
        section("Trust", trust, "", &format!("{SIGNERS}{release}")),
        section("Trust: role", trust, &format!("{SIGNERS}[release]\n"), &role),
        section("Trust: freshness", trust, &format!("{signed}[freshness]\n"), "interval = '5m'\n"),
        section("Fleet", fleet, "", OPERATOR),
        section("Fleet: login none", fleet, &format!("{}kind = 'none'\n", in_fleet("login")), ""),
        section(
            "Fleet: login signed",
            fleet,
            &format!("{}kind = 'signed'\n", in_fleet("login")),
            "",
        ),
        section("Fleet: login password", fleet, &in_fleet("login"), &user),
        section("Fleet: tls", fleet, &in_fleet("tls"), ""),
        section("Fleet: host", fleet, &in_fleet("hosts.b"), &format!("key = {KEY:?}\n")),
        section("Fleet: token", fleet, &in_fleet("tokens.b"), &token),
    ]
}

fn subscriber(text: &str) -> Result<String, String> {
    in_a_file(text, |path| Subscriber::parse(path).map(shown).map_err(|error| chain(&error)))
}

fn broker(text: &str) -> Result<String, String> {
    in_a_file(text, |path| Broker::load(Some(path)).map(shown).map_err(|error| error.to_string()))
}

fn logins(text: &str) -> Result<String, String> {
    // Where the file is, is part of what is read.
    in_a_file(text, |path| {
        let read = Logins::load(&[path.to_owned()]).map(shown);
        let place = path.display().to_string();
        read.map(|shown| shown.replace(&place, "")).map_err(|error| error.to_string())
    })
}

fn health(text: &str) -> Result<String, String> {
    in_a_file(text, |path| {
        let folder = path.parent().unwrap();
        let read =
            herald_subscriber::adapters::health_folder::read(&herald_subscriber::os::Linux, folder);
        let read = read.map_err(|error| chain(&error))?.remove(0);
        read.map(shown).map_err(|error| chain(&error))
    })
}

fn trust(text: &str) -> Result<String, String> {
    Trust::from_toml(text).map(shown).map_err(|error| error.to_string())
}

fn fleet(text: &str) -> Result<String, String> {
    Fleet::from_toml(text).map(shown).map_err(|error| error.to_string())
}

fn in_a_file(
    text: &str,
    read: impl FnOnce(&Path) -> Result<String, String>,
) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.toml");
    fs::write(&path, text).unwrap();
    read(&path)
}

fn shown(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{error}{causes}")
}

/// Gives another key than [`KEY`].
fn other() -> String {
    let name = "o".parse().unwrap();
    herald_proto::key::SecretKey::from_seed(name, &[7; 32]).unwrap().public().to_string()
}

/// Takes the marks of code away.
fn code(text: &str) -> &str {
    text.trim_matches('`')
}

/// Tells whether a default is a value as TOML has it, and no other setting.
fn is_value(text: &str) -> bool {
    text.starts_with(|c: char| "\"[{".contains(c) || c.is_ascii_digit())
        || ["true", "false"].contains(&text)
}

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use herald_proto::key::SecretKey;

use super::*;

fn key(name: &str, n: u16) -> String {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(name.parse().unwrap(), &seed).unwrap().public().to_string()
}

fn parse(text: &str) -> Result<Logins, Error> {
    let mut logins = Logins::default();
    logins.add(Path::new("home.toml"), text).map(|()| logins)
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn find(logins: &Logins, name: &str) -> Option<Login> {
    logins.find(&name.parse().unwrap())
}

#[test]
fn logins_are_found_with_their_part_and_keys() {
    let (web, old, alice) = (key("web-1", 1), key("old", 2), key("alice-login", 3));
    let logins = parse(&format!(
        "fleet = \"home\"\n[hosts]\nweb-1 = [{web:?}, {old:?}]\nkiosk = []\n\
         [operators]\nalice = [{alice:?}]\n[rollouts]\nconductor = []\n[monitors]\ngrafana = []\n"
    ))
    .unwrap();
    let fleet: FleetId = "home".parse().unwrap();
    let host = find(&logins, "home/web-1").unwrap();
    let expected = Principal::Host { fleet: fleet.clone(), host: "web-1".parse().unwrap() };
    assert_eq!(host.principal, expected);
    assert_eq!(host.keys.iter().map(ToString::to_string).collect::<Vec<_>>(), [web, old]);
    assert_eq!(find(&logins, "home/kiosk").unwrap().keys, []);
    for (name, role) in
        [("alice", Role::Operator), ("conductor", Role::Rollout), ("grafana", Role::Monitor)]
    {
        let found = find(&logins, &format!("home/{name}")).unwrap();
        let expected = Principal::Member { fleet: fleet.clone(), name: name.into(), role };
        assert_eq!(found.principal, expected);
        assert_eq!(found.principal.to_string(), format!("home/{name}"));
    }
    for stranger in ["home/bob", "work/web-1", "home/web-10"] {
        assert_eq!(find(&logins, stranger), None);
    }
    assert_eq!(logins.fleets().collect::<Vec<_>>(), [(&fleet, 5)]);
}

#[test]
fn a_name_in_two_sections_is_refused_with_both_places() {
    let refusal = refusal(
        "fleet = \"home\"\n[monitors]\nweb-1 = []\n\n[hosts]\nb = []\nweb-1 = []\n[operators]\n",
    );
    assert!(refusal.contains("home.toml") && refusal.contains("web-1 is there twice"), "{refusal}");
    assert!(refusal.contains("[hosts] on line 7"), "{refusal}");
    assert!(refusal.contains("[monitors] on line 3"), "{refusal}");
}

#[test]
fn a_key_of_two_logins_is_refused_whatever_its_name_and_may_stand_in_two_fleets() {
    let (one, renamed) = (key("one", 1), key("two", 1));
    let hosts = format!("fleet = \"home\"\n[hosts]\na = [{one:?}]\n");
    let refusal = refusal(&format!("{hosts}[operators]\nalice = [{renamed:?}]"));
    assert!(refusal.contains("a and alice have the same key, two"), "{refusal}");
    let twice = format!("fleet = \"home\"\n[hosts]\na = [{one:?}, {renamed:?}]");
    assert!(matches!(parse(&twice), Err(Error::SameKey { .. })));
    let mut logins = parse(&hosts).unwrap();
    logins.add(Path::new("work.toml"), &hosts.replace("home", "work")).unwrap();
}

#[test]
fn every_refusal_names_the_file_the_line_and_the_reason() {
    let weak = "x:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (line, expected) in [
        ("hots = []", "unknown field `hots`"),
        ("[guests]", "unknown field `guests`"),
        ("[hosts]\nWeb = []", "\"Web\" is not a valid host name"),
        ("[hosts]\na_b = []", "\"a_b\" is not a valid host name"),
        ("[operators]\n\"a/b\" = []", "\"a/b\" is not a valid host name"),
        ("[operators]\n\"\" = []", "\"\" is not a valid host name"),
        ("[hosts]\na = []\na = []", "duplicate key"),
        ("[hosts]\na = [\"x\"]", "a key is written name:base64"),
        ("[hosts]\na = [\"x:AAAA\"]", "not base64 of 32 bytes"),
        (&format!("[hosts]\na = [{weak:?}]"), "weak"),
        ("[hosts]\na = 1", "expected a list of public keys"),
        ("[hosts]\na = \"a:AAAA\"", "keys are a list"),
        ("[hosts]\na = [1]", "invalid type: integer"),
        ("[hosts]\na.b = []", "expected a list of public keys"),
        ("[hosts", "unclosed table"),
    ] {
        let refusal = refusal(&format!("fleet = \"home\"\n# a comment\n{line}\n"));
        let last = 2 + line.lines().count();
        assert!(refusal.contains(&format!("home.toml, line {last}: ")), "{line}: {refusal}");
        assert!(refusal.contains(expected), "{line}: {refusal}");
    }
    assert!(refusal("[hosts]\na = []").contains("missing field `fleet`"));
    assert!(refusal("fleet = \"Home\"").contains("line 1: \"Home\" is not a valid fleet name"));
}

#[test]
fn a_secret_key_in_the_file_is_refused_and_not_repeated() {
    let secret = SecretKey::from_seed("a".parse().unwrap(), &[7; 32]).unwrap().to_secret_text();
    for list in [format!("[{:?}]", secret.as_str()), format!("{:?}", secret.as_str())] {
        let error = parse(&format!("fleet = \"home\"\n[hosts]\na = {list}")).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("line 3") || shown.contains("line: 3"), "{shown}");
        assert!(!shown.contains(&secret[2..12]), "{shown}");
    }
}

#[test]
fn a_login_with_more_keys_than_it_needs_is_refused() {
    let keys = |count| (0..count).map(|n| key("k", n)).collect::<Vec<_>>();
    assert!(parse(&format!("fleet = \"home\"\n[hosts]\na = {:?}", keys(8))).is_ok());
    let refusal = refusal(&format!("fleet = \"home\"\n[hosts]\na = {:?}", keys(9)));
    assert!(refusal.contains("line 3: a has 9 keys: at most 8"), "{refusal}");
}

#[test]
fn each_file_is_one_fleet_and_each_fleet_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let home = file("home.toml", "fleet = \"home\"\n[hosts]\na = []");
    let work = file("work.toml", "fleet = \"work\"\n[monitors]\na = []");
    let logins = Logins::load(&[&home, &work]).unwrap();
    assert!(matches!(find(&logins, "home/a").unwrap().principal, Principal::Host { .. }));
    assert!(matches!(find(&logins, "work/a").unwrap().principal, Principal::Member { .. }));

    let again = file("again.toml", "fleet = \"home\"");
    let error = Logins::load(&[&home, &again]).unwrap_err().to_string();
    assert!(error.contains("home.toml") && error.contains("again.toml"), "{error}");

    let error = Logins::load(&[folder.path().join("none.toml")]).unwrap_err().to_string();
    assert!(error.contains("none.toml"), "{error}");
    assert!(Logins::load::<&Path>(&[]).unwrap().fleets().next().is_none());
}

#[test]
fn a_file_that_anybody_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home.toml");
    std::fs::write(&path, "fleet = \"home\"").unwrap();
    for (mode, refused) in [(0o400, false), (0o444, false), (0o664, false), (0o646, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Logins::load(&[&path]);
        assert_eq!(matches!(loaded, Err(Error::Writable { .. })), refused, "{mode:o}");
    }
}

#[test]
fn ten_thousand_hosts_are_read_at_once() {
    let lines: Vec<_> = (0..10_000).map(|n| format!("web-{n} = [{:?}]", key("host", n))).collect();
    let text = format!("fleet = \"home\"\n[hosts]\n{}\n", lines.join("\n"));
    let started = Instant::now();
    let logins = parse(&text).unwrap();
    eprintln!("{} bytes in {:?}", text.len(), started.elapsed());
    assert_eq!(logins.fleets().next().unwrap().1, 10_000);
    assert_eq!(find(&logins, "home/web-9999").unwrap().keys.len(), 1);
}

/// A trust file whose releases one or more of two keys sign.
fn trust(fleet: &str, threshold: usize) -> String {
    let keys = [key("alice", 1), key("bob", 2)];
    format!("fleet = {fleet:?}\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n")
}

#[test]
fn the_trust_of_a_fleet_is_read_from_the_folder_of_its_logins() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("new.toml", &trust("home", 2));
    write("old.toml", &trust("home", 1));
    write("work.toml", "fleet = \"work\"");
    let home = "fleet = \"home\"\ntrust = \"new.toml\"\nolder_trusts = [\"old.toml\"]\n";
    write("home.toml", &format!("{home}[hosts]\na = [{:?}]", key("a", 9)));
    let logins = Logins::load(&["home.toml", "work.toml"].map(|name| folder.path().join(name)));
    let logins = logins.unwrap();
    let [(fleet, signers)] = logins.all_signers().collect::<Vec<_>>()[..] else {
        panic!("{logins:?}")
    };
    assert_eq!(fleet.as_str(), "home");
    assert_eq!(signers.current.release().threshold(), 2);
    assert_eq!(signers.older.iter().map(|old| old.release().threshold()).collect::<Vec<_>>(), [1]);
    assert!(logins.signers(&"work".parse().unwrap()).is_none());
}

#[test]
fn every_refusal_of_a_trust_file_names_both_files_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.toml");
    let home = folder.path().join("home.toml");
    let refused = |logins: &str, trust: Option<&str>, mode| {
        match trust {
            Some(text) => {
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            None => std::fs::remove_file(&path).unwrap_or_default(),
        }
        std::fs::write(&home, format!("fleet = \"home\"\n{logins}")).unwrap();
        Logins::load(&[&home]).unwrap_err().to_string()
    };
    let (named, good) = ("trust = \"trust.toml\"", trust("home", 1));
    let older = "trust = \"trust.toml\"\nolder_trusts = [\"none.toml\"]";
    for (logins, text, mode, file, reason) in [
        (named, None, 0o644, "trust.toml", "No such file"),
        (named, Some(good.as_str()), 0o646, "trust.toml", "anybody can write it (mode 646)"),
        (named, Some("fleet = 1"), 0o644, "trust.toml", "fleet"),
        (named, Some(&trust("home", 3)), 0o644, "trust.toml", "threshold is 3"),
        (named, Some(&trust("work", 1)), 0o644, "trust.toml", "for the fleet work"),
        (older, Some(&good), 0o644, "none.toml", "No such file"),
        ("older_trusts = [\"trust.toml\"]", Some(&good), 0o644, "trust.toml", "no `trust`"),
        ("trust = 7", Some(&good), 0o644, "line 2", "invalid type"),
    ] {
        let refusal = refused(logins, text, mode);
        assert!(refusal.contains("home.toml") && refusal.contains(file), "{refusal}");
        assert!(refusal.contains(reason), "{reason}: {refusal}");
    }
}

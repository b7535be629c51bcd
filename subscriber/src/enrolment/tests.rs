use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

struct Host {
    folder: TempDir,
    config: Config,
}

fn host() -> Host {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let token = folder.path().join("token");
    let text = format!(
        "fleet = \"home\"\nhost = \"web-1\"\nbroker = \"mqtt://127.0.0.1\"\ntrust = \"/t\"\n\
         state_dir = {state:?}\nenrol.token = {token:?}\n"
    );
    Host { config: toml::from_str(&text).unwrap(), folder }
}

impl Host {
    fn give_token(&self, seed: u8) {
        let token = SecretKey::from_seed("web-1".parse().unwrap(), &[seed; 32]).unwrap();
        let path = self.folder.path().join("token");
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("{}\n", *token.to_secret_text())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
    }

    fn open(&self) -> Option<Enrolment> {
        Enrolment::open(&self.config).unwrap()
    }

    fn own_key(&self) -> KeyId {
        identity::host_key(&self.config.state_dir, &self.config.host).unwrap().public().id()
    }
}

#[test]
fn a_new_host_asks_with_its_first_key_until_that_is_known() {
    let host = host();
    assert!(host.open().is_none(), "there is no token");
    host.give_token(1);
    for _ in 0..3 {
        let asks = host.open().expect("it has a token");
        assert_eq!((asks.which, asks.key().public().id()), (Which::Own, host.own_key()));
    }
    assert_eq!(host.open().unwrap().finish().unwrap(), Which::Own);
    assert!(host.open().is_none(), "a token is used once");
}

#[test]
fn another_token_brings_another_key_which_takes_the_place_of_the_first_when_it_is_known() {
    let host = host();
    host.give_token(1);
    host.open().unwrap().finish().unwrap();
    let first = host.own_key();
    host.give_token(2);
    let next = host.open().unwrap();
    assert_eq!(next.which, Which::Next);
    assert_ne!(next.key().public().id(), first);
    assert_eq!(host.own_key(), first, "it signs with the one that is known");
    let again = host.open().unwrap();
    assert_eq!(again.key().public().id(), next.key().public().id(), "after a restart too");
    assert_eq!(again.finish().unwrap(), Which::Next);
    assert_eq!(host.own_key(), next.key().public().id());
    assert!(host.open().is_none());
}

#[test]
fn a_crash_between_the_two_steps_of_taking_a_key_into_use_leaves_that_key() {
    let host = host();
    host.give_token(1);
    host.open().unwrap().finish().unwrap();
    host.give_token(2);
    let next = host.open().unwrap();
    let (from, to) = (next_key(&next.folder), identity::key_file(&next.folder));
    fs::rename(from, to).unwrap();
    let asks = host.open().expect("it is not known to be done");
    assert_eq!((asks.which, asks.key().public().id()), (Which::Own, next.key().public().id()));
    asks.finish().unwrap();
    assert!(host.open().is_none());
}

#[test]
fn a_key_that_was_lost_before_it_was_known_is_made_anew() {
    let host = host();
    host.give_token(1);
    host.open().unwrap().finish().unwrap();
    host.give_token(2);
    let lost = host.open().unwrap().key().public().id();
    fs::write(next_key(&host.config.state_dir), "damaged").unwrap();
    let anew = host.open().unwrap();
    assert_ne!(anew.key().public().id(), lost);
    fs::write(record_file(&host.config.state_dir), [0xff]).unwrap();
    assert_ne!(host.open().unwrap().key().public().id(), anew.key().public().id());
}

#[test]
fn a_token_that_others_can_read_or_that_is_none_is_refused_by_name() {
    let host = host();
    let path = host.folder.path().join("token");
    host.give_token(1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = Enrolment::open(&host.config).unwrap_err();
    assert!(matches!(error, BadToken::Exposed { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "web-1:nothing").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let error = Enrolment::open(&host.config).unwrap_err();
    assert!(matches!(error, BadToken::Damaged { .. }), "{error}");
    assert!(!identity::key_file(&host.config.state_dir).exists(), "nothing was made");
}

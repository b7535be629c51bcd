use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;

use herald_proto::id::{MessageDigest, Sequence};
use herald_proto::key::SecretKey;
use herald_proto::login::{Password, sign};

use super::*;
use crate::passwords;
use crate::roster::Token;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SECRET: &str = "grafana's secret";

fn key(name: &str, n: u8) -> SecretKey {
    SecretKey::from_seed(name.parse().unwrap(), &[n; 32]).unwrap()
}

/// `web-1` has a key, `grafana` a password, `alice` both, `kiosk` neither.
static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let (logins, secrets) = (folder.path().join("home.toml"), folder.path().join("passwords"));
    let (web, alice) = (key("web-1", 1), key("alice", 2));
    let text = format!(
        "fleet = \"home\"\n[hosts]\nweb-1 = [\"{}\"]\nkiosk = []\n[operators]\n\
         alice = [\"{}\"]\n[monitors]\ngrafana = []\n",
        web.public(),
        alice.public()
    );
    std::fs::write(&logins, text).unwrap();
    let hash = passwords::hash(SECRET, &[3; 16]).unwrap();
    let names = ["grafana", "alice", "gone"];
    std::fs::write(&secrets, names.map(|name| format!("home/{name}:{hash}\n")).concat()).unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    Authenticator::new(
        Logins::load(&[logins]).unwrap(),
        Passwords::load(&secrets).unwrap(),
        vec!["mqtt".parse().unwrap(), "mqtt.example.org".parse().unwrap()],
    )
});

const SHOWS: Credentials<'static> = Credentials {
    client_id: "this-client",
    username: None,
    password: None,
    certificate: None,
    anonymous_allowed: false,
};

fn login(text: &str) -> LoginName {
    text.parse().unwrap()
}

fn signed_for(name: &str, client_id: &str, broker: &str, key: &SecretKey) -> Password {
    let principal = login(name);
    sign(&login::Login { principal: &principal, client_id }, &broker.parse().unwrap(), key, NOW)
}

/// Gives the principal's name, or the error.
fn ask(credentials: &Credentials<'_>) -> Result<String, AuthError> {
    AUTHENTICATOR.authenticate(credentials, NOW).map(|principal| principal.to_string())
}

/// Asks with a user name and a password, on a listener that would take anonymous clients too.
fn ask_as(username: &str, password: &str) -> Result<String, AuthError> {
    let (username, password) = (Some(username), Some(password));
    ask(&Credentials { username, password, anonymous_allowed: true, ..SHOWS })
}

#[test]
fn a_signed_password_logs_in_whose_key_signed_it() {
    let web = key("web-1", 1);
    for broker in ["mqtt", "mqtt.example.org"] {
        let password = signed_for("home/web-1", "this-client", broker, &web);
        let shown = Credentials {
            username: Some("home/web-1"),
            password: Some(password.as_str()),
            ..SHOWS
        };
        let principal = AUTHENTICATOR.authenticate(&shown, NOW).unwrap();
        let expected =
            Principal::Host { fleet: "home".parse().unwrap(), host: "web-1".parse().unwrap() };
        assert_eq!(principal, expected);
        let later = NOW.plus(std::time::Duration::from_secs(361));
        let error = AUTHENTICATOR.authenticate(&shown, later).unwrap_err();
        let source = LoginError::Expired { since: 61 };
        assert_eq!(error, AuthError::Signed { login: login("home/web-1"), source });
    }
}

#[test]
fn a_signed_password_is_good_for_its_login_client_broker_and_key_only() {
    let (web, alice) = (key("web-1", 1), key("alice", 2));
    let refused = |username: &str, password: &Password| match ask_as(username, password.as_str())
        .unwrap_err()
    {
        error @ AuthError::Signed { .. } => assert_eq!(error.return_code() as u8, 4),
        other => panic!("{username}: {other}"),
    };
    refused("home/web-1", &signed_for("home/web-1", "other-client", "mqtt", &web));
    refused("home/web-1", &signed_for("home/web-1", "this-client", "evil", &web));
    refused("home/web-1", &signed_for("home/web-1", "this-client", "mqtt", &alice));
    refused("home/alice", &signed_for("home/web-1", "this-client", "mqtt", &web));
    refused("home/alice", &signed_for("home/alice", "this-client", "mqtt", &web));
    refused("home/kiosk", &signed_for("home/kiosk", "this-client", "mqtt", &web));
    let stranger = signed_for("work/web-1", "this-client", "mqtt", &web);
    let unknown = AuthError::Unknown { login: login("work/web-1") };
    assert_eq!(ask_as("work/web-1", stranger.as_str()), Err(unknown));
}

#[test]
fn a_password_logs_in_whose_it_is_and_nobody_else() {
    assert_eq!(ask_as("home/grafana", SECRET), Ok("home/grafana".into()));
    assert_eq!(ask_as("home/alice", SECRET), Ok("home/alice".into()));
    let wrong = |name: &str| AuthError::Password { login: login(name) };
    let unknown = |name: &str| AuthError::Unknown { login: login(name) };
    for (username, password, error) in [
        ("home/grafana", "guess", wrong("home/grafana")),
        ("home/grafana", "", wrong("home/grafana")),
        ("home/web-1", SECRET, wrong("home/web-1")),
        ("home/kiosk", "", wrong("home/kiosk")),
        ("home/nobody", SECRET, unknown("home/nobody")),
        // It has a password still, and is no login any more.
        ("home/gone", SECRET, unknown("home/gone")),
        ("work/grafana", SECRET, unknown("work/grafana")),
        ("grafana", SECRET, AuthError::UserName { username: "grafana".into() }),
        ("home/Grafana", SECRET, AuthError::UserName { username: "home/Grafana".into() }),
        ("", "", AuthError::UserName { username: String::new() }),
    ] {
        assert_eq!(error.return_code() as u8, 4);
        assert_eq!(ask_as(username, password), Err(error), "{username} {password}");
    }
    assert_eq!(AUTHENTICATOR.idle_passwords().collect::<Vec<_>>(), [&login("home/gone")]);
}

#[test]
fn a_certificate_logs_in_the_login_that_it_names() {
    let certified = Credentials { certificate: Some("home/kiosk"), ..SHOWS };
    assert_eq!(ask(&certified), Ok("home/kiosk".into()));
    let same = Credentials { username: Some("home/kiosk"), ..certified };
    assert_eq!(ask(&same), Ok("home/kiosk".into()));
    // What else would log in somebody else does not count beside it.
    let other = Credentials { username: Some("home/grafana"), password: Some(SECRET), ..certified };
    let two =
        AuthError::TwoNames { certificate: login("home/kiosk"), username: "home/grafana".into() };
    assert_eq!(two.return_code() as u8, 4);
    assert_eq!(ask(&other), Err(two));
}

#[test]
fn a_certificate_that_names_no_login_leaves_it_to_the_password_and_is_never_anonymous() {
    for name in ["home/gone", "web-1.example.org", "work/web-1", ""] {
        let shown = Credentials { certificate: Some(name), anonymous_allowed: true, ..SHOWS };
        let error = AuthError::Certificate { name: name.into() };
        assert_eq!(error.return_code() as u8, 5);
        assert_eq!(ask(&shown), Err(error));
        let username = Some("home/grafana");
        let with_password = Credentials { username, password: Some(SECRET), ..shown };
        assert_eq!(ask(&with_password), Ok("home/grafana".into()));
        let wrong = Credentials { username, password: Some("guess"), ..shown };
        assert_eq!(ask(&wrong), Err(AuthError::Password { login: login("home/grafana") }));
    }
}

#[test]
fn only_a_client_that_shows_nothing_is_anonymous_and_only_where_that_is_allowed() {
    assert_eq!(ask(&SHOWS), Err(AuthError::Nothing));
    assert_eq!(AuthError::Nothing.return_code() as u8, 5);
    let allowed = Credentials { anonymous_allowed: true, ..SHOWS };
    assert_eq!(ask(&allowed), Ok("anonymous".into()));
    let nameless = Credentials { password: Some(SECRET), ..allowed };
    assert_eq!(ask(&nameless), Err(AuthError::NoUserName));
    let silent = Credentials { username: Some("home/grafana"), ..allowed };
    assert_eq!(ask(&silent), Err(AuthError::NoPassword { login: login("home/grafana") }));
    let empty = Credentials { username: Some(""), ..allowed };
    assert_eq!(ask(&empty), Err(AuthError::UserName { username: String::new() }));
}

#[test]
fn only_a_password_that_must_be_hashed_is_expensive() {
    let is_expensive = |credentials: &Credentials<'_>| AUTHENTICATOR.is_expensive(credentials);
    let named = Credentials { username: Some("home/nobody"), ..SHOWS };
    assert!(is_expensive(&Credentials { password: Some("guess"), ..named }));
    assert!(!is_expensive(&Credentials { password: Some("ey.e30.e30"), ..named }));
    assert!(!is_expensive(&named));
    assert!(!is_expensive(&SHOWS));
    assert!(!is_expensive(&Credentials { anonymous_allowed: true, ..SHOWS }));
    let certified = Credentials { certificate: Some("home/kiosk"), ..SHOWS };
    assert!(!is_expensive(&Credentials { password: Some("guess"), ..certified }));
    let malformed = Credentials { username: Some("nobody"), ..SHOWS };
    assert!(!is_expensive(&Credentials { password: Some("guess"), ..malformed }));
}

#[test]
fn no_password_is_shown_and_an_error_keeps_no_more_than_a_line_of_a_name() {
    let long = format!("\u{1b}[2J\n{}", "x".repeat(10_000));
    let shown = Credentials { username: Some(&long), password: Some(SECRET), ..SHOWS };
    let error = ask(&shown).unwrap_err();
    assert!(error.to_string().len() < 200 && !error.to_string().contains('\u{1b}'), "{error}");
    let certified = Credentials { certificate: Some(&long), ..SHOWS };
    assert!(ask(&certified).unwrap_err().to_string().len() < 240);
    let wrong = ask_as("home/web-1", SECRET).unwrap_err();
    for text in [format!("{shown:?}"), format!("{error:?} {wrong} {wrong:?}")] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// Logs in by the roster as `web-1`, at a time, whose entry gives it a key and a token that is good
/// until [`NOW`] plus 10 ms.
fn enrolled(
    key_of: Option<u8>,
    token: Option<u8>,
    by: u8,
    now: Timestamp,
) -> Result<Principal, AuthError> {
    let public = |n| key("web-1", n).public().clone();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    write(
        "trust.toml",
        &format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{}\"]", public(9)),
    );
    let logins = write("home.toml", "fleet = \"home\"\ntrust = \"trust.toml\"");
    let token =
        token.map(|n| Token { key: public(n), expires_at: Timestamp::from_millis(EXPIRES) });
    let digest = MessageDigest::of(b"entry");
    let standing = Standing { number: Sequence::new(1), digest, key: key_of.map(public), token };
    let roster = Roster::default();
    roster.put(login("home/web-1"), standing);
    let brokers = vec!["mqtt".parse().unwrap()];
    let authenticator =
        Authenticator::new(Logins::load(&[logins]).unwrap(), Passwords::none(), brokers);
    let password = signed_for("home/web-1", "this-client", "mqtt", &key("web-1", by));
    let (username, password) = (Some("home/web-1"), Some(password.as_str()));
    let shown = Credentials { username, password, ..SHOWS };
    authenticator.with_roster(roster).authenticate(&shown, now)
}

const EXPIRES: u64 = NOW.as_millis() + 10;

#[test]
fn a_host_of_the_roster_logs_in_by_its_key_and_a_candidate_by_a_token_that_has_not_expired() {
    let (fleet, host) = ("home".parse().unwrap(), "web-1".parse().unwrap());
    let member = Ok(Principal::Host { fleet, host });
    let (fleet, host) = ("home".parse().unwrap(), "web-1".parse().unwrap());
    let token = key("web-1", 2).public().id();
    let candidate = Ok(Principal::Candidate { fleet, host, token });
    let last = Timestamp::from_millis(EXPIRES - 1);
    let expired_at = Timestamp::from_millis(EXPIRES);
    let web = || login("home/web-1");
    let wrong = Err(AuthError::Signed { login: web(), source: LoginError::Signature { keys: 1 } });
    let unknown = Err(AuthError::Unknown { login: web() });
    let expired = Err(AuthError::Expired { login: web(), expired_at });
    for (key_of, token, by, now, expected) in [
        (Some(1), None, 1, NOW, member.clone()),
        (None, Some(2), 2, last, candidate.clone()),
        (Some(1), Some(2), 1, last, member.clone()),
        (Some(1), Some(2), 2, last, candidate),
        // A host is known by its key, whatever became of the token.
        (Some(1), Some(2), 1, expired_at, member),
        (None, Some(2), 2, expired_at, expired.clone()),
        (Some(1), Some(2), 2, expired_at, expired),
        (Some(1), None, 2, NOW, wrong.clone()),
        (None, Some(2), 1, NOW, wrong.clone()),
        (Some(1), Some(2), 3, NOW, wrong),
        // Removed.
        (None, None, 1, NOW, unknown),
    ] {
        let found = enrolled(key_of, token, by, now);
        assert_eq!(found, expected, "{key_of:?} {token:?} {by} {now}");
        assert!(found.err().is_none_or(|error| error.return_code() as u8 == 4));
    }
}

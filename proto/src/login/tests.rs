use std::sync::LazyLock;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);
const ISSUED: u64 = 1_800_000_000;
const GOOD: &str = r#"{"iss":"home/web-1","sub":"home/web-1","aud":"herald/home/mqtt.example.org","client_id":"web-1.main","iat":1800000000,"exp":1800000300}"#;

static WEB: LazyLock<LoginName> = LazyLock::new(|| "home/web-1".parse().unwrap());

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("key-{n}").parse().unwrap(), &[n; 32]).unwrap()
}

fn login() -> Login<'static> {
    Login { principal: &WEB, client_id: "web-1.main" }
}

fn broker(name: &str) -> BrokerName {
    name.parse().unwrap()
}

/// Reads a password as the broker does, which has two names, and two keys for the login.
fn read_at(password: &str, now: Timestamp) -> Result<(), LoginError> {
    let keys = [key(1).public().clone(), key(2).public().clone()];
    verify(password, &keys, &login(), &[broker("mqtt"), broker("mqtt.example.org")], now)
}

fn read(password: &str) -> Result<(), LoginError> {
    read_at(password, NOW)
}

/// Reads claims that are signed as they should be.
fn read_claims(claims: &str) -> Result<(), LoginError> {
    read(&seal(HEADER, claims.as_bytes(), &key(1)))
}

/// Reads good claims under another header, which is signed too.
fn read_header(header: &str) -> Result<(), LoginError> {
    read(&seal(header, GOOD.as_bytes(), &key(1)))
}

#[test]
fn a_password_is_taken_by_the_broker_that_it_is_for_and_made_by_any_key_of_the_login() {
    for (name, n) in [("mqtt", 1), ("mqtt.example.org", 2)] {
        let password = sign(&login(), &broker(name), &key(n), NOW);
        assert_eq!(read(password.as_str()), Ok(()));
        assert!(looks_signed(password.as_str()));
    }
    let password = sign(&login(), &broker("mqtt.example.org"), &key(1), NOW);
    assert_eq!(password.as_str(), seal(HEADER, GOOD.as_bytes(), &key(1)));
}

#[test]
fn the_example_of_rfc_8037_is_signed_and_read_as_printed_there() {
    // Appendices A.1 and A.4; it has no type and its payload is no object, so it is no login.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key =
        SecretKey::from_seed("rfc".parse().unwrap(), seed.as_slice().try_into().unwrap()).unwrap();
    let printed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                   hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5B\
                   hVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(seal(r#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing", &key), printed);
    let keys = [key.public().clone()];
    let sealed = Sealed::split(printed).unwrap();
    assert_eq!(sealed.check_signature(&keys), Ok(()));
    assert_eq!(sealed.claims, b"Example of Ed25519 signing");
    let missing = LoginError::Missing { part: Part::Header, member: "typ" };
    assert_eq!(verify(printed, &keys, &login(), &[], NOW), Err(missing));
}

#[test]
fn every_flipped_bit_of_a_good_password_refuses_it() {
    let password = sign(&login(), &broker("mqtt"), &key(1), NOW);
    let mut bytes = password.as_str().as_bytes().to_vec();
    let mut read_as_text = 0;
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        // What is not UTF-8 is refused with the CONNECT packet.
        if let Ok(text) = std::str::from_utf8(&bytes) {
            read_as_text += 1;
            assert!(read(text).is_err(), "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(read_as_text, bytes.len() * 7, "only the highest bit of a byte leaves ASCII");
}

#[test]
fn an_algorithm_other_than_eddsa_is_refused_by_name_even_where_the_signature_holds() {
    for name in ["none", "None", "HS256", "ES256", "RS256", "eddsa", "Ed25519", "EdDSA ", ""] {
        let header = format!(r#"{{"alg":"{name}","typ":"JWT"}}"#);
        assert_eq!(read_header(&header), Err(LoginError::Algorithm { found: name.into() }));
    }
    // As the attack is made: no signature, and one by a public key taken for a shared secret.
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(GOOD)
    );
    assert_eq!(read(&none), Err(LoginError::Algorithm { found: "none".into() }));
}

#[test]
fn a_header_has_two_members_and_nothing_else() {
    let part = Part::Header;
    let missing = |member| LoginError::Missing { part, member };
    let unknown = |member: &str| LoginError::Unknown { part, member: member.into() };
    let twice = |member: &str| LoginError::Twice { part, member: member.into() };
    let mistyped = |member| LoginError::Type { part, member, expected: "a text" };
    assert_eq!(read_header(r#"{ "typ": "JWT", "alg": "EdDSA" }"#), Ok(()));
    for (header, error) in [
        (r#"{"alg":"EdDSA"}"#, missing("typ")),
        (r#"{"typ":"JWT"}"#, missing("alg")),
        ("{}", missing("alg")),
        (r#"{"alg":"EdDSA","typ":"JWT","kid":"1"}"#, unknown("kid")),
        (r#"{"alg":"EdDSA","typ":"JWT","crit":["b64"]}"#, unknown("crit")),
        (r#"{"alg":"EdDSA","typ":"JWT","jwk":{}}"#, unknown("jwk")),
        (r#"{"alg":"none","alg":"EdDSA","typ":"JWT"}"#, twice("alg")),
        (r#"{"alg":"EdDSA","\u0061lg":"none","typ":"JWT"}"#, twice("alg")),
        (r#"{"Alg":"EdDSA","typ":"JWT"}"#, unknown("Alg")),
        (r#"{"alg":null,"typ":"JWT"}"#, mistyped("alg")),
        (r#"{"alg":["EdDSA"],"typ":"JWT"}"#, mistyped("alg")),
        (r#"{"alg":"EdDSA","typ":1}"#, mistyped("typ")),
        (r#"{"alg":"EdDSA","typ":"jwt"}"#, LoginError::Typ { found: "jwt".into() }),
        (r#"{"alg":"EdDSA","typ":"JOSE"}"#, LoginError::Typ { found: "JOSE".into() }),
        (r#"["EdDSA","JWT"]"#, LoginError::NotAnObject { part }),
        (r#"{"alg":"EdDSA","typ":"JWT"} {}"#, LoginError::NotAnObject { part }),
        (r#"{"alg":"EdDSA","typ":"JWT"#, LoginError::NotAnObject { part }),
        ("", LoginError::NotAnObject { part }),
        ("\u{feff}{}", LoginError::NotAnObject { part }),
    ] {
        assert_eq!(read_header(header), Err(error), "{header}");
    }
}

#[test]
fn claims_that_are_not_exactly_the_expected_ones_are_refused_for_what_is_wrong() {
    let part = Part::Claims;
    let unknown = |member: &str| LoginError::Unknown { part, member: member.into() };
    let number = |member| LoginError::Type { part, member, expected: "a whole number of seconds" };
    let principal = |member, found: &str| LoginError::Principal {
        member,
        found: found.into(),
        expected: WEB.clone(),
    };
    let audience = |found: &str| LoginError::Audience { found: found.into() };
    assert_eq!(read_claims(GOOD), Ok(()));
    for (old, new, error) in [
        (r#""iss":"home/web-1""#, r#""iss":"home/web-2""#, principal("iss", "home/web-2")),
        (r#""sub":"home/web-1""#, r#""sub":"work/web-1""#, principal("sub", "work/web-1")),
        (r#""sub":"home/web-1""#, r#""sub":"web-1""#, principal("sub", "web-1")),
        ("herald/home/mqtt.example.org", "herald/home/evil", audience("herald/home/evil")),
        ("herald/home/mqtt.example.org", "herald/work/mqtt", audience("herald/work/mqtt")),
        ("herald/home/mqtt.example.org", "mqtt", audience("mqtt")),
        ("web-1.main", "web-1.other", LoginError::ClientId { found: "web-1.other".into() }),
        ("web-1.main", "", LoginError::ClientId { found: String::new() }),
        (r#""exp":1800000300"#, r#""exp":"1800000300""#, number("exp")),
        (r#""exp":1800000300"#, r#""exp":1800000300.0"#, number("exp")),
        (r#""exp":1800000300"#, r#""exp":1.8000003e9"#, number("exp")),
        (r#""exp":1800000300"#, r#""exp":18446744073709551616"#, number("exp")),
        (r#""iat":1800000000"#, r#""iat":-1"#, number("iat")),
        (r#""iat":1800000000"#, r#""iat":null"#, number("iat")),
        (r#""iat":1800000000,"#, "", LoginError::Missing { part, member: "iat" }),
        (r#""client_id":"web-1.main","#, "", LoginError::Missing { part, member: "client_id" }),
        (r#""iat""#, r#""nbf":0,"iat""#, unknown("nbf")),
        (r#""iat""#, r#""iat":1,"iat""#, LoginError::Twice { part, member: "iat".into() }),
        (
            r#""aud":"herald/home/mqtt.example.org""#,
            r#""aud":["herald/home/mqtt.example.org"]"#,
            LoginError::Type { part, member: "aud", expected: "a text" },
        ),
        (r#"{"iss""#, r#"[{"iss""#, LoginError::NotAnObject { part }),
    ] {
        let claims = GOOD.replacen(old, new, 1);
        assert_ne!(claims, GOOD, "{old} is there to be replaced");
        assert_eq!(read_claims(&claims), Err(error), "{claims}");
    }
}

#[test]
fn a_password_is_taken_from_a_minute_before_it_begins_until_a_minute_after_its_end() {
    let password = sign(&login(), &broker("mqtt"), &key(1), NOW);
    let at = |second: u64| read_at(password.as_str(), Timestamp::from_millis(second * 1000 + 999));
    assert_eq!(at(ISSUED - 61), Err(LoginError::Future { ahead: 61 }));
    assert_eq!(at(ISSUED - 60), Ok(()));
    assert_eq!(at(ISSUED + 359), Ok(()));
    assert_eq!(at(ISSUED + 360), Err(LoginError::Expired { since: 60 }));
    assert_eq!(at(0), Err(LoginError::Future { ahead: ISSUED }));
    let end = read_at(password.as_str(), Timestamp::from_millis(u64::MAX));
    assert!(matches!(end, Err(LoginError::Expired { .. })));
}

#[test]
fn a_password_that_is_good_for_more_than_a_quarter_of_an_hour_is_refused() {
    let times = |issued: u64, expires: u64| {
        let claims = GOOD.replace("1800000000", &issued.to_string());
        read_claims(&claims.replace("1800000300", &expires.to_string()))
    };
    assert_eq!(times(ISSUED, ISSUED + 900), Ok(()));
    assert_eq!(times(ISSUED, ISSUED + 901), Err(LoginError::LongLived { seconds: 901 }));
    assert_eq!(times(0, u64::MAX), Err(LoginError::LongLived { seconds: u64::MAX }));
    for expires in [ISSUED, ISSUED - 1, 0] {
        assert_eq!(times(ISSUED, expires), Err(LoginError::Backwards { issued: ISSUED, expires }));
    }
    let far = (u64::MAX - 1, u64::MAX);
    assert_eq!(times(far.0, far.1), Err(LoginError::Future { ahead: far.0 - ISSUED }));
}

#[test]
fn what_does_not_have_the_form_of_a_password_is_refused_for_its_form() {
    let password = sign(&login(), &broker("mqtt"), &key(1), NOW);
    let good = password.as_str();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let not_base64 = |part| LoginError::NotBase64 { part };
    let last = &signature[..signature.len() - 1];
    for (text, error) in [
        (String::new(), LoginError::NotThreeParts),
        (signed.into(), LoginError::NotThreeParts),
        (format!("{good}."), LoginError::NotThreeParts),
        (format!(".{good}"), LoginError::NotThreeParts),
        (format!("{header}=.{claims}.{signature}"), not_base64(Part::Header)),
        (format!("{header}.{claims}==.{signature}"), not_base64(Part::Claims)),
        (format!("{good}=="), not_base64(Part::Signature)),
        (format!("{good}\n"), not_base64(Part::Signature)),
        (format!(" {good}"), not_base64(Part::Header)),
        (format!("{header}.{claims}.+/{}", &signature[2..]), not_base64(Part::Signature)),
        // 64 bytes end with four bits that mean nothing: there is one way to write them.
        (format!("{header}.{claims}.{last}_"), not_base64(Part::Signature)),
        (format!("{header}.{claims}."), LoginError::Signature { keys: 2 }),
        (format!("{good}AAAA"), LoginError::Signature { keys: 2 }),
        (format!("{header}..{signature}"), LoginError::Signature { keys: 2 }),
        ("e".repeat(1025), LoginError::TooLarge { bytes: 1025 }),
    ] {
        assert_eq!(read(&text), Err(error), "{text}");
    }
}

#[test]
fn a_key_that_is_not_the_logins_signs_for_nobody() {
    let password = sign(&login(), &broker("mqtt"), &key(3), NOW);
    assert_eq!(read(password.as_str()), Err(LoginError::Signature { keys: 2 }));
    let good = sign(&login(), &broker("mqtt"), &key(1), NOW);
    let error = verify(good.as_str(), &[], &login(), &[broker("mqtt")], NOW);
    assert_eq!(error, Err(LoginError::NoKey));
    let nowhere = verify(good.as_str(), &[key(1).public().clone()], &login(), &[], NOW);
    assert!(matches!(nowhere, Err(LoginError::Audience { .. })));
}

#[test]
fn the_longest_names_fit() {
    let longest = "a".repeat(63);
    let principal: LoginName = format!("{longest}/{longest}").parse().unwrap();
    let (client_id, broker) = ("c".repeat(128), broker(&"b".repeat(128)));
    let login = Login { principal: &principal, client_id: &client_id };
    let password = sign(&login, &broker, &key(1), NOW);
    assert!(password.as_str().len() <= MAX_BYTES, "{}", password.as_str().len());
    assert_eq!(
        verify(password.as_str(), &[key(1).public().clone()], &login, &[broker], NOW),
        Ok(())
    );
}

#[test]
fn a_client_id_of_any_characters_comes_back_as_it_was() {
    for client_id in ["", "a\"b\\c", "\u{1}\n\u{7f}", "é\u{2028}😀", "</script>"] {
        let login = Login { client_id, ..login() };
        let password = sign(&login, &broker("mqtt"), &key(1), NOW);
        let keys = [key(1).public().clone()];
        let read = verify(password.as_str(), &keys, &login, &[broker("mqtt")], NOW);
        assert_eq!(read, Ok(()), "{client_id:?}");
    }
}

#[test]
fn a_password_does_not_show_itself_and_errors_do_not_repeat_it() {
    let password = sign(&login(), &broker("mqtt"), &key(3), NOW);
    assert_eq!(format!("{password:?}"), "Password(…)");
    let error = read(password.as_str()).unwrap_err();
    let signature = password.as_str().rsplit_once('.').unwrap().1;
    assert!(!format!("{error} {error:?}").contains(&signature[..8]), "{error}");
}

#[test]
fn an_error_keeps_no_more_than_a_line_of_what_came_and_drives_no_terminal() {
    let header = format!(r#"{{"alg":"\u001b[2J\n{}","typ":"JWT"}}"#, "x".repeat(300));
    let error = read_header(&header).unwrap_err().to_string();
    assert!(error.len() < 160 && !error.contains(['\u{1b}', '\n']), "{error}");
    let header = format!(r#"{{"\u001b[2J{}":1}}"#, "x".repeat(300));
    let error = read_header(&header).unwrap_err().to_string();
    assert!(error.len() < 160 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn names_are_read_as_they_are_written_and_others_are_refused() {
    let name: LoginName = "home/web-1".parse().unwrap();
    assert_eq!((name.fleet.as_str(), name.name.as_str()), ("home", "web-1"));
    assert_eq!(name.to_string(), "home/web-1");
    for bad in ["", "/", "home", "home/", "/web-1", "home/web-1/", "a/b/c", "Home/a", "home/a b"] {
        assert!(bad.parse::<LoginName>().is_err(), "{bad:?}");
    }
    for good in ["mqtt", "mqtt.example.org", "127.0.0.1", "::1", "broker_2"] {
        assert_eq!(broker(good).to_string(), good);
    }
    for bad in ["", "a/b", "MQTT", "a b", "é", &"a".repeat(129)] {
        assert!(bad.parse::<BrokerName>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_password_of_words_does_not_look_signed() {
    for words in ["", "secret", "a.b.c", "eye", "eyes.open", "ey.e.s.", "correct.horse.battery"] {
        assert!(!looks_signed(words), "{words:?}");
    }
    assert!(looks_signed("eyJhbGciOiJub25lIn0.e30."));
}

use std::time::{Duration, Instant};

use super::*;

/// Made with the reference implementation, through Python's argon2-cffi 25.1: the password is
/// "correct horse".
const REFERENCE: &str = "$argon2id$v=19$m=19456,t=2,p=2$S2dTcZ8sO0HZNLhzsk7eAQ$\
                         rNXXA8tQqvlV6ycYQGqU0pfq68Kvb6KhkVI63eHmW1I";

fn name(text: &str) -> LoginName {
    text.parse().unwrap()
}

fn hashed(password: &str) -> String {
    hash(password, b"saltsaltsaltsalt").unwrap()
}

fn bad(line: &str) -> BadLine {
    let (number, reason) = Passwords::parse(&format!("# a comment\n\n{line}\n")).expect_err(line);
    assert_eq!(number, 3, "{line}");
    reason
}

#[test]
fn a_password_is_taken_for_its_own_name_only() {
    let (one, two) = (hashed("one's secret"), hashed("two's secret"));
    let text = format!("\n# people\nhome/two:{two}\n\n  home/one:{one}  \r\n#\n");
    let passwords = Passwords::parse(&text).unwrap();
    assert_eq!(passwords.names().collect::<Vec<_>>(), [&name("home/one"), &name("home/two")]);
    for (login, password, expected) in [
        ("home/one", "one's secret", true),
        ("home/two", "two's secret", true),
        ("home/one", "two's secret", false),
        ("home/one", "one's secret ", false),
        ("home/one", "", false),
        ("home/one", &one, false),
        ("work/one", "one's secret", false),
        ("home/three", "one's secret", false),
        ("home/three", "two's secret", false),
    ] {
        assert_eq!(passwords.verify(&name(login), password), expected, "{login} {password}");
    }
}

#[test]
fn a_hash_by_the_reference_implementation_is_read() {
    let passwords = Passwords::parse(&format!("home/a:{REFERENCE}")).unwrap();
    assert!(passwords.verify(&name("home/a"), "correct horse"));
    assert!(!passwords.verify(&name("home/a"), "correct horsf"));
}

#[test]
fn a_name_without_a_password_costs_as_much_as_one_with() {
    let passwords = Passwords::parse(&format!("home/one:{}", hashed("secret"))).unwrap();
    let took = |login: &str| {
        let (name, started) = (name(login), Instant::now());
        assert!(!passwords.verify(&name, "wrong"));
        started.elapsed()
    };
    // Some runs of both in turn: without the work, a name would take microseconds.
    let runs: Vec<_> = (0..5).map(|_| (took("home/one"), took("home/nobody"))).collect();
    let known: Duration = runs.iter().map(|(known, _)| *known).sum();
    let unknown: Duration = runs.iter().map(|(_, unknown)| *unknown).sum();
    assert!(known > Duration::from_millis(5), "{known:?}");
    assert!(unknown > known / 8, "{known:?} {unknown:?}");
}

#[test]
fn the_password_whose_hash_stands_in_for_a_name_does_not_open_it() {
    let hash = hashed("secret");
    let lines: String = ["a", "b", "c"].map(|n| format!("home/{n}:{hash}\n")).concat();
    let passwords = Passwords::parse(&lines).unwrap();
    assert!(passwords.verify(&name("home/b"), "secret"));
    assert!(!passwords.verify(&name("home/stranger"), "secret"));
}

#[test]
fn no_passwords_and_very_long_ones_open_nothing_and_cost_nothing() {
    assert!(!Passwords::none().verify(&name("home/a"), ""));
    let passwords = Passwords::parse(&format!("home/a:{}", hashed("secret"))).unwrap();
    assert!(!passwords.verify(&name("home/a"), &"x".repeat(MAX_PASSWORD + 1)));
}

#[test]
fn other_algorithms_and_versions_are_refused_by_name() {
    let good = hashed("secret");
    let found = |found: &str| BadLine::Algorithm { found: found.into() };
    for (hash, error) in [
        (good.replace("argon2id", "argon2i"), found("argon2i")),
        (good.replace("argon2id", "argon2d"), found("argon2d")),
        (good.replace("v=19", "v=16"), found("argon2id, version 16")),
        (good.replace("v=19$", ""), found("argon2id, version none")),
        ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".into(), found("2b")),
        ("$6$salt$hash".into(), found("6")),
        ("$7$101$salt$hash".into(), found("7")),
        ("$\u{1b}[2J$".into(), found("?[2J")),
    ] {
        assert_eq!(bad(&format!("home/a:{hash}")), error);
    }
}

#[test]
fn absurd_costs_are_refused_before_they_are_paid() {
    let good = hashed("secret");
    let costs = "m=19456,t=2,p=1";
    assert!(good.contains(costs));
    for (memory, passes, lanes, taken) in [
        (47_104_u32, 1_u32, 1, true),
        (7_168, 5, 1, true),
        (65_536, 3, 4, true),
        (262_144, 4, 1, true),
        (7_168, 4, 1, false),
        (8, 1, 1, false),
        (4_096, 100, 1, false),
        (262_145, 1, 1, false),
        (262_144, 5, 1, false),
        (4_294_967_295, 1, 1, false),
        (19_456, 4_294_967_295, 1, false),
        (19_456, 2, 17, false),
    ] {
        let hash = good.replace(costs, &format!("m={memory},t={passes},p={lanes}"));
        let parsed = parse_line(&format!("home/a:{hash}"));
        match parsed {
            Ok(_) => assert!(taken, "{hash}"),
            Err(error) => assert_eq!(error, BadLine::Cost { memory, passes, lanes }, "{hash}"),
        }
    }
}

#[test]
fn lines_that_are_no_name_and_hash_are_refused_with_their_number() {
    let good = hashed("secret");
    let (start, output) = good.rsplit_once('$').unwrap();
    for (line, error) in [
        ("home/a", BadLine::Form),
        ("home/a:", BadLine::Form),
        ("home/a:secret", BadLine::Form),
        (&format!("home/a: {good}"), BadLine::Form),
        (&format!("home/a:{start}"), BadLine::Hash),
        (&format!("home/a:{good}$"), BadLine::Hash),
        (&format!("home/a:{good} # mine"), BadLine::Hash),
        (&format!("home/a:{}", good.replace("t=2", "t=0")), BadLine::Hash),
        (&format!("home/a:{}", good.replace("t=2", "t=-2")), BadLine::Hash),
        (&format!("home/a:{}", good.replace("t=2", "t=2,t=2")), BadLine::Hash),
        (&format!("home/a:{}", good.replace("t=2", "x=2")), BadLine::Hash),
        (&format!("home/a:{}", good.replace(",t=2", "")), BadLine::Hash),
        (&format!("home/a:{}", good.replace("m=19456,t=2", "t=2,m=19456")), BadLine::Hash),
        (&format!("home/a:{}", good.replace("p=1", "p=1,data=AAAA")), BadLine::Hash),
        (&format!("home/a:{start}${}", &output[..16]), BadLine::Short { salt: 16, output: 12 }),
    ] {
        assert_eq!(bad(line), error, "{line}");
    }
    for line in [&format!("a:{good}"), &format!("Home/a:{good}"), &format!("home/:{good}")] {
        assert!(matches!(bad(line), BadLine::Name(_)), "{line}");
    }
    let twice = Passwords::parse(&format!("home/a:{good}\nhome/b:{good}\nhome/a:{good}"));
    let expected = BadLine::Twice { name: name("home/a"), first: 1 };
    assert_eq!(twice.unwrap_err(), (3, expected));
}

#[test]
fn a_file_that_others_can_read_is_refused_and_errors_name_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    let set = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let hash = hashed("secret");
    std::fs::write(&path, format!("home/a:{hash}\n")).unwrap();
    for (mode, open) in [(0o400, false), (0o640, false), (0o644, true), (0o660, true)] {
        set(mode);
        let loaded = Passwords::load(&path);
        assert_eq!(matches!(loaded, Err(Error::Open { .. })), open, "{mode:o}");
        assert_eq!(loaded.is_ok(), !open, "{mode:o}");
    }
    set(0o600);
    std::fs::write(&path, format!("home/a:{hash}\nhome/b:{}\n", &hash[..40])).unwrap();
    let error = Passwords::load(&path).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("passwords, line 2"), "{shown}");
    assert!(!shown.contains(&hash[30..40]), "{shown}");
    let none = Passwords::load(&folder.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("none"), "{none}");
}

#[test]
fn a_password_that_could_never_log_in_is_not_hashed() {
    let salt = &[0; 16];
    assert_eq!(hash("", salt), Err(Unusable::Length { bytes: 0 }));
    assert_eq!(hash(&"x".repeat(513), salt), Err(Unusable::Length { bytes: 513 }));
    assert_eq!(hash("ey.a.b", salt), Err(Unusable::LooksSigned));
    assert_ne!(hash("secret", &[1; 16]), hash("secret", &[2; 16]));
}

#[test]
fn passwords_do_not_show_their_hashes() {
    let passwords = Passwords::parse(&format!("home/a:{}", hashed("secret"))).unwrap();
    assert_eq!(format!("{passwords:?}"), "Passwords(1 of them)");
}

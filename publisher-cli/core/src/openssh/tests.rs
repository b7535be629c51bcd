//! The keys in `keys/` were made by ssh-keygen for these tests, and open nothing.

use super::{agent::*, *};
use herald_proto::key::SecretKey;

const PLAIN: &str = include_str!("keys/plain");
const PLAIN_PUB: &str = include_str!("keys/plain.pub");
const LOCKED: &str = include_str!("keys/locked");
const ECDSA: &str = include_str!("keys/ecdsa");
const ECDSA_PUB: &str = include_str!("keys/ecdsa.pub");

#[test]
fn a_key_that_ssh_keygen_made_is_read_with_both_halves_and_its_fingerprint() {
    let (secret, public) = (read_private(PLAIN).unwrap(), read_public(PLAIN_PUB).unwrap());
    assert_eq!(*secret.public(), public);
    assert_eq!(public.name().to_string(), "alice@laptop");
    assert_eq!(fingerprint(&public), "SHA256:OxdGuJmi/D0A3wgVU/FXOqKFHMKAHA3cBCLKq7UTtIY");
    let text = secret.to_secret_text();
    assert_eq!(*text.parse::<SecretKey>().unwrap().public(), public, "and in Nix's form");
    assert!(is_private(PLAIN) && is_public(PLAIN_PUB) && !is_public(PLAIN));
}

#[test]
fn a_key_under_a_passphrase_belongs_into_an_agent() {
    assert_eq!(read_private(LOCKED).unwrap_err(), BadSshKey::Encrypted);
    assert!(BadSshKey::Encrypted.to_string().contains("add it to ssh-agent"));
}

#[test]
fn other_types_of_keys_are_told_by_name() {
    for refused in [read_private(ECDSA).err(), read_public(ECDSA_PUB).err()] {
        let refused = refused.unwrap().to_string();
        assert!(refused.contains("ecdsa-sha2-nistp256"), "{refused}");
    }
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(matches!(read_private(rsa), Err(BadSshKey::Damaged(_))));
}

#[test]
fn damaged_keys_are_refused_without_a_panic_and_not_repeated() {
    let body: String = PLAIN.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = STANDARD.decode(&body).unwrap();
    let around = |blob: &[u8]| {
        format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            STANDARD.encode(blob)
        )
    };
    let whole = read_private(PLAIN).unwrap();
    for end in 0..blob.len() {
        assert!(read_private(&around(&blob[..end])).is_err(), "{end}");
    }
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match read_private(&around(&flipped)) {
            // A comment is free, and the copy of the public key in front is not relied on.
            Ok(key) => assert_eq!(key.public().id(), whole.public().id(), "{bit}"),
            Err(error) => assert!(!error.to_string().contains(&body[100..110]), "{error}"),
        }
    }
}

#[test]
fn a_comment_becomes_a_name_that_trust_files_take() {
    for (comment, expected) in [
        ("alice@laptop", "alice@laptop"),
        ("Bob's  key", "Bob-s--key"),
        ("", "ssh"),
        ("a:b", "a-b"),
    ] {
        assert_eq!(name(comment).to_string(), expected);
    }
    assert_eq!(name(&"é".repeat(100)).to_string().len(), 64);
}

fn answer(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut answer = vec![kind];
    parts.iter().for_each(|part| answer.extend(*part));
    answer
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = Vec::new();
    write_string(&mut string, bytes);
    string
}

#[test]
fn an_agent_s_keys_are_read_and_other_types_left_out() {
    let key = read_public(PLAIN_PUB).unwrap();
    let ecdsa = STANDARD.decode(ECDSA_PUB.split(' ').nth(1).unwrap()).unwrap();
    let (blob, ecdsa) = (string(&to_blob(&key)), string(&ecdsa));
    let count = 2_u32.to_be_bytes();
    let (comment, other) = (string(b"alice@laptop"), string(b"x"));
    let whole = answer(12, &[&count, &ecdsa, &other, &blob, &comment]);
    let found = identities(&whole).unwrap();
    assert_eq!(found, [Identity { key, comment: "alice@laptop".into() }]);
    for end in 0..whole.len() {
        assert!(identities(&whole[..end]).is_err(), "{end}");
    }
    let many = answer(12, &[&u32::MAX.to_be_bytes()]);
    assert!(matches!(identities(&many), Err(BadAnswer::Damaged(_))));
    assert_eq!(identities(&[5]), Err(BadAnswer::Refused));
    assert_eq!(identities(&[99]), Err(BadAnswer::Other(99)));
    assert_eq!(identities(&[12, 0, 0, 0, 0]), Ok(vec![]));
}

#[test]
fn an_agent_s_signature_has_64_bytes_and_nothing_around() {
    let good = string(&[string(b"ssh-ed25519"), string(&[7; 64])].concat());
    assert_eq!(signature(&answer(14, &[&good])), Ok([7; 64]));
    let long = string(&[string(b"ssh-ed25519"), string(&[7; 65])].concat());
    let other = string(&[string(b"ssh-rsa"), string(&[7; 64])].concat());
    let more = [good.clone(), vec![0]].concat();
    for bad in [long, other, more, vec![]] {
        assert!(matches!(signature(&answer(14, &[&bad])), Err(BadAnswer::Damaged(_))));
    }
    assert_eq!(signature(&[5]), Err(BadAnswer::Refused));
}

#[test]
fn requests_have_their_length_in_front() {
    assert_eq!(ask_identities(), [0, 0, 0, 1, 11]);
    let key = read_public(PLAIN_PUB).unwrap();
    let asked = ask_signature(&key, b"data");
    assert_eq!(asked.len(), 4 + 1 + (4 + 51) + (4 + 4) + 4);
    assert_eq!(asked[..5], [0, 0, 0, 68, 13]);
}

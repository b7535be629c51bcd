use super::*;
use crate::{
    key::SecretKey,
    signing::tests::{release_with, target},
};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
}

fn file() -> ReleaseFile {
    let targets = ["a", "b", "c"].map(target).to_vec();
    let mut file = ReleaseFile::unsigned(targets, |root, count| Release {
        targets_count: count,
        ..release_with(root)
    });
    file.gathering_mut().sign(&key(1)).unwrap();
    file
}

fn form(file: &ReleaseFile) -> Form {
    Form::from_value(codec::decode_value_within(&file.to_bytes(), &[], 1 << 20).unwrap()).unwrap()
}

fn refusal(form: &Form) -> BadReleaseFile {
    ReleaseFile::read(&codec::encode(form)).err().expect("must be refused")
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let written = file();
    let read = ReleaseFile::read(&written.to_bytes()).unwrap();
    assert_eq!(read.targets(), written.targets());
    assert_eq!(read.gathering(), written.gathering());
    assert_eq!(read.to_bytes(), written.to_bytes());
    assert!(ReleaseFile::is_one(&written.to_bytes()) && !ReleaseFile::is_one(&[0xa4, 1, 0x6e]));
    assert!(read.orders().eq(written.orders()));
    assert_eq!(read.orders().count(), 3);
}

#[test]
fn targets_that_were_not_signed_are_refused_however_they_came_in() {
    let changed = |change: &dyn Fn(&mut Vec<Bytes>)| {
        let mut form = form(&file());
        change(&mut form.targets);
        refusal(&form)
    };
    let other = Bytes(codec::encode(&target("d")));
    for refusal in [
        changed(&|targets| targets[1] = other.clone()),
        changed(&|targets| targets.push(other.clone())),
        changed(&|targets| drop(targets.pop())),
        changed(&|targets| targets.swap(0, 1)),
    ] {
        assert!(matches!(refusal, BadReleaseFile::OtherTargets { .. }), "{refusal}");
    }
    for refusal in [changed(&|targets| targets[0].0.truncate(9)), changed(&Vec::clear)] {
        assert!(matches!(refusal, BadReleaseFile::Malformed(_)), "{refusal}");
    }
}

#[test]
fn a_host_that_is_in_it_twice_is_refused_though_it_was_signed() {
    let targets = ["a", "b", "a"].map(target).to_vec();
    let mut file = ReleaseFile::unsigned(targets, |root, count| Release {
        targets_count: count,
        ..release_with(root)
    });
    file.gathering_mut().sign(&key(1)).unwrap();
    assert!(
        matches!(refusal(&form(&file)), BadReleaseFile::Twice { host, .. } if host.as_str() == "a")
    );
}

#[test]
fn what_is_no_release_file_is_told_from_one_of_another_version() {
    let order = file().orders().next().unwrap().1;
    for bytes in [codec::encode(&order), vec![], b"herald-release".to_vec(), vec![0xa0]] {
        let refused = ReleaseFile::read(&bytes).err().expect("must be refused");
        assert!(matches!(refused, BadReleaseFile::NotOne | BadReleaseFile::Malformed(_)));
    }
    let mut newer = form(&file());
    newer.version = WIRE_VERSION + 1;
    newer.format = FORMAT.to_owned();
    assert!(matches!(refusal(&newer), BadReleaseFile::Version { .. }));
    newer.format = "herald-order".to_owned();
    assert_eq!(refusal(&newer), BadReleaseFile::NotOne);
    let unsigned = ReleaseFile::unsigned(vec![target("a")], |root, _| release_with(root));
    assert!(matches!(refusal(&form(&unsigned)), BadReleaseFile::Release(_)));
}

#[test]
fn size_is_looked_at_before_anything_is_parsed() {
    let refused = ReleaseFile::read(&vec![0; MAX_RELEASE_FILE + 1]).err().unwrap();
    assert!(matches!(refused, BadReleaseFile::Malformed(Malformed::TooLarge { .. })));
}

#[test]
fn every_flipped_bit_and_every_prefix_is_refused_or_changes_no_more_than_a_signature() {
    let bytes = file().to_bytes();
    let whole = ReleaseFile::read(&bytes).unwrap();
    for end in 0..bytes.len() {
        assert!(ReleaseFile::read(&bytes[..end]).is_err(), "{end}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The signatures are verified by whoever has a trust; the content of the release is
        // compared with the targets, and its other fields with the signatures.
        if let Ok(read) = ReleaseFile::read(&flipped) {
            assert_eq!(read.targets(), whole.targets());
            let trust = format!(
                "fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{}\"]",
                key(1).public()
            );
            let trust = crate::trust::Trust::from_toml(&trust).unwrap();
            assert!(crate::signing::verify_release(&read.gathering().seal().0, &trust).is_err());
        }
    }
}

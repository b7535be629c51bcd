//! The host's own health checks: a folder with one check in each `NAME.toml`.
//!
//! It is read anew for each round, so that a system that was activated brings its own checks.

use std::{
    io,
    path::{Path, PathBuf},
};

use herald_proto::{
    codec::{self, Malformed},
    target::Check,
};

use crate::os::Os;

/// The most checks that a folder has.
const MAX_CHECKS: usize = 64;

/// A check of the host's own can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCheck {
    /// A file, or the folder, can't be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no check.
    #[error("cannot use {} as one check", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The check can't be run.
    #[error("cannot use {} as one check", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Malformed,
    },
    /// There are more checks than are run.
    #[error("{} has {count} checks, more than {MAX_CHECKS}", folder.display())]
    TooMany {
        /// Which folder.
        folder: PathBuf,
        /// How many there are.
        count: usize,
    },
}

/// What one file holds: a check, with the file's path, or what is wrong with it.
pub type Entry = Result<(PathBuf, Check), BadCheck>;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckFile {
    check: Check,
}

/// Gives the checks of a folder in the order of their files; none where there is no folder.
///
/// # Errors
/// When the folder can't be read, or holds too many; what is wrong with one file stands in its
/// place.
pub fn read(os: &dyn Os, folder: &Path) -> Result<Vec<Entry>, BadCheck> {
    let names = match os.list(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(BadCheck::Unreadable { path: folder.to_owned(), source }),
    };
    let mut files: Vec<_> = names.into_iter().map(|name| folder.join(name)).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "toml"));
    if files.len() > MAX_CHECKS {
        return Err(BadCheck::TooMany { folder: folder.to_owned(), count: files.len() });
    }
    files.sort();
    Ok(files.into_iter().map(|file| read_file(os, file)).collect())
}

fn read_file(os: &dyn Os, path: PathBuf) -> Entry {
    let text = os
        .read(&path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
        .map_err(|source| BadCheck::Unreadable { path: path.clone(), source })?;
    let check = match toml::from_str::<CheckFile>(&text) {
        Ok(CheckFile { check }) => check,
        Err(source) => return Err(BadCheck::Syntax { path, source: Box::new(source) }),
    };
    // The rules are those for a check in an order.
    match codec::decode::<Check>(&codec::encode(&check)) {
        Ok(check) => Ok((path, check)),
        Err(source) => Err(BadCheck::Unusable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::Linux;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let said = |one: Entry| match one {
            Ok((path, check)) => {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                format!("{name} is {check}")
            }
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        read(&Linux, folder.path()).unwrap().into_iter().map(said).collect()
    }

    #[test]
    fn every_kind_of_check_is_read_in_the_order_of_the_files_names() {
        let files = [
            ("d.toml", "check.http = \"http://127.0.0.1:80/ready status=200-399 within=5s\""),
            ("c.toml", "check = { tcp = \"[::1]:22\" }"),
            ("b.toml", "[check]\nunit = \"sshd.service\""),
            ("a.toml", "check.command = [\"/bin/sh\", \"-c\", \"true\"]"),
            ("README", "no check"),
        ];
        assert_eq!(
            found(&files),
            [
                "a.toml is command [\"/bin/sh\", \"-c\", \"true\"]",
                "b.toml is unit sshd.service",
                "c.toml is tcp [::1]:22",
                "d.toml is http http://127.0.0.1/ready status=200-399 within=5s",
            ]
        );
    }

    #[test]
    fn what_is_no_check_is_named_with_file_and_line_and_the_others_are_read() {
        for (text, said) in [
            ("", "check"),
            ("\ncheck.ping = \"h\"", "line 2"),
            ("check.unit = \"sshd\"", "sshd.service"),
            ("check.command = []", "a command has a program"),
            ("check.http = \"https://h/\"", "curl"),
            ("check.tcp = \"localhost:22\"", "line 1"),
            ("check.unit = \"a.service\"\nwithin = \"5s\"", "line 2"),
            ("check.tcp = \"[::1]:22\"\ncheck.unit = \"a.service\"", "1 element"),
        ] {
            let found = found(&[("bad.toml", text), ("good.toml", "check.unit = \"b.service\"")]);
            assert!(found[0].contains("/bad.toml as one check: "), "{}", found[0]);
            assert!(found[0].contains(said), "{}", found[0]);
            assert!(found[0].matches("TOML parse error").count() <= 1, "{}", found[0]);
            assert_eq!(found[1], "good.toml is unit b.service");
        }
    }

    #[test]
    fn no_folder_is_no_check_and_one_that_is_a_file_or_overfull_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&Linux, &folder.path().join("none")).unwrap().is_empty());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(read(&Linux, &file), Err(BadCheck::Unreadable { .. })));
        for number in 0..=MAX_CHECKS {
            fs::write(folder.path().join(format!("{number}.toml")), "").unwrap();
        }
        assert!(matches!(read(&Linux, folder.path()), Err(BadCheck::TooMany { count: 65, .. })));
    }
}

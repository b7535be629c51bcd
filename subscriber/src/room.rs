//! Room on the disk: how much has to be there before something is fetched, armed or made the boot
//! default, and how much always stays.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use herald_core::Attempt;
use herald_proto::text::Unparsable;

use crate::os::Os;

const MEBIBYTE: u64 = 1 << 20;
/// What boot loaders keep of a system beside its store paths.
const BOOT_FILES: [&str; 2] = ["kernel", "initrd"];
/// How sizes are written; the largest unit first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", MEBIBYTE), ("KiB", 1 << 10), ("B", 1)];

/// How much room stays, whatever is done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Room {
    /// In the file system of the store.
    pub store: Size,
    /// In the file system of the boot loader's files.
    pub boot: Size,
    /// Where the boot loader's files are; without it, where the boot loader has them.
    pub boot_folder: Option<PathBuf>,
}

impl Default for Room {
    fn default() -> Self {
        Self { store: Size(128 * MEBIBYTE), boot: Size(4 * MEBIBYTE), boot_folder: None }
    }
}

/// A number of bytes, written like `128MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(u64);

/// There is too little room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} has {free} free, and {what} takes {needed} beside the {margin} that stay free; make room there",
    folder.display()
)]
pub struct NoRoom {
    /// Where.
    pub folder: PathBuf,
    /// What for.
    pub what: &'static str,
    /// How much that takes.
    pub needed: Size,
    /// How much has to stay.
    pub margin: Size,
    /// How much there is.
    pub free: Size,
}

impl Room {
    /// Checks that there is room for store paths.
    ///
    /// # Errors
    /// When there is too little. A file system that does not tell is not in the way.
    pub fn for_paths(&self, os: &dyn Os, store: &Path, needed: Size) -> Result<(), NoRoom> {
        check(os, store, "what is fetched", needed, self.store)
    }

    /// Checks that there is room for what the boot loader gets of a new system: its kernel and its
    /// initrd, where the previous system has another one.
    ///
    /// # Errors
    /// When there is too little. A file system that does not tell is not in the way.
    pub fn for_boot(
        &self,
        os: &dyn Os,
        loader_folder: Option<&Path>,
        attempt: &Attempt,
    ) -> Result<(), NoRoom> {
        let Some(folder) = self.boot_folder.as_deref().or(loader_folder) else { return Ok(()) };
        let new = attempt.order.target().toplevel.as_path();
        let old = attempt.baseline.previous.as_path();
        let size_of = |name: &&str| {
            let (new, old) = (new.join(name), old.join(name));
            let is_there = os.read_link(&old).is_ok_and(|old| os.read_link(&new).ok() == Some(old));
            if is_there { 0 } else { os.size(&new).unwrap_or(0) }
        };
        let needed = Size(BOOT_FILES.iter().map(size_of).sum());
        check(os, folder, "booting the new system", needed, self.boot)
    }
}

fn check(
    os: &dyn Os,
    folder: &Path,
    what: &'static str,
    needed: Size,
    margin: Size,
) -> Result<(), NoRoom> {
    match os.free(folder) {
        Ok(free) if free < needed.0.saturating_add(margin.0) => {
            Err(NoRoom { folder: folder.to_owned(), what, needed, margin, free: Size(free) })
        }
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "cannot tell how much room there is");
            Ok(())
        }
    }
}

impl Size {
    /// Makes it of a number of bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Gives the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().find(|(_, unit)| self.0 >= 10 * unit);
        let (name, unit) = unit.unwrap_or(("B", 1));
        write!(f, "{} {name}", self.0 / unit)
    }
}

impl FromStr for Size {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let parse = || {
            let (digits, name) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let (_, unit) = UNITS.into_iter().find(|(known, _)| *known == name)?;
            digits.parse::<u64>().ok()?.checked_mul(unit).map(Self)
        };
        parse().ok_or_else(|| Unparsable::new("size", text, "a number with a unit, such as 128MiB"))
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Linux;

    #[test]
    fn sizes_are_read_and_said_in_units() {
        for (text, bytes) in
            [("0B", 0), ("3KiB", 3 << 10), ("128MiB", 128 << 20), ("2TiB", 2 << 40)]
        {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes));
        }
        for text in ["", "12", "MiB", "1.5GiB", "-1B", "1 MiB", "1MB", "99999999999999TiB"] {
            text.parse::<Size>().expect_err(text);
        }
        for (bytes, text) in [(7, "7 B"), (9 << 10, "9216 B"), (11 << 20, "11 MiB")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn there_is_room_only_for_what_leaves_the_margin() {
        let folder = tempfile::tempdir().unwrap();
        let small = Room { store: Size(1), ..Room::default() };
        small.for_paths(&Linux, folder.path(), Size(1)).unwrap();
        let large = Room { store: Size(1 << 60), ..Room::default() };
        let refused = large.for_paths(&Linux, folder.path(), Size(0)).unwrap_err();
        assert!(refused.to_string().contains("make room"), "{refused}");
        small.for_paths(&Linux, folder.path(), Size(u64::MAX)).unwrap_err();
        large.for_paths(&Linux, Path::new("/does/not/exist"), Size(1)).unwrap();
    }
}

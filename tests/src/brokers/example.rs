//! The configurations in `examples/brokers`, which the documentation names and the tests use: with
//! other paths and ports, and otherwise as they are.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the configurations without logins end.
const SECURED: &str = "# Who may connect, and what they may do there.\n";

/// The text of an example, which is changed step by step.
pub(crate) struct Example {
    path: PathBuf,
    text: String,
}

impl Example {
    /// Reads an example by its path in `examples/brokers`.
    pub(crate) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/brokers").join(name);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self { path, text }
    }

    /// Replaces a text.
    ///
    /// # Panics
    /// When it does not occur: the example and the test have parted.
    pub(crate) fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "{} does not say {old:?}", self.path.display());
        self.text = self.text.replace(old, new);
        self
    }

    /// Takes away the last part, which says who may connect, and puts another in its place.
    pub(crate) fn open_instead(mut self, settings: &str) -> Self {
        let end = self.text.find(SECURED);
        let end = end.unwrap_or_else(|| panic!("{} has no {SECURED:?}", self.path.display()));
        self.text.truncate(end);
        self.plus(settings)
    }

    /// Adds settings that only tests need.
    pub(crate) fn plus(mut self, settings: &str) -> Self {
        self.text += settings;
        self
    }

    /// Writes it into a folder under its own name.
    pub(crate) fn write(self, folder: &Path) -> PathBuf {
        let written = folder.join(self.path.file_name().expect("an example is a file"));
        fs::write(&written, self.text).expect("a configuration can be written");
        written
    }
}

//! Changing a fleet file's text: its hosts and tokens, and not a blank of the rest.

use herald_proto::{host::HostId, key::PublicKey, time::Timestamp};
use toml_edit::{DocumentMut, Item, Table, TableLike, TomlError, value};

use crate::roster::host_key;

/// The text of a fleet file that is being changed.
#[derive(Debug, Clone)]
pub struct Editing(DocumentMut);

/// A text that can't be changed in this way.
#[derive(Debug, thiserror::Error)]
pub enum BadText {
    /// It is not TOML.
    #[error(transparent)]
    Syntax(#[from] TomlError),
    /// A section is something else.
    #[error("[{section}] is no table in it")]
    NoTable {
        /// The section's name.
        section: &'static str,
    },
}

const HOSTS: &str = "hosts";
const TOKENS: &str = "tokens";

impl Editing {
    /// Takes a text.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn of(text: &str) -> Result<Self, BadText> {
        Ok(Self(text.parse()?))
    }

    /// Pins the key by which a host is known, which is named after the host.
    ///
    /// # Errors
    /// When the section is no table.
    pub fn pin(&mut self, host: &HostId, key: &PublicKey) -> Result<(), BadText> {
        self.set(HOSTS, host, "key", &host_key(host, &key.into()).to_string())
    }

    /// Forgets a host.
    pub fn unpin(&mut self, host: &HostId) {
        self.remove(HOSTS, host);
    }

    /// Adds the token with which a host may ask, in place of one that is there.
    ///
    /// # Errors
    /// When the section is no table.
    pub fn invite(
        &mut self,
        host: &HostId,
        token: &PublicKey,
        expires_at: Timestamp,
    ) -> Result<(), BadText> {
        self.set(TOKENS, host, "key", &host_key(host, &token.into()).to_string())?;
        self.set(TOKENS, host, "expires_at", &expires_at.to_string())
    }

    /// Forgets a host's token.
    pub fn uninvite(&mut self, host: &HostId) {
        self.remove(TOKENS, host);
    }

    fn set(
        &mut self,
        section: &'static str,
        host: &HostId,
        setting: &str,
        text: &str,
    ) -> Result<(), BadText> {
        let bad = || BadText::NoTable { section };
        let tables = self.0.entry(section).or_insert_with(|| {
            let mut table = Table::new();
            // Its own heading would say nothing.
            table.set_implicit(true);
            Item::Table(table)
        });
        let tables = tables.as_table_like_mut().ok_or_else(bad)?;
        let table = tables.entry(host.as_str()).or_insert_with(|| Item::Table(Table::new()));
        let table = table.as_table_like_mut().ok_or_else(bad)?;
        table.insert(setting, value(text));
        Ok(())
    }

    fn remove(&mut self, section: &str, host: &HostId) {
        let tables = self.0.get_mut(section).and_then(Item::as_table_like_mut);
        let Some(tables) = tables else { return };
        tables.remove(host.as_str());
        let is_left_empty = TableLike::is_empty(tables);
        if is_left_empty {
            self.0.remove(section);
        }
    }
}

impl std::fmt::Display for Editing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::Fleet,
        testing::{self, host},
    };

    const FILE: &str =
        "# Ours.\nfleet = \"home\" # not for guests\nbroker = \"mqtt://127.0.0.1\"\n";

    fn edited(text: &str, change: impl FnOnce(&mut Editing)) -> String {
        let mut editing = Editing::of(text).unwrap();
        change(&mut editing);
        editing.to_string()
    }

    #[test]
    fn what_is_added_is_read_again_and_taken_out_without_a_trace() {
        let (web, db, until) = (host("web-1"), host("db"), Timestamp::from_millis(86_400_000));
        let before = format!(
            "{FILE}\n[hosts.a]   # the first\nkey = \"{}\"\n",
            testing::host_key(3).public()
        );
        let text = edited(&before, |editing| {
            editing.pin(&web, testing::host_key(1).public()).unwrap();
            editing.invite(&db, testing::host_key(2).public(), until).unwrap();
        });
        let fleet = Fleet::from_toml(&text).unwrap();
        let key = fleet.host(&web).unwrap().key();
        assert_eq!(
            (key.id(), key.name().to_string()),
            (testing::host_key(1).public().id(), "web-1".into())
        );
        let token = fleet.token(&db).unwrap();
        assert_eq!(
            (token.key().id(), token.expires_at()),
            (testing::host_key(2).public().id(), until)
        );
        assert!(text.starts_with(&before), "{text}");

        let again = edited(&text, |editing| {
            editing.unpin(&web);
            editing.uninvite(&db);
            editing.uninvite(&db);
        });
        assert_eq!(again.trim_end(), before.trim_end());
    }

    #[test]
    fn a_key_takes_the_place_of_the_one_before_however_the_tables_are_written() {
        let keys = [1, 2].map(|n| testing::host_key(n).public().to_string());
        for before in [
            format!("{FILE}[hosts.web-1]\nkey = \"{}\"\n", keys[0]),
            format!("{FILE}[hosts]\nweb-1.key = \"{}\"\n", keys[0]),
            format!("{FILE}[hosts]\nweb-1 = {{ key = \"{}\" }}\n", keys[0]),
            format!("{FILE}hosts = {{ web-1 = {{ key = \"{}\" }} }}\n", keys[0]),
        ] {
            let text = edited(&before, |editing| {
                editing.pin(&host("web-1"), testing::host_key(2).public()).unwrap();
                editing.pin(&host("db"), testing::host_key(4).public()).unwrap();
            });
            let fleet = Fleet::from_toml(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(fleet.hosts().len(), 2);
            let key = fleet.host(&host("web-1")).unwrap().key();
            assert_eq!(key.id(), testing::host_key(2).public().id());
        }
    }

    #[test]
    fn what_is_no_table_is_refused_and_never_replaced() {
        let mut editing = Editing::of("hosts = 3\n").unwrap();
        let refused = editing.pin(&host("a"), testing::host_key(1).public()).unwrap_err();
        assert_eq!(refused.to_string(), "[hosts] is no table in it");
        assert_eq!(editing.to_string(), "hosts = 3\n");
        assert!(Editing::of("hosts = ").is_err());
    }
}

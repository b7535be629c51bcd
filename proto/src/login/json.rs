//! A JSON object with exactly the members that are expected, each once.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{LoginError, Part, cut};

/// The members of an object: all that are known, and no others.
pub(super) struct Object {
    part: Part,
    members: Vec<(String, Value)>,
}

impl Object {
    /// Parses an object whose members are exactly `known`.
    ///
    /// serde_json keeps the last of two members with the same name, as most readers do, while some
    /// keep the first; so they are counted here.
    pub(super) fn parse(
        part: Part,
        bytes: &[u8],
        known: &[&'static str],
    ) -> Result<Self, LoginError> {
        let parsed = serde_json::from_slice(bytes);
        let Members(members) = parsed.map_err(|_| LoginError::NotAnObject { part })?;
        for (index, (name, _)) in members.iter().enumerate() {
            let member = cut(name, 64);
            if !known.contains(&name.as_str()) {
                return Err(LoginError::Unknown { part, member });
            }
            if members[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(LoginError::Twice { part, member });
            }
        }
        let is_missing = |name: &&&str| !members.iter().any(|(member, _)| member == **name);
        match known.iter().find(is_missing) {
            Some(member) => Err(LoginError::Missing { part, member }),
            None => Ok(Self { part, members }),
        }
    }

    /// Gives a member that is a text.
    pub(super) fn text(&self, member: &'static str) -> Result<&str, LoginError> {
        self.find(member)?.as_str().ok_or(self.mistyped(member, "a text"))
    }

    /// Gives a member that is a whole number, not negative and not written as a fraction.
    pub(super) fn number(&self, member: &'static str) -> Result<u64, LoginError> {
        self.find(member)?.as_u64().ok_or(self.mistyped(member, "a whole number of seconds"))
    }

    fn find(&self, member: &'static str) -> Result<&Value, LoginError> {
        let found = self.members.iter().find(|(name, _)| name == member);
        found.map(|(_, value)| value).ok_or(LoginError::Missing { part: self.part, member })
    }

    fn mistyped(&self, member: &'static str, expected: &'static str) -> LoginError {
        LoginError::Type { part: self.part, member, expected }
    }
}

/// The members in the order in which they stand, also those that stand twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

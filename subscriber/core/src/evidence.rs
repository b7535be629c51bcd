//! The message with which an order came, kept for whoever has to judge its signatures again.

use std::{fmt, sync::Arc};

use serde::{Deserializer, Serializer, de::Visitor};

/// A message as it was received: at most as long as a message may be, and stored as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Evidence(Arc<[u8]>);

impl Evidence {
    /// Keeps a message.
    pub(crate) fn new(message: &[u8]) -> Self {
        Self(message.into())
    }

    /// Gives the message.
    pub fn message(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl serde::Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Evidence;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a message")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Evidence, E> {
                Ok(Evidence(bytes.into()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

//! Deterministic CBOR (RFC 8949 §4.2.1) for messages that are maps with integer keys.
//!
//! A message that is not in deterministic form is refused, so each value has one encoding and
//! a parser can't be shown something else than what was signed. Floats, tags and nesting deeper
//! than [`MAX_DEPTH`] are refused; the size is looked at before anything is parsed.

pub use ciborium::Value;

/// The largest message in bytes, an order with its proof included.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// How deeply arrays and maps nest at the most.
pub const MAX_DEPTH: usize = 12;

/// Bytes that are not a well-formed message, with the place and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More bytes than a message may have.
    #[error("{size} bytes are more than the {limit} that it may have")]
    TooLarge {
        /// How many bytes there were.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not CBOR at all, or cut off.
    #[error("not a CBOR item: {0}")]
    NotCbor(String),
    /// CBOR, but not its one deterministic encoding.
    #[error("not deterministic CBOR (RFC 8949 section 4.2.1)")]
    NotDeterministic,
    /// A well-formed item with a value that the message does not allow.
    #[error("{path}{problem}")]
    Field {
        /// Where: field names from the outside in, each followed by a colon.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl Malformed {
    /// Says that a value is not acceptable, for the reason that `problem` gives.
    pub fn invalid(problem: &impl ToString) -> Self {
        Self::Field { path: String::new(), problem: problem.to_string() }
    }

    fn within(self, name: &str) -> Self {
        match self {
            Self::Field { path, problem } => {
                Self::Field { path: format!("{name}: {path}"), problem }
            }
            other => other,
        }
    }
}

/// A value with a wire form.
pub trait Wire: Sized {
    /// Gives the CBOR item.
    fn to_value(&self) -> Value;

    /// Reads the CBOR item.
    ///
    /// # Errors
    /// What is not acceptable, and where.
    fn from_value(value: Value) -> Result<Self, Malformed>;
}

/// Encodes a message; total, as every message type encodes to integers, strings, arrays and maps.
pub fn encode(message: &impl Wire) -> Vec<u8> {
    encode_value(&message.to_value())
}

/// Decodes a message of at most [`MAX_MESSAGE`] bytes.
///
/// # Errors
/// When the bytes are too many, not deterministic CBOR, or not this message.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Malformed> {
    T::from_value(decode_value(bytes, &[])?)
}

/// Decodes one deterministic CBOR item in which only the tags of `tags` may be, and only outside.
pub(crate) fn decode_value(bytes: &[u8], tags: &[u64]) -> Result<Value, Malformed> {
    decode_value_within(bytes, tags, MAX_MESSAGE)
}

/// Decodes one deterministic CBOR item of at most `limit` bytes.
pub(crate) fn decode_value_within(
    bytes: &[u8],
    tags: &[u64],
    limit: usize,
) -> Result<Value, Malformed> {
    if bytes.len() > limit {
        return Err(Malformed::TooLarge { size: bytes.len(), limit });
    }
    let mut rest = bytes;
    let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| Malformed::NotCbor(error.to_string()))?;
    let inner = match &value {
        Value::Tag(tag, inner) if tags.contains(tag) => inner,
        untagged => untagged,
    };
    if !rest.is_empty() || !is_deterministic(inner) || encode_value(&value) != bytes {
        return Err(Malformed::NotDeterministic);
    }
    Ok(value)
}

pub(crate) fn encode_value(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    ciborium::into_writer(value, &mut bytes).expect("writing CBOR to memory can't fail");
    bytes
}

/// Tells what re-encoding can't: whether keys are integers that ascend without repeats, and no float
/// or tag is there.
fn is_deterministic(value: &Value) -> bool {
    match value {
        Value::Integer(_) | Value::Bytes(_) | Value::Text(_) | Value::Bool(_) => true,
        Value::Array(items) => items.iter().all(is_deterministic),
        Value::Map(entries) => {
            let keys: Vec<_> = entries.iter().map(|(key, _)| encode_value(key)).collect();
            keys.is_sorted_by(|a, b| a < b)
                && entries.iter().all(|(key, value)| key.is_integer() && is_deterministic(value))
        }
        _ => false,
    }
}

/// Gives the version that a file of this format says it has, before the rest is looked at: of that a
/// newer version may have more. None where it is no such file.
pub(crate) fn file_version(value: &Value, format: &str) -> Option<u64> {
    let [(first, found), (second, version)] = value.as_map()?.first_chunk::<2>()?;
    let is_one =
        *first == Value::from(1) && *second == Value::from(2) && found.as_text() == Some(format);
    let version = version.as_integer().and_then(|version| u64::try_from(version).ok())?;
    is_one.then_some(version)
}

/// Takes the text out of an item.
pub(crate) fn text(value: Value) -> Result<String, Malformed> {
    value.into_text().map_err(|_| Malformed::invalid(&"expected a text string"))
}

/// Takes the bytes out of an item.
pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, Malformed> {
    value.into_bytes().map_err(|_| Malformed::invalid(&"expected a byte string"))
}

/// Takes the items out of an array.
pub(crate) fn array(value: Value) -> Result<Vec<Value>, Malformed> {
    value.into_array().map_err(|_| Malformed::invalid(&"expected an array"))
}

/// Whether keys that a reader does not know are an error (orders) or passed over (reports).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// A message that asks for something must be understood whole.
    Refuse,
    /// A message that tells something may tell more than its reader knows.
    Ignore,
}

/// Collects the fields of a map in ascending order of their keys.
#[derive(Default)]
pub struct MapWriter(Vec<(Value, Value)>);

impl MapWriter {
    pub(crate) fn required(&mut self, key: u64, value: &impl Wire) {
        self.0.push((Value::from(key), value.to_value()));
    }

    pub(crate) fn optional(&mut self, key: u64, value: &Option<impl Wire>) {
        if let Some(value) = value {
            self.required(key, value);
        }
    }

    pub(crate) fn list(&mut self, key: u64, values: &Vec<impl Wire>) {
        if !values.is_empty() {
            self.required(key, values);
        }
    }

    pub(crate) fn finish(self) -> Value {
        Value::Map(self.0)
    }
}

/// Takes the fields out of a map, one by one, and then accounts for the rest.
pub struct MapReader(Vec<(Value, Value)>);

impl MapReader {
    pub(crate) fn open(value: Value) -> Result<Self, Malformed> {
        let entries = value.into_map().map_err(|_| Malformed::invalid(&"expected a map"))?;
        Ok(Self(entries))
    }

    pub(crate) fn required<T: Wire>(&mut self, key: u64, name: &str) -> Result<T, Malformed> {
        self.optional(key, name)?.ok_or_else(|| Malformed::invalid(&"is missing").within(name))
    }

    pub(crate) fn optional<T: Wire>(
        &mut self,
        key: u64,
        name: &str,
    ) -> Result<Option<T>, Malformed> {
        let key = Value::from(key);
        let Some(at) = self.0.iter().position(|(found, _)| *found == key) else {
            return Ok(None);
        };
        let (_, value) = self.0.remove(at);
        T::from_value(value).map(Some).map_err(|error| error.within(name))
    }

    pub(crate) fn list<T: Wire>(&mut self, key: u64, name: &str) -> Result<Vec<T>, Malformed> {
        match self.optional::<Vec<T>>(key, name)? {
            Some(list) if list.is_empty() => {
                Err(Malformed::invalid(&"an empty list is left out").within(name))
            }
            list => Ok(list.unwrap_or_default()),
        }
    }

    pub(crate) fn close(self, unknown: UnknownKeys) -> Result<(), Malformed> {
        match self.0.first() {
            Some((key, _)) if unknown == UnknownKeys::Refuse => {
                let key = key
                    .as_integer()
                    .map_or_else(|| "?".to_owned(), |it| i128::from(it).to_string());
                Err(Malformed::invalid(&format!(
                    "it has the key {key}, as a newer version may write"
                )))
            }
            _ => Ok(()),
        }
    }
}

macro_rules! wire_integers {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn to_value(&self) -> Value {
                Value::from(*self)
            }

            fn from_value(value: Value) -> Result<Self, Malformed> {
                let range = || Malformed::invalid(&concat!("expected a whole number, ", stringify!($type)));
                let integer = value.into_integer().map_err(|_| range())?;
                Self::try_from(integer).map_err(|_| range())
            }
        }
    )*};
}
wire_integers!(u16, u32, u64);

impl Wire for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        value.into_bool().map_err(|_| Malformed::invalid(&"expected true or false"))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(Wire::to_value).collect())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let items = array(value)?.into_iter().enumerate();
        items
            .map(|(i, item)| T::from_value(item).map_err(|e| e.within(&format!("[{i}]"))))
            .collect()
    }
}

impl Wire for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        text(value)
    }
}

/// A byte string: ciborium would write a `Vec<u8>` as an array of integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Wire for Bytes {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.clone())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        bytes(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> Malformed {
        decode_value(bytes, &[]).expect_err("must be refused")
    }

    #[test]
    fn encodings_that_are_not_the_deterministic_one_are_refused() {
        let cases: &[(&str, &[u8])] = &[
            ("an integer longer than needed", &[0x18, 0x05]),
            ("an indefinite-length array", &[0x9f, 0x01, 0xff]),
            ("an indefinite-length map", &[0xbf, 0x01, 0x02, 0xff]),
            ("an indefinite-length string", &[0x7f, 0x61, 0x61, 0xff]),
            ("keys that do not ascend", &[0xa2, 0x02, 0x00, 0x01, 0x00]),
            ("a key twice", &[0xa2, 0x01, 0x00, 0x01, 0x00]),
            ("a key that is no integer", &[0xa2, 0x01, 0x00, 0xf5, 0x00]),
            ("a float", &[0xf9, 0x3c, 0x00]),
            ("a null", &[0xf6]),
            ("a tag", &[0xc1, 0x01]),
            ("a tag inside", &[0x81, 0xc1, 0x01]),
            ("bytes after the item", &[0x01, 0x01]),
        ];
        for (what, bytes) in cases {
            assert_eq!(refused(bytes), Malformed::NotDeterministic, "{what}");
        }
    }

    #[test]
    fn a_length_that_is_a_lie_costs_no_memory() {
        for lie in [
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        ] {
            assert!(matches!(refused(lie), Malformed::NotCbor(_)));
        }
    }

    #[test]
    fn deep_nesting_and_great_size_are_refused_before_they_cost() {
        assert!(matches!(refused(&[0x81; 1000]), Malformed::NotCbor(_)));
        assert!(matches!(refused(&[0; MAX_MESSAGE + 1]), Malformed::TooLarge { .. }));
    }
}

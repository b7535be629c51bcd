//! Macros for the small closed vocabularies of the protocol.

/// Declares an enum of codes: a stable integer on the wire and a kebab-case name for people.
///
/// A code that this version does not know is kept as `Unknown(n)`, shown as `unknown-n`, and
/// written again unchanged, so that an older reader never loses what a newer writer said.
macro_rules! codes {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[doc = $meaning:literal])* $variant:ident = $code:literal => $text:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $meaning])* $variant,)*
            /// A code that this version does not know.
            Unknown(u16),
        }

        impl $name {
            /// Every code that this version knows, in the order of their integers.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),*];

            /// Gives the stable integer.
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// Says what it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),*).trim_ascii(),)*
                    Self::Unknown(_) => "A code that this version does not know.",
                }
            }

            /// Gives the code for an integer; total.
            pub const fn from_code(code: u16) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.pad($text),)*
                    Self::Unknown(code) => f.pad(&format!("unknown-{code}")),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::text::Unparsable;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    other => other
                        .strip_prefix("unknown-")
                        .and_then(|code| code.parse().ok())
                        .map(Self::from_code)
                        .ok_or_else(|| crate::text::Unparsable::new(stringify!($name), text, &[$($text),*].join(", "))),
                }
            }
        }

        impl crate::codec::Wire for $name {
            fn to_value(&self) -> crate::codec::Value {
                self.code().to_value()
            }

            fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
                u16::from_value(value).map(Self::from_code)
            }
        }

        serde_as_text!($name);
    };
}

/// Implements serde through `Display` and `FromStr`: one text form, in JSON as in files.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Implements [`crate::codec::Wire`] through `Display` and `FromStr`, as a text string.
macro_rules! wire_as_text {
    ($name:ident) => {
        impl crate::codec::Wire for $name {
            fn to_value(&self) -> crate::codec::Value {
                crate::codec::Value::Text(self.to_string())
            }

            fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
                let text = crate::codec::text(value)?;
                text.parse().map_err(|error| crate::codec::Malformed::invalid(&error))
            }
        }
    };
}

/// Declares the wire form of a struct: a CBOR map with small integer keys.
///
/// `required` fields must be there; an `optional` one (an `Option`) is absent for `None`; a `list`
/// (a `Vec`) is absent when it is empty, and an empty one on the wire is refused, so that each
/// value has one encoding. Keys are listed in ascending order, which is the deterministic one.
macro_rules! wire_map {
    ($type:ty, unknown keys $unknown:ident: $($key:literal => $field:ident $kind:ident,)*) => {
        impl crate::codec::Wire for $type {
            fn to_value(&self) -> crate::codec::Value {
                let mut fields = crate::codec::MapWriter::default();
                $(fields.$kind($key, &self.$field);)*
                fields.finish()
            }

            fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
                let mut fields = crate::codec::MapReader::open(value)?;
                let decoded = Self { $($field: fields.$kind($key, stringify!($field))?,)* };
                fields.close(crate::codec::UnknownKeys::$unknown)?;
                Ok(decoded)
            }
        }
    };
}

/// Declares an identifier of `$size` bytes, shown in hexadecimal.
macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident, $size:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) [u8; $size]);

        impl $name {
            /// Makes it from its bytes.
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// Gives its bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&$crate::id::hex(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::text::Unparsable;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::id::unhex(text).map(Self).ok_or_else(|| {
                    let expected = concat!($size, " bytes in lower-case hexadecimal");
                    crate::text::Unparsable::new(stringify!($name), text, expected)
                })
            }
        }

        serde_as_text!($name);

        impl crate::codec::Wire for $name {
            fn to_value(&self) -> crate::codec::Value {
                crate::codec::Value::Bytes(self.0.to_vec())
            }

            fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
                let bytes = crate::codec::bytes(value)?;
                <[u8; $size]>::try_from(bytes.as_slice()).map(Self).map_err(|_| {
                    crate::codec::Malformed::invalid(&concat!("expected ", $size, " bytes"))
                })
            }
        }
    };
}

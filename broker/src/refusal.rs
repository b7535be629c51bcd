//! Why a client was refused something or closed: each reason has a name, by which it is counted.

use std::fmt;

macro_rules! refusals {
    ($($(#[doc = $meaning:literal])* $variant:ident => $name:literal,)*) => {
        /// Why a client was refused something, or its connection closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[doc = $meaning])* $variant,)*
        }

        impl Refusal {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Gives the name by which it is counted.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Says what it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),*).trim_ascii(),)*
                }
            }
        }
    };
}

refusals! {
    /// More connections than the configuration allows.
    FullHouse => "full-house",
    /// More connections from one address than the configuration allows.
    AddressFull => "address-full",
    /// The system had no more files or memory for a connection.
    OutOfFiles => "out-of-files",
    /// No CONNECT within the time for it, TLS and WebSocket handshakes included.
    HandshakeTimeout => "handshake-timeout",
    /// The TLS handshake failed.
    Tls => "tls",
    /// The WebSocket handshake failed, or a frame was no binary one.
    WebSocket => "websocket",
    /// Bytes that are no MQTT packet.
    Malformed => "malformed",
    /// A packet larger than the configuration allows.
    TooLarge => "too-large",
    /// A packet that a client does not send, or not then.
    Unexpected => "unexpected",
    /// Another protocol or version than MQTT 3.1.1.
    ProtocolVersion => "protocol-version",
    /// A client id that is empty, too long, of other characters, or another principal's.
    ClientId => "client-id",
    /// A user name, password or certificate that is missing or wrong.
    BadLogin => "bad-login",
    /// The session's login was changed or taken away.
    LoginChanged => "login-changed",
    /// A topic that is none of Herald's.
    Topic => "topic",
    /// A filter that is none of Herald's, or a shared subscription.
    Filter => "filter",
    /// More filters than a session, or a login, may have.
    TooManyFilters => "too-many-filters",
    /// More persistent sessions than a login may have.
    TooManySessions => "too-many-sessions",
    /// A retained message of another topic than there is room for.
    TooManyTopics => "too-many-topics",
    /// A publish with QoS 2.
    QoS => "qos",
    /// A last will that is not allowed.
    Will => "will",
    /// A publish that this principal may not make.
    PublishDenied => "publish-denied",
    /// An entry of the roster that those who sign it have not signed, or that is not the latest.
    RosterEntry => "roster-entry",
    /// A subscription that this principal may not make.
    SubscribeDenied => "subscribe-denied",
    /// Nothing came within one and a half times the keep-alive.
    KeepAlive => "keep-alive",
    /// A subscriber that took nothing for too long while messages waited for it.
    Slow => "slow",
    /// Another connection with the same client id took its place.
    TakenOver => "taken-over",
    /// The retained message could not be stored.
    NotStored => "not-stored",
    /// The broker is being stopped.
    Stopping => "stopping",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! The types of the options about connections whose values are names from fixed lists.

use proxy::config::{ChannelBinding, ClientTlsMode, ServerTlsMode, TlsNegotiation, TlsVersion};
use toml::de::DeValue;
use wire::startup::ProtocolVersion;

use super::values::FromToml;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident($inner:ty), $kind:literal: $( $name:literal => $value:expr, )*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $type(pub $inner);

        impl FromToml for $type {
            const KIND: &'static str = $kind;

            fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
                match value.as_str() {
                    $( Some($name) => Ok(Self($value)), )*
                    _ => Err(concat!("it must be one of ", $kind).to_owned()),
                }
            }
        }
    };
}

names! {
    /// What clients may and must do.
    TlsClientMode(ClientTlsMode),
    "\"disable\", \"allow\", \"prefer\", \"require\", \"verify-ca\", \"verify-full\"":
    "disable" => ClientTlsMode::Disable,
    "allow" => ClientTlsMode::Allow,
    "prefer" => ClientTlsMode::Prefer,
    "require" => ClientTlsMode::Require,
    "verify-ca" => ClientTlsMode::VerifyCa,
    "verify-full" => ClientTlsMode::VerifyFull,
}

names! {
    /// What connections to servers must be.
    TlsServerMode(ServerTlsMode),
    "\"disable\", \"allow\", \"prefer\", \"require\", \"verify-ca\", \"verify-full\"":
    "disable" => ServerTlsMode::Disable,
    "allow" => ServerTlsMode::Allow,
    "prefer" => ServerTlsMode::Prefer,
    "require" => ServerTlsMode::Require,
    "verify-ca" => ServerTlsMode::VerifyCa,
    "verify-full" => ServerTlsMode::VerifyFull,
}

names! {
    /// The oldest version of TLS.
    TlsMinVersion(TlsVersion), "\"1.2\", \"1.3\"":
    "1.2" => TlsVersion::V1_2,
    "1.3" => TlsVersion::V1_3,
}

names! {
    /// How TLS begins.
    TlsBegin(TlsNegotiation), "\"postgres\", \"direct\"":
    "postgres" => TlsNegotiation::Postgres,
    "direct" => TlsNegotiation::Direct,
}

names! {
    /// A version of PostgreSQL's protocol.
    Protocol(ProtocolVersion), "\"3.0\", \"3.2\"":
    "3.0" => ProtocolVersion::V3_0,
    "3.2" => ProtocolVersion::V3_2,
}

names! {
    /// Whether logins are bound to the connection.
    TlsBinding(ChannelBinding), "\"disable\", \"prefer\", \"require\"":
    "disable" => ChannelBinding::Disable,
    "prefer" => ChannelBinding::Prefer,
    "require" => ChannelBinding::Require,
}

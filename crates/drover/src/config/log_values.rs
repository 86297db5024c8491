//! The types of options about logs and traces.

use proxy::trace::Endpoint;
use toml::de::DeValue;

use super::values::FromToml;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which events are logged: this one and those that are graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed for good.
    Error,
    /// Something is wrong.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

/// Where a collector takes spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp(pub Endpoint);

impl LogLevel {
    /// As log filters write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromToml for bool {
    const KIND: &'static str = "`true` or `false`";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| "it is `true` or `false`, without quotes".to_owned())
    }
}

impl FromToml for LogFormat {
    const KIND: &'static str = "\"text\" or \"json\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err("a log format is \"text\" or \"json\"".to_owned()),
        }
    }
}

impl FromToml for LogLevel {
    const KIND: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let levels = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        levels
            .into_iter()
            .find(|level| value.as_str() == Some(level.as_str()))
            .ok_or_else(|| "a log level is \"error\", \"warn\", \"info\", \"debug\" or \"trace\"".to_owned())
    }
}

impl FromToml for Ratio {
    const KIND: &'static str = "number from 0 to 1";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        };
        match number {
            Some(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            _ => Err("a share is a number from 0 to 1, such as 0.05".to_owned()),
        }
    }
}

impl FromToml for Otlp {
    const KIND: &'static str = "URL, such as \"http://localhost:4318\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value
            .as_str()
            .ok_or("a collector is given as a URL in quotes, such as \"http://localhost:4318\"")?;
        text.parse()
            .map(Self)
            .map_err(|error| format!("the collector's URL: {error}"))
    }
}

//! The types of options.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::Secret;
use toml::de::DeValue;

/// The longest identifier in PostgreSQL, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A value that can be read from TOML.
pub(super) trait FromToml: Sized {
    /// What it looks like, for the documentation.
    const KIND: &'static str;
    /// Whether an option of this type without a default must be given.
    const REQUIRED: bool = true;
    /// Whether it may also be written as `{ file = "…" }` or `{ env = "…" }`.
    const SECRET: bool = false;
    /// The message says what is wrong; it never shows a secret.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
    /// The value when the option is left out and has no default.
    fn absent() -> Option<Self> {
        None
    }
}

/// A name in PostgreSQL: of a database, a role, a shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub String);

/// Any text without a zero byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

/// Where clients connect: one address or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The first.
    pub first: SocketAddr,
    /// The others.
    pub others: Vec<SocketAddr>,
}

impl Listen {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

/// Addresses at which one proxy can listen.
const LISTEN_MAX: usize = 16;

/// Permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name, address (IPv6 without brackets), or a directory (starting with `/`) that holds a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// One SQL statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql(pub String);

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMethod(pub proxy::auth::Method);

/// What a client's password is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Clear(Secret),
    /// `md5` and 32 hexadecimal digits, as PostgreSQL stores it.
    Md5(Secret),
    /// A SCRAM-SHA-256 verifier in PostgreSQL's form.
    Verifier(Secret),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<T: FromToml> FromToml for Option<T> {
    const KIND: &'static str = T::KIND;
    const REQUIRED: bool = false;
    const SECRET: bool = T::SECRET;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl FromToml for usize {
    const KIND: &'static str = "number";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let integer = value
            .as_integer()
            .ok_or_else(|| expected("a whole number", value))?;
        // Bounded so that sums and products of settings cannot overflow.
        match u32::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Ok(number as usize),
            Err(_) => Err(format!("{integer} is not a number from 0 to {}", u32::MAX)),
        }
    }
}

impl FromToml for Duration {
    const KIND: &'static str = "duration, such as \"500ms\", \"5s\", \"10m\" or \"1h\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "a duration such as \"500ms\", \"5s\", \"10m\" or \"1h\"";
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        let (number, unit) = split_unit(text);
        let number = number.parse::<u32>().ok().map(u64::from);
        let duration = match unit {
            "ms" => number.map(Duration::from_millis),
            "s" => number.map(Duration::from_secs),
            "m" => number.map(|minutes| Duration::from_secs(minutes * 60)),
            "h" => number.map(|hours| Duration::from_secs(hours * 3600)),
            _ => None,
        };
        duration.ok_or_else(|| format!("`{}` is not {example}", shown(text)))
    }
}

impl FromToml for Bytes {
    const KIND: &'static str = "size, such as \"64MiB\", \"1GiB\", or a number of bytes";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "a size such as \"64MiB\", or a number of bytes";
        if value.is_integer() {
            return usize::from_toml(value).map(Bytes);
        }
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        let (number, unit) = split_unit(text);
        let factor: Option<u64> = match unit {
            "B" => Some(1),
            "KiB" | "kB" => Some(1 << 10),
            "MiB" | "MB" => Some(1 << 20),
            "GiB" | "GB" => Some(1 << 30),
            _ => None,
        };
        let bytes = number
            .parse::<u32>()
            .ok()
            .zip(factor)
            .map(|(number, factor)| u64::from(number) * factor);
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes
            .map(Bytes)
            .ok_or_else(|| format!("`{}` is not {example}", shown(text)))
    }
}

impl FromToml for FileMode {
    const KIND: &'static str = "permissions in octal, such as \"0770\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "permissions in octal, such as \"0770\"";
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(FileMode)
            .ok_or_else(|| format!("`{}` is not {example}", shown(text)))
    }
}

impl FromToml for SocketAddr {
    const KIND: &'static str = "address and port, such as \"127.0.0.1:6432\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "an IP address and a port, such as \"127.0.0.1:6432\"";
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        text.parse()
            .map_err(|_| format!("`{}` is not {example}", shown(text)))
    }
}

impl FromToml for Listen {
    const KIND: &'static str = "address and port, such as \"127.0.0.1:6432\", or a list of them";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(list) = value.as_array() else {
            return Ok(Self {
                first: SocketAddr::from_toml(value)?,
                others: Vec::new(),
            });
        };
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for value in list {
            let address = SocketAddr::from_toml(value.get_ref())?;
            if addresses.contains(&address) && address.port() != 0 {
                return Err(format!("{address} is listed twice"));
            }
            addresses.push(address);
        }
        if addresses.is_empty() || addresses.len() > LISTEN_MAX {
            return Err(format!("a list has 1 to {LISTEN_MAX} addresses"));
        }
        let others = addresses.split_off(1);
        Ok(Self {
            first: addresses[0],
            others,
        })
    }
}

impl FromToml for HostPort {
    const KIND: &'static str = "\"host:port\", or \"/socket/directory:port\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "\"host:port\", such as \"db1.example.com:5432\" or \"[::1]:5432\"";
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        parse_host_port(text).ok_or_else(|| format!("`{}` is not {example}", shown(text)))
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    const KIND: &'static str = "list";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let array = value
            .as_array()
            .ok_or_else(|| expected("a list, [\u{2026}]", value))?;
        array
            .iter()
            .map(|element| T::from_toml(element.get_ref()))
            .collect()
    }
}

impl FromToml for Name {
    const KIND: &'static str = "name";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value
            .as_str()
            .ok_or_else(|| expected("a name in quotes", value))?;
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains('\0') {
            return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes"));
        }
        Ok(Name(text.to_owned()))
    }
}

impl FromToml for Text {
    const KIND: &'static str = "text";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) if !text.contains('\0') => Ok(Text(text.to_owned())),
            _ => Err(expected("text in quotes", value)),
        }
    }
}

impl FromToml for PathBuf {
    const KIND: &'static str = "path";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("") | None => Err(expected("a path in quotes", value)),
            Some(text) => Ok(PathBuf::from(text)),
        }
    }
}

impl FromToml for Sql {
    const KIND: &'static str = "statement";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) if !text.trim().is_empty() && !text.contains('\0') => Ok(Sql(text.to_owned())),
            _ => Err(expected("a statement in quotes", value)),
        }
    }
}

impl FromToml for AuthMethod {
    const KIND: &'static str = "method";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let example = "\"scram-sha-256\", \"md5\", \"password\", \"cert\", \"peer\", \"trust\" or \"reject\"";
        let text = value.as_str().ok_or_else(|| expected(example, value))?;
        proxy::auth::Method::by_name(text)
            .map(AuthMethod)
            .ok_or_else(|| format!("`{}` is not {example}", shown(text)))
    }
}

impl FromToml for Secret {
    const KIND: &'static str = "text, `{ file = \"…\" }` or `{ env = \"…\" }`";
    const SECRET: bool = true;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) if !text.is_empty() && !text.contains('\0') => Ok(Secret::new(text)),
            _ => Err(format!(
                "must be text in quotes and not empty, this is {}",
                kind_of(value)
            )),
        }
    }
}

impl FromToml for Password {
    const KIND: &'static str = "password, `\"md5…\"` or a verifier `\"SCRAM-SHA-256$…\"` as in pg_authid; \
                                also `{ file = \"…\" }` or `{ env = \"…\" }`";
    const SECRET: bool = true;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let secret = Secret::from_toml(value)?;
        if wire::md5::response_from_hash(secret.expose(), [0; 4]).is_some() {
            return Ok(Password::Md5(secret));
        }
        if !secret.expose().starts_with("SCRAM-SHA-256$") {
            return Ok(Password::Clear(secret));
        }
        match secret.expose().parse::<wire::scram::Verifier>() {
            Ok(_) => Ok(Password::Verifier(secret)),
            Err(_) => Err("starts like a SCRAM verifier and is none; PostgreSQL's form is \
                           SCRAM-SHA-256$iterations:salt$stored key:server key"
                .to_owned()),
        }
    }
}

fn expected(what: &str, value: &DeValue<'_>) -> String {
    format!("must be {what}, this is {}", kind_of(value))
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(text) if text.is_empty() => "empty",
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// Text for a message, cut to a readable length.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = text
        .chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('\u{2026}');
    }
    shown
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None if host.starts_with('/') => !host.contains('\0'),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    let port: u16 = port.parse().ok().filter(|&port| port != 0)?;
    let host = bracketed.unwrap_or(host).to_owned();
    good.then_some(HostPort { host, port })
}

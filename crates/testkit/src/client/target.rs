//! Where to connect: a parsed `postgresql://` URL.

use std::path::PathBuf;

/// Why a connection URL was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// The text does not start with `postgresql://` or `postgres://`.
    #[error("not a postgresql:// URL: {0}")]
    Scheme(String),
    /// The port is not a number from 1 to 65535.
    #[error("bad port in URL: {0}")]
    Port(String),
    /// A `%xx` escape is cut off, is not hexadecimal, or does not make UTF-8.
    #[error("bad percent escape in URL: {0}")]
    Escape(String),
}

/// A server and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address; a value that starts with `/` is a directory holding a Unix socket.
    pub host: String,
    /// TCP port, or the number in the name of the Unix socket.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Password, when the URL has one.
    pub password: Option<String>,
    /// Database name.
    pub database: String,
    /// Further startup parameters, in the order given.
    pub options: Vec<(String, String)>,
}

impl Target {
    /// Parses `postgresql://user:password@host:port/database?name=value&…`.
    ///
    /// `host` and `port` may also come from the query part, which is how a Unix socket directory is given.
    /// Query names that are not connection facts become startup parameters; `sslmode` is ignored.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| TargetError::Scheme(url.to_string()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(unescape(password)?)),
            None => (login, None),
        };
        let (host, port) = split_address(address);
        let mut target = Target {
            host: unescape(host)?,
            port: parse_port(port.unwrap_or("5432"))?,
            user: unescape(user)?,
            password,
            database: unescape(database)?,
            options: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            target.set(&unescape(name)?, unescape(value)?)?;
        }
        target.fill_defaults();
        Ok(target)
    }

    /// The same target with another startup parameter.
    pub fn with_option(mut self, name: &str, value: &str) -> Target {
        self.options.push((name.to_string(), value.to_string()));
        self
    }

    /// The same server, another database.
    pub fn with_database(mut self, database: &str) -> Target {
        self.database = database.to_string();
        self
    }

    /// Path of the Unix socket, when the host is a directory.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.host
            .starts_with('/')
            .then(|| PathBuf::from(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), TargetError> {
        match name {
            "host" => self.host = value,
            "port" => self.port = parse_port(&value)?,
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "dbname" => self.database = value,
            "sslmode" => {}
            _ => self.options.push((name.to_string(), value)),
        }
        Ok(())
    }

    fn fill_defaults(&mut self) {
        if self.host.is_empty() {
            self.host = "127.0.0.1".to_string();
        }
        if self.user.is_empty() {
            self.user = "postgres".to_string();
        }
        if self.database.is_empty() {
            self.database = self.user.clone();
        }
    }
}

fn split_address(address: &str) -> (&str, Option<&str>) {
    if let Some(inner) = address.strip_prefix('[')
        && let Some((host, rest)) = inner.split_once(']')
    {
        return (host, rest.strip_prefix(':'));
    }
    match address.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| TargetError::Port(text.to_string()))
}

fn unescape(text: &str) -> Result<String, TargetError> {
    let bad = || TargetError::Escape(text.to_string());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest
            .get(..2)
            .and_then(|d| std::str::from_utf8(d).ok())
            .ok_or_else(bad)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_url() {
        let target =
            Target::parse("postgresql://me:p%40ss@[::1]:6000/app?application_name=x&sslmode=disable")
                .unwrap();
        assert_eq!(target.host, "::1");
        assert_eq!(target.port, 6000);
        assert_eq!(target.password.as_deref(), Some("p@ss"));
        assert_eq!(
            target.options,
            [("application_name".to_string(), "x".to_string())]
        );
    }

    #[test]
    fn unix_socket() {
        let target = Target::parse("postgres:///app?host=%2Ftmp%2Fs&port=7").unwrap();
        assert_eq!(target.socket_path(), Some(PathBuf::from("/tmp/s/.s.PGSQL.7")));
        assert_eq!(
            (target.user.as_str(), target.database.as_str()),
            ("postgres", "app")
        );
    }

    #[test]
    fn errors() {
        assert!(matches!(Target::parse("mysql://x"), Err(TargetError::Scheme(_))));
        assert!(matches!(
            Target::parse("postgres://h:0/x"),
            Err(TargetError::Port(_))
        ));
        assert!(matches!(
            Target::parse("postgres://%4/x"),
            Err(TargetError::Escape(_))
        ));
    }
}

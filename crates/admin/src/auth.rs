//! Bearer tokens, and who a request without one is.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use ring::digest::{Digest, SHA256, digest};

use crate::api::{ApiError, ErrorKind, Role};

/// A bearer token and the role it stands for.
#[derive(Debug, Clone)]
pub struct Token {
    digest: Digest,
    role: Role,
}

impl Token {
    /// Only the token's digest is kept.
    pub fn new(token: &str, role: Role) -> Self {
        Self {
            digest: digest(&SHA256, token.as_bytes()),
            role,
        }
    }
}

/// Who may do what on one listener.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Vec<Token>,
    default_role: Option<Role>,
    token_required: bool,
}

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Everything a role may do; no role when none is configured for requests without a token.
    Allowed(Option<Role>),
    /// Only what is open to everybody.
    Denied(ApiError),
}

impl Access {
    /// A token is required unless the listener is loopback.
    pub(crate) fn new(tokens: Vec<Token>, default_role: Option<Role>, listener: SocketAddr) -> Self {
        let token_required = !listener.ip().to_canonical().is_loopback();
        Self {
            tokens,
            default_role,
            token_required,
        }
    }

    /// Judges the headers of a request.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let found = bearer(value.as_bytes()).and_then(|token| self.role_of(token));
            return found.map_or_else(
                || denied(ErrorKind::Unauthorized, "the bearer token is not valid"),
                |role| Caller::Allowed(Some(role.clone())),
            );
        }
        if self.token_required {
            return denied(ErrorKind::Unauthorized, "a bearer token is required");
        }
        // A web page can make a browser on this machine send requests here and, by pointing a name of its own at
        // loopback, read the answers; such requests carry that name.
        if !headers
            .get(header::HOST)
            .is_none_or(|host| is_local_name(host.as_bytes()))
        {
            return denied(
                ErrorKind::Forbidden,
                "without a bearer token the host must be localhost or an IP address",
            );
        }
        Caller::Allowed(self.default_role.clone())
    }

    /// Takes the same time whichever token it is, and however much of one is right.
    fn role_of(&self, token: &[u8]) -> Option<&Role> {
        let given = digest(&SHA256, token);
        let mut found = None;
        for token in &self.tokens {
            let difference = token
                .digest
                .as_ref()
                .iter()
                .zip(given.as_ref())
                .fold(0, |all, (a, b)| all | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(&token.role);
            }
        }
        found
    }
}

fn denied(kind: ErrorKind, message: &str) -> Caller {
    Caller::Denied(ApiError::new(kind, message))
}

/// The token of `Bearer <token>`; the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Whether a Host header is `localhost` or an address rather than a name, with or without a port.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(listener: &str) -> Access {
        let role = |name: &str| Role {
            user: name.to_owned(),
            password: None,
        };
        let tokens = vec![Token::new("alpha", role("a")), Token::new("beta", role("b"))];
        Access::new(
            tokens,
            Some(role("default")),
            listener.parse().expect("an address"),
        )
    }

    fn user(access: &Access, headers: &[(header::HeaderName, &str)]) -> Result<String, ErrorKind> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header")))
            .collect();
        match access.caller(&headers) {
            Caller::Allowed(role) => Ok(role.map(|role| role.user).unwrap_or_default()),
            Caller::Denied(error) => Err(error.kind),
        }
    }

    #[test]
    fn tokens_name_roles() {
        let access = access("0.0.0.0:80");
        for (value, expect) in [
            ("Bearer alpha", Ok("a")),
            ("bearer  beta ", Ok("b")),
            ("Bearer alph", Err(ErrorKind::Unauthorized)),
            ("Bearer alphaa", Err(ErrorKind::Unauthorized)),
            ("Bearer ", Err(ErrorKind::Unauthorized)),
            ("Basic alpha", Err(ErrorKind::Unauthorized)),
            ("", Err(ErrorKind::Unauthorized)),
        ] {
            let expect = expect.map(str::to_owned);
            assert_eq!(
                user(&access, &[(header::AUTHORIZATION, value)]),
                expect,
                "{value}"
            );
        }
        assert_eq!(user(&access, &[]), Err(ErrorKind::Unauthorized));
    }

    #[test]
    fn loopback_needs_no_token() {
        for listener in [
            "127.0.0.1:80",
            "127.1.2.3:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(
                user(&access(listener), &[]),
                Ok("default".to_owned()),
                "{listener}"
            );
        }
        for listener in ["[::]:80", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
            assert_eq!(
                user(&access(listener), &[]),
                Err(ErrorKind::Unauthorized),
                "{listener}"
            );
        }
        // A wrong token is never better than none.
        let wrong = [(header::AUTHORIZATION, "Bearer wrong")];
        assert_eq!(
            user(&access("127.0.0.1:80"), &wrong),
            Err(ErrorKind::Unauthorized)
        );
    }

    #[test]
    fn a_foreign_name_for_loopback_needs_a_token() {
        let access = access("127.0.0.1:80");
        for host in [
            "localhost",
            "LOCALHOST:6480",
            "127.0.0.1:6480",
            "[::1]:6480",
            "127.0.0.1",
        ] {
            assert_eq!(
                user(&access, &[(header::HOST, host)]),
                Ok("default".to_owned()),
                "{host}"
            );
        }
        for host in [
            "example.com",
            "localhost.example.com:80",
            "",
            "127.0.0.1.example.com",
        ] {
            assert_eq!(
                user(&access, &[(header::HOST, host)]),
                Err(ErrorKind::Forbidden),
                "{host}"
            );
        }
        let both = [
            (header::HOST, "example.com"),
            (header::AUTHORIZATION, "Bearer alpha"),
        ];
        assert_eq!(user(&access, &both), Ok("a".to_owned()));
    }
}

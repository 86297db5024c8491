//! `pg_hba.conf`: which clients may try to log in, and how they have to prove who they are.
//!
//! Parsing and matching are pure. The grammar is PostgreSQL 16's; what Drover cannot decide by itself (group
//! membership, host names, files named inside) is an error with its line, never a rule that quietly matches something
//! else. First match decides; no match is a refusal.

mod items;
mod lines;

use std::net::IpAddr;

use items::{Address, Item};
use lines::Field;

/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The most rules in a file.
pub const RULES_MAX: usize = 10_000;

/// The most problems reported at once.
const PROBLEMS_MAX: usize = 100;

/// A whole file.
#[derive(Debug, Clone, Default)]
pub struct Hba {
    rules: Vec<Rule>,
    networks: Networks,
    /// As it was read, to tell whether it has changed.
    text: Box<str>,
}

impl PartialEq for Hba {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.networks == other.networks
    }
}

/// The addresses of this host's interfaces, for `samehost` and `samenet`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Interface>);

/// One interface's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Its network mask, of the same family.
    pub mask: IpAddr,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its line in the file, from 1.
    pub line: usize,
    /// How the client has to prove who it is.
    pub method: Method,
    /// The identity map that relates outside names (certificates, operating system users) to roles.
    pub map: Option<String>,
    /// What is asked of the client's certificate, whatever the method.
    pub client_cert: ClientCert,
    /// Which part of the certificate is the outside name.
    pub client_name: ClientName,
    connection: Connection,
    databases: Vec<Item>,
    users: Vec<Item>,
    address: Address,
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Not at all.
    Trust,
    /// It cannot.
    Reject,
    /// The password in clear.
    Password,
    /// The MD5 exchange; SCRAM where the stored secret is a SCRAM verifier, as PostgreSQL does.
    Md5,
    /// SCRAM-SHA-256.
    #[default]
    Scram,
    /// A client certificate for this user.
    Cert,
    /// The operating system's word about the other end of a Unix socket.
    Peer,
}

/// The option `clientcert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    /// None is needed.
    #[default]
    None,
    /// `verify-ca`: one that a configured authority has signed.
    Verified,
    /// `verify-full`: one whose name is, or maps to, the user.
    ForUser,
}

/// The option `clientname`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientName {
    /// The certificate's common name.
    #[default]
    CommonName,
    /// Its whole subject.
    DistinguishedName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    /// `hostgssenc`: never, GSS encryption is not spoken.
    Never,
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// What decides whether a rule is the one.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Database the client names.
    pub database: &'a str,
    /// User the client names.
    pub user: &'a str,
    /// Its address; `None`: it came by a Unix socket.
    pub ip: Option<IpAddr>,
    /// The connection is encrypted by TLS.
    pub tls: bool,
}

impl Method {
    /// By its name in the file.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "trust" => Self::Trust,
            "reject" => Self::Reject,
            "password" => Self::Password,
            "md5" => Self::Md5,
            "scram-sha-256" => Self::Scram,
            "cert" => Self::Cert,
            "peer" => Self::Peer,
            _ => return None,
        })
    }

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
            Self::Cert => "cert",
            Self::Peer => "peer",
        }
    }
}

impl Hba {
    /// Reads a file's text. All problems are found at once, in the order of the lines.
    pub fn parse(text: &str, networks: Networks) -> Result<Self, Vec<Problem>> {
        if text.len() > FILE_BYTES_MAX {
            let message = format!("the file has more than {FILE_BYTES_MAX} bytes");
            return Err(vec![Problem { line: 1, message }]);
        }
        let mut rules = Vec::new();
        let mut problems = Vec::new();
        for line in lines::split(text) {
            let number = line.number;
            match line.fields().and_then(|fields| rule(number, &fields)) {
                Ok(Some(rule)) => rules.push(rule),
                Ok(None) => {}
                Err(message) => problems.push(Problem {
                    line: number,
                    message,
                }),
            }
            if rules.len() > RULES_MAX {
                problems.push(Problem {
                    line: number,
                    message: format!("there are more than {RULES_MAX} rules"),
                });
                break;
            }
            if problems.len() >= PROBLEMS_MAX {
                break;
            }
        }
        if problems.is_empty() {
            Ok(Self {
                rules,
                networks,
                text: text.into(),
            })
        } else {
            Err(problems)
        }
    }

    /// The rule for a client; `None`: it may not log in.
    #[must_use]
    pub fn find(&self, request: &Request<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.connection.fits(request)
                && rule.address.fits(request.ip, &self.networks)
                && rule.databases.iter().any(|item| item.fits_database(request))
                && rule.users.iter().any(|item| item.fits_user(request.user))
        })
    }

    /// All rules, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Connection {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "local" => Self::Local,
            "host" | "hostnogssenc" => Self::Host,
            "hostssl" => Self::HostSsl,
            "hostnossl" => Self::HostNoSsl,
            "hostgssenc" => Self::Never,
            _ => return None,
        })
    }

    fn fits(self, request: &Request<'_>) -> bool {
        match self {
            Self::Local => request.ip.is_none(),
            Self::Host => request.ip.is_some(),
            Self::HostSsl => request.ip.is_some() && request.tls,
            Self::HostNoSsl => request.ip.is_some() && !request.tls,
            Self::Never => false,
        }
    }
}

/// One line's rule; `None`: the line is empty.
fn rule(line: usize, fields: &[Field]) -> Result<Option<Rule>, String> {
    let mut fields = fields.iter();
    let Some(first) = fields.next() else {
        return Ok(None);
    };
    let kind = single(first, "connection type")?;
    if matches!(kind, "include" | "include_if_exists" | "include_dir") {
        return Err(format!("`{kind}` is not supported: put the rules into this file"));
    }
    let connection = Connection::by_name(kind)
        .ok_or_else(|| format!("invalid connection type \"{}\"", lines::shown(kind)))?;
    let mut names = |what: &str| {
        let field = fields
            .next()
            .ok_or_else(|| format!("end-of-line before {what} specification"))?;
        field.0.iter().map(Item::parse).collect::<Result<Vec<_>, _>>()
    };
    let databases = names("database")?;
    let users = names("role")?;
    if let Some(item) = users
        .iter()
        .find(|item| matches!(item, Item::SameUser | Item::Never))
    {
        return Err(format!(
            "`{}` is not a user; quote it if it is a name",
            item.word()
        ));
    }
    let address = match connection {
        Connection::Local => Address::All,
        _ => {
            let field = fields
                .next()
                .ok_or("end-of-line before IP address specification")?;
            let mask = || {
                fields
                    .next()
                    .ok_or("end-of-line before netmask specification".to_owned())
            };
            Address::parse(field, mask)?
        }
    };
    let method = fields.next().ok_or("end-of-line before authentication method")?;
    let name = single(method, "authentication method")?;
    let method = Method::by_name(name).ok_or_else(|| unknown_method(name))?;
    check_method(method, connection)?;
    let mut rule = Rule {
        line,
        method,
        map: None,
        client_cert: match method {
            Method::Cert => ClientCert::ForUser,
            _ => ClientCert::None,
        },
        client_name: ClientName::CommonName,
        connection,
        databases,
        users,
        address,
    };
    for option in fields.flat_map(|field| &field.0) {
        rule.option(&option.text)?;
    }
    Ok(Some(rule))
}

impl Rule {
    fn option(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            let shown = lines::shown(text);
            format!("authentication option not in name=value format: {shown}")
        })?;
        let with_tls = self.connection == Connection::HostSsl;
        match name {
            "map" if matches!(self.method, Method::Cert | Method::Peer) || with_tls => {
                self.map = Some(value.to_owned());
            }
            "map" => {
                return Err(
                    "authentication option \"map\" is only valid for authentication methods peer and cert"
                        .into(),
                );
            }
            "clientcert" if !with_tls => {
                return Err("clientcert can only be configured for \"hostssl\" rows".into());
            }
            "clientcert" => {
                self.client_cert = match value {
                    "verify-full" => ClientCert::ForUser,
                    "verify-ca" if self.method == Method::Cert => {
                        return Err(
                            "clientcert only accepts \"verify-full\" when using \"cert\" authentication"
                                .into(),
                        );
                    }
                    "verify-ca" => ClientCert::Verified,
                    _ => {
                        return Err(format!(
                            "invalid value for clientcert: \"{}\"",
                            lines::shown(value)
                        ));
                    }
                };
            }
            "clientname" if !with_tls => {
                return Err("clientname can only be configured for \"hostssl\" rows".into());
            }
            "clientname" => {
                self.client_name = match value {
                    "CN" => ClientName::CommonName,
                    "DN" => ClientName::DistinguishedName,
                    _ => {
                        return Err(format!(
                            "invalid value for clientname: \"{}\"",
                            lines::shown(value)
                        ));
                    }
                };
            }
            _ => {
                return Err(format!(
                    "unrecognized authentication option name: \"{}\"",
                    lines::shown(name)
                ));
            }
        }
        Ok(())
    }
}

fn single<'a>(field: &'a Field, what: &str) -> Result<&'a str, String> {
    match field.0.as_slice() {
        [token] => Ok(&token.text),
        _ => Err(format!("multiple values specified for {what}")),
    }
}

/// Some methods need what only some connections have.
fn check_method(method: Method, connection: Connection) -> Result<(), String> {
    match (method, connection) {
        (Method::Peer, Connection::Local) => {}
        (Method::Peer, _) => return Err("peer authentication is only supported on local sockets".into()),
        (Method::Cert, Connection::HostSsl) => {}
        (Method::Cert, _) => {
            return Err("cert authentication is only supported on hostssl connections".into());
        }
        _ => {}
    }
    Ok(())
}

fn unknown_method(name: &str) -> String {
    match name {
        "ident" | "gss" | "sspi" | "ldap" | "pam" | "radius" | "bsd" | "oauth" => {
            format!("authentication method \"{name}\" is not supported")
        }
        _ => format!("invalid authentication method \"{}\"", lines::shown(name)),
    }
}

/// Body of the fuzz target: parses any bytes, and asks what was parsed about a few clients. Never panics.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let home = IpAddr::from([127, 0, 0, 1]);
    let mask = IpAddr::from([255, 0, 0, 0]);
    let networks = Networks(vec![Interface { address: home, mask }]);
    match Hba::parse(&text, networks) {
        Ok(hba) => {
            for ip in [None, Some(home), Some(IpAddr::from([0; 16]))] {
                for tls in [false, true] {
                    let (database, user) = ("app", "alice");
                    let found = hba.find(&Request {
                        database,
                        user,
                        ip,
                        tls,
                    });
                    assert!(found.is_none_or(|rule| rule.line >= 1));
                }
            }
        }
        Err(problems) => assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX + 1),
    }
}

#[cfg(test)]
mod tests;

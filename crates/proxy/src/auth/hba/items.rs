//! What the columns of a rule may say: names and addresses.

use std::net::IpAddr;

use regex::{Regex, RegexBuilder};

use super::lines::{Field, Token, shown};
use super::{Networks, Request};

/// A compiled pattern may take this many bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// One word of the database or user column.
#[derive(Debug, Clone)]
pub(super) enum Item {
    All,
    /// `sameuser`: the database is named like the user.
    SameUser,
    /// `replication`: a kind of connection that is never let in.
    Never,
    Name(String),
    /// `/pattern`, found anywhere in the name.
    Pattern(Regex),
}

impl Item {
    pub(super) fn parse(token: &Token) -> Result<Self, String> {
        let text = token.text.as_str();
        // As in PostgreSQL, quotes do not change what a leading slash means.
        if let Some(pattern) = text.strip_prefix('/') {
            return RegexBuilder::new(pattern)
                .size_limit(PATTERN_BYTES_MAX)
                .dfa_size_limit(PATTERN_BYTES_MAX)
                .build()
                .map(Self::Pattern)
                .map_err(|_| format!("invalid regular expression \"{}\"", shown(pattern)));
        }
        if token.quoted {
            return Ok(Self::Name(text.to_owned()));
        }
        match text {
            "all" => Ok(Self::All),
            "sameuser" => Ok(Self::SameUser),
            "replication" => Ok(Self::Never),
            "samerole" | "samegroup" => Err(format!(
                "`{text}` is not supported: membership in roles is not looked up"
            )),
            _ if text.starts_with('+') => Err(format!(
                "\"{}\": membership in roles is not looked up; name the users, or quote it if it is a name",
                shown(text)
            )),
            _ if text.starts_with('@') => Err(format!(
                "\"{}\": lists in files are not supported; write the names here",
                shown(text)
            )),
            _ => Ok(Self::Name(text.to_owned())),
        }
    }

    /// The keyword.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::All => "all",
            Self::SameUser => "sameuser",
            Self::Never => "replication",
            Self::Name(name) => name,
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }

    pub(super) fn fits_database(&self, request: &Request<'_>) -> bool {
        match self {
            Self::SameUser => request.database == request.user,
            _ => self.fits(request.database),
        }
    }

    pub(super) fn fits_user(&self, user: &str) -> bool {
        self.fits(user)
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::SameUser | Self::Never => false,
            Self::Name(own) => own == name,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

/// The address column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    All,
    /// One of this host's own addresses.
    SameHost,
    /// An address in a network that this host is in.
    SameNet,
    /// An address that agrees where the mask has ones.
    Net {
        address: IpAddr,
        mask: IpAddr,
    },
}

impl Address {
    /// Reads the column; `mask` gives the next one, in case that this one is an address without a length.
    pub(super) fn parse<'a>(
        field: &Field,
        mut mask: impl FnMut() -> Result<&'a Field, String>,
    ) -> Result<Self, String> {
        let [token] = field.0.as_slice() else {
            return Err("multiple values specified for host address".to_owned());
        };
        match token.text.as_str() {
            "all" if !token.quoted => return Ok(Self::All),
            "samehost" if !token.quoted => return Ok(Self::SameHost),
            "samenet" if !token.quoted => return Ok(Self::SameNet),
            _ => {}
        }
        let text = token.text.as_str();
        if let Some((address, length)) = text.split_once('/') {
            let invalid = || format!("invalid CIDR mask in address \"{}\"", shown(text));
            let address: IpAddr = address.parse().map_err(|_| invalid_address(address))?;
            let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits).ok_or_else(invalid)?;
            let mask = mask_of(address, length).ok_or_else(invalid)?;
            return Ok(Self::Net { address, mask });
        }
        let address: IpAddr = text.parse().map_err(|_| invalid_address(text))?;
        let [token] = mask()?.0.as_slice() else {
            return Err("multiple values specified for netmask".to_owned());
        };
        let mask: IpAddr = token
            .text
            .parse()
            .map_err(|_| format!("invalid IP mask \"{}\"", shown(&token.text)))?;
        if address.is_ipv4() != mask.is_ipv4() {
            return Err("IP address and mask do not match".to_owned());
        }
        Ok(Self::Net { address, mask })
    }

    /// `ip`: the client's; `None` for a Unix socket, which rules without addresses are for.
    pub(super) fn fits(&self, ip: Option<IpAddr>, networks: &Networks) -> bool {
        let Some(ip) = ip else {
            return matches!(self, Self::All);
        };
        let mut interfaces = networks.0.iter();
        match self {
            Self::All => true,
            Self::SameHost => interfaces.any(|interface| interface.address == ip),
            Self::SameNet => interfaces.any(|interface| is_inside(ip, interface.address, interface.mask)),
            Self::Net { address, mask } => is_inside(ip, *address, *mask),
        }
    }
}

fn is_inside(ip: IpAddr, network: IpAddr, mask: IpAddr) -> bool {
    match (ip, network, mask) {
        (IpAddr::V4(ip), IpAddr::V4(network), IpAddr::V4(mask)) => {
            ip.to_bits() & mask.to_bits() == network.to_bits() & mask.to_bits()
        }
        (IpAddr::V6(ip), IpAddr::V6(network), IpAddr::V6(mask)) => {
            ip.to_bits() & mask.to_bits() == network.to_bits() & mask.to_bits()
        }
        _ => false,
    }
}

fn mask_of(address: IpAddr, length: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
            Some(IpAddr::V4(mask.into()))
        }
        IpAddr::V6(_) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(length)?).unwrap_or(0);
            Some(IpAddr::V6(mask.into()))
        }
    }
}

/// A host name would need the name service at each login.
fn invalid_address(text: &str) -> String {
    format!(
        "\"{}\" is not an IP address; host names are not supported",
        shown(text)
    )
}

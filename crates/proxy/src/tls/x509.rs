//! The few things about a certificate that PostgreSQL's protocol needs and the TLS library does not tell: its subject
//! as text, the hash its signature uses (for channel binding), and whether it has alternative names.
//!
//! A reader of DER (X.690) that knows just the certificate's layout (RFC 5280). Everything comes from a peer: what does
//! not follow the layout gives `None`. It decides nothing about trust; chains are verified elsewhere.

/// A certificate's interesting parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's relative names, in the order of the certificate; each has one attribute or more.
    subject: Vec<Vec<Attribute>>,
    /// The hash that [RFC 5929](https://www.rfc-editor.org/rfc/rfc5929) binds channels with.
    pub binding_hash: Option<BindingHash>,
    /// It has a subjectAltName extension.
    pub has_alternative_names: bool,
    /// Valid from, in seconds since 1970.
    pub not_before: i64,
    /// Valid until, in seconds since 1970.
    pub not_after: i64,
}

/// The hash of `tls-server-end-point`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingHash {
    /// SHA-256, also for certificates signed with MD5 or SHA-1.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    /// DER content of the object identifier.
    oid: Vec<u8>,
    value: String,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_3: u8 = 0xa3;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];

/// Short names that OpenSSL prints for attributes, by object identifier.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

impl Certificate {
    /// Reads a certificate in DER.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut body = Der(certificate.expect(SEQUENCE)?);
        let signature = certificate.expect(SEQUENCE)?;
        body.optional(CONTEXT_0); // version
        body.any()?; // serial number
        body.expect(SEQUENCE)?; // signature algorithm
        body.expect(SEQUENCE)?; // issuer
        let mut validity = Der(body.expect(SEQUENCE)?);
        let subject = body.expect(SEQUENCE)?;
        body.expect(SEQUENCE)?; // public key
        let mut has_alternative_names = false;
        while let Some((tag, content)) = body.any() {
            if tag == CONTEXT_3 {
                let mut extensions = Der(Der(content).expect(SEQUENCE)?);
                while let Some(extension) = extensions.optional(SEQUENCE) {
                    has_alternative_names |= Der(extension).expect(OID)? == SUBJECT_ALT_NAME;
                }
            }
        }
        Some(Self {
            subject: names(subject)?,
            binding_hash: binding_hash(signature),
            has_alternative_names,
            not_before: time(validity.any()?)?,
            not_after: time(validity.any()?)?,
        })
    }

    /// The subject's first common name. One with a zero byte is no name: C programs read it as a shorter one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        let mut attributes = self.subject.iter().flatten();
        let name = &attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value;
        (!name.is_empty() && !name.contains('\0')).then_some(name)
    }

    /// The subject in the form of RFC 2253, as PostgreSQL's `pg_stat_ssl` and `clientname=DN` have it: most specific
    /// part first.
    #[must_use]
    pub fn distinguished_name(&self) -> String {
        let names = self.subject.iter().rev().map(|attributes| {
            let attributes = attributes.iter().map(|attribute| {
                let name = SHORT_NAMES
                    .iter()
                    .find(|(oid, _)| *oid == attribute.oid)
                    .map_or_else(|| dotted(&attribute.oid), |(_, name)| (*name).to_owned());
                format!("{name}={}", escaped(&attribute.value))
            });
            attributes.collect::<Vec<_>>().join("+")
        });
        names.collect::<Vec<_>>().join(",")
    }
}

/// What a SCRAM login over a connection to a server with this certificate (DER) is bound to. `None`: the standard
/// defines nothing for its kind of signature (Ed25519).
#[must_use]
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match Certificate::parse(der)?.binding_hash? {
        BindingHash::Sha256 => &ring::digest::SHA256,
        BindingHash::Sha384 => &ring::digest::SHA384,
        BindingHash::Sha512 => &ring::digest::SHA512,
    };
    Some(ring::digest::digest(algorithm, der).as_ref().to_vec())
}

/// A run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            // Certificates of more than 16 MiB do not come through TLS.
            if count == 0 || count > 3 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            let length = digits.iter().fold(0, |all, byte| (all << 8) | usize::from(*byte));
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    /// The next element if it has this tag; otherwise nothing is consumed.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) {
            self.expect(tag)
        } else {
            None
        }
    }
}

fn names(subject: &[u8]) -> Option<Vec<Vec<Attribute>>> {
    let mut names = Vec::new();
    let mut subject = Der(subject);
    while !subject.0.is_empty() {
        let mut set = Der(subject.expect(SET)?);
        let mut attributes = Vec::new();
        while !set.0.is_empty() {
            let mut attribute = Der(set.expect(SEQUENCE)?);
            let oid = attribute.expect(OID)?.to_vec();
            let (tag, content) = attribute.any()?;
            attributes.push(Attribute {
                oid,
                value: text(tag, content)?,
            });
        }
        names.push(attributes);
    }
    Some(names)
}

/// A string of one of the kinds that names are made of.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        0x1e => {
            let units: Vec<u16> = content
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        // Latin-1 is what everybody means by TeletexString.
        0x14 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        _ => String::from_utf8(content.to_vec()).ok(),
    }
}

fn binding_hash(algorithm: &[u8]) -> Option<BindingHash> {
    let mut algorithm = Der(algorithm);
    let oid = algorithm.expect(OID)?;
    let rsa = oid.strip_prefix(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1]);
    let ecdsa = oid.strip_prefix(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4]);
    match (rsa, ecdsa) {
        // MD5 and SHA-1 are replaced by SHA-256.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(BindingHash::Sha256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(BindingHash::Sha384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(BindingHash::Sha512),
        (Some([10]), _) => pss_hash(algorithm.expect(SEQUENCE)?),
        _ => None,
    }
}

/// RSASSA-PSS carries its hash as a parameter.
fn pss_hash(parameters: &[u8]) -> Option<BindingHash> {
    let Some(hash) = Der(parameters).optional(CONTEXT_0) else {
        return Some(BindingHash::Sha256); // SHA-1 when left out
    };
    let oid = Der(Der(hash).expect(SEQUENCE)?).expect(OID)?;
    match oid.strip_prefix(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2]) {
        Some([1]) => Some(BindingHash::Sha256),
        Some([2]) => Some(BindingHash::Sha384),
        Some([3]) => Some(BindingHash::Sha512),
        _ => None,
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, content): (u8, &[u8])) -> Option<i64> {
    let digits = content.strip_suffix(b"Z")?;
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = digits.get(range)?;
        part.iter().try_fold(0, |all, byte| {
            byte.is_ascii_digit().then(|| all * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, at) = match tag {
        UTC_TIME => {
            let year = number(0..2)?;
            (year + if year < 50 { 2000 } else { 1900 }, 2)
        }
        GENERALIZED_TIME => (number(0..4)?, 4),
        _ => return None,
    };
    let (month, day) = (number(at..at + 2)?, number(at + 2..at + 4)?);
    if digits.len() != at + 10 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of the civil calendar, with years that begin in March.
    let shifted = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let (hour, minute, second) = (
        number(at + 4..at + 6)?,
        number(at + 6..at + 8)?,
        number(at + 8..at + 10)?,
    );
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Escapes of RFC 2253.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            control if control.is_ascii_control() => out.push_str(&format!("\\{:02X}", control as u32)),
            // PostgreSQL asks OpenSSL for UTF-8 as it is.
            other => out.push(other),
        }
    }
    out
}

fn dotted(oid: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    for byte in oid {
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - first * 40]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

#[cfg(test)]
mod tests;

//! Files that a configuration names: secrets, users, rules. Messages never show what a secret's file holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proxy::auth::hba::{self, Hba, Interface, Networks};
use proxy::auth::userlist;
use proxy::login::ident::{IdentError, IdentMaps};

use super::Problem;

/// The largest file with one secret, in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Rights that make a secret's file too open: anybody else's, and writing by the group.
const TOO_OPEN: u32 = 0o027;

/// The secret in a file, without the line's end; and a warning if others can read it.
pub(super) fn secret(path: &Path) -> Result<(String, Option<String>), String> {
    let (text, warning) = read_secret(path, SECRET_BYTES_MAX)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.contains('\n') {
        return Err(format!("`{}` has more than one line", path.display()));
    }
    Ok((text.to_owned(), warning))
}

/// The rules of an HBA file. `None`: there are problems, which have been noted.
pub(super) fn hba(path: &Path, problems: &mut Vec<Problem>) -> Option<Hba> {
    let text = match read(path, hba::FILE_BYTES_MAX) {
        Ok((text, _)) => text,
        Err(error) => {
            problems.push(unreadable(path, &error));
            return None;
        }
    };
    match Hba::parse(&text, networks()) {
        Ok(hba) => Some(hba),
        Err(found) => {
            problems.extend(found.into_iter().map(|problem| at(path, problem)));
            None
        }
    }
}

/// The maps of an `ident_file`. `None`: there is a problem, which has been noted.
pub(super) fn ident(path: &Path, problems: &mut Vec<Problem>) -> Option<IdentMaps> {
    let text = match read(path, hba::FILE_BYTES_MAX) {
        Ok((text, _)) => text,
        Err(error) => {
            problems.push(unreadable(path, &error));
            return None;
        }
    };
    let maps = IdentMaps::parse(&text);
    let wrong = |error: IdentError| hba::Problem {
        line: error.line,
        message: error.problem,
    };
    maps.map_err(|error| problems.push(at(path, wrong(error)))).ok()
}

/// Rules name maps that exist.
pub(super) fn check_maps(path: &Path, hba: &Hba, maps: Option<&IdentMaps>, problems: &mut Vec<Problem>) {
    for rule in hba.rules() {
        if let Some(map) = &rule.map
            && !maps.is_some_and(|maps| maps.has(map))
        {
            let message = format!("the map \"{map}\" is not in `ident_file`");
            let line = rule.line;
            problems.push(at(path, hba::Problem { line, message }));
        }
    }
}

/// The users of an `auth_file`; and a warning if others can read it.
pub(super) fn users(path: &Path, problems: &mut Vec<Problem>) -> (Vec<userlist::Entry>, Option<String>) {
    let (text, warning) = match read_secret(path, userlist::FILE_BYTES_MAX) {
        Ok(read) => read,
        Err(error) => {
            problems.push(unreadable(path, &error));
            return (Vec::new(), None);
        }
    };
    let entries = userlist::parse(&text).unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|problem| at(path, problem)));
        Vec::new()
    });
    for entry in &entries {
        if entry.secret.starts_with("SCRAM-SHA-256$")
            && entry.secret.parse::<wire::scram::Verifier>().is_err()
        {
            let message = "starts like a SCRAM verifier and is none".to_owned();
            let line = entry.line;
            problems.push(at(path, hba::Problem { line, message }));
        }
    }
    (entries, warning)
}

/// The addresses of this host's interfaces; none if the system does not tell.
fn networks() -> Networks {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Networks::default();
    };
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
        let address = address?;
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(IpAddr::V4(v4.ip()));
        }
        address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
    };
    Networks(
        interfaces
            .filter_map(|interface| {
                let (address, mask) = (ip(interface.address)?, ip(interface.netmask)?);
                Some(Interface { address, mask })
            })
            .collect(),
    )
}

fn read_secret(path: &Path, bytes_max: usize) -> io::Result<(String, Option<String>)> {
    let (text, mode) = read(path, bytes_max)?;
    let warning = (mode & TOO_OPEN != 0).then(|| {
        format!(
            "`{}` holds secrets and has the rights {:03o}: others can read or change it",
            path.display(),
            mode & 0o777
        )
    });
    Ok((text, warning))
}

/// A file's text and its rights.
fn read(path: &Path, bytes_max: usize) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.take(bytes_max as u64 + 1).read_to_string(&mut text)?;
    if text.len() > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok((text, mode))
}

fn at(path: &Path, problem: hba::Problem) -> Problem {
    Problem {
        file: Some(path.to_owned()),
        line: problem.line,
        column: 1,
        message: problem.message,
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let message = format!("cannot be read: {error}");
    at(path, hba::Problem { line: 1, message })
}

//! Finds the PostgreSQL server binaries on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// The oldest and newest PostgreSQL Drover supports.
pub const MAJOR_MIN: u32 = 15;
/// See [`MAJOR_MIN`].
pub const MAJOR_MAX: u32 = 18;

/// Every program Drover runs; a directory that lacks one is not used.
const PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_resetwal"];

/// Why no usable PostgreSQL was found.
#[derive(Debug, Error)]
pub enum BinariesError {
    /// Nothing anywhere.
    #[error(
        "no PostgreSQL server ({MAJOR_MIN} to {MAJOR_MAX}) found; looked in {}; \
         install one, for example: apt-get install postgresql",
        looked_in.join(", ")
    )]
    NotFound {
        /// The directories tried, for the message.
        looked_in: Vec<String>,
    },
    /// A directory was named by the user but is not a PostgreSQL `bin` directory.
    #[error("{} has no {program}: it is not the bin directory of a PostgreSQL server", directory.display())]
    Incomplete {
        /// The directory that was asked for.
        directory: PathBuf,
        /// The first program missing from it.
        program: &'static str,
    },
    /// The data needs one major version and only others are installed.
    #[error(
        "the data was written by PostgreSQL {wanted}, which is not installed; install postgresql-{wanted}"
    )]
    OtherMajor {
        /// The major version of the data.
        wanted: u32,
    },
    /// The program is there but cannot be used.
    #[error("{} does not say a supported version ({MAJOR_MIN} to {MAJOR_MAX}): {said}", program.display())]
    Unsupported {
        /// The program asked for its version.
        program: PathBuf,
        /// What it answered.
        said: String,
    },
}

/// One set of PostgreSQL programs of the same version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// Finds the programs: `directory` if given; otherwise the newest supported version among
    /// `pg_config --bindir` and the usual places of the distributions. With `major`, only that
    /// version will do (a data directory can be read by no other).
    pub fn find(directory: Option<&Path>, major: Option<u32>) -> Result<Binaries, BinariesError> {
        let found = match directory {
            Some(directory) => vec![Binaries::at(directory)?],
            None => {
                let candidates = candidates();
                let found: Vec<Binaries> = candidates
                    .iter()
                    .filter_map(|directory| Binaries::at(directory).ok())
                    .collect();
                if found.is_empty() {
                    let looked_in = looked_in(&candidates);
                    return Err(BinariesError::NotFound { looked_in });
                }
                found
            }
        };
        match major {
            Some(wanted) => found
                .into_iter()
                .find(|binaries| binaries.major == wanted)
                .ok_or(BinariesError::OtherMajor { wanted }),
            None => found
                .into_iter()
                .max_by_key(|binaries| binaries.major)
                .ok_or(BinariesError::NotFound {
                    looked_in: Vec::new(),
                }),
        }
    }

    /// The programs in one directory, checked to be complete and of a supported version.
    pub fn at(directory: &Path) -> Result<Binaries, BinariesError> {
        if let Some(program) = PROGRAMS
            .into_iter()
            .find(|program| !directory.join(program).is_file())
        {
            return Err(BinariesError::Incomplete {
                directory: directory.to_owned(),
                program,
            });
        }
        let program = directory.join("postgres");
        let said = match Command::new(&program).arg("--version").output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        match parse_major(&said).filter(|major| (MAJOR_MIN..=MAJOR_MAX).contains(major)) {
            Some(major) => Ok(Binaries {
                directory: directory.to_owned(),
                major,
            }),
            None => Err(BinariesError::Unsupported { program, said }),
        }
    }

    /// Full path of one program.
    pub fn program(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.directory.join(name.as_ref())
    }

    /// The major version, for example 15.
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// Directories that may hold the programs, most specific first.
fn candidates() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    // Debian and Ubuntu; Red Hat's PGDG packages; Homebrew and source builds.
    for root in ["/usr/lib/postgresql", "/usr"] {
        let Ok(entries) = std::fs::read_dir(root) else {
            continue;
        };
        let versions = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_version_directory(path));
        directories.extend(versions.map(|path| path.join("bin")));
    }
    directories.push(PathBuf::from("/usr/local/pgsql/bin"));
    directories.push(PathBuf::from("/usr/local/bin"));
    directories.push(PathBuf::from("/usr/bin"));
    directories
}

/// `/usr/lib/postgresql/15` and `/usr/pgsql-15`, but not `/usr/share`.
fn is_version_directory(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_prefix("pgsql-").unwrap_or(name);
    number.parse::<u32>().is_ok()
}

fn looked_in(candidates: &[PathBuf]) -> Vec<String> {
    let mut names = vec![
        "pg_config --bindir".to_owned(),
        "/usr/lib/postgresql/*/bin".to_owned(),
    ];
    names.extend(candidates.iter().map(|path| path.display().to_string()));
    names.dedup();
    names
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian …)` or `… 18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL) ").nth(1)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_from_what_postgres_says() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("no such file"), None);
    }

    #[test]
    fn an_incomplete_directory_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(directory.path()), None).unwrap_err();
        assert!(error.to_string().contains("has no postgres"), "{error}");
    }

    #[test]
    fn the_data_decides_which_version_is_needed() {
        let error = Binaries::find(None, Some(9)).unwrap_err();
        assert!(error.to_string().contains("install postgresql-9"), "{error}");
    }
}

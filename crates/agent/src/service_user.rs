//! The account the servers run as. PostgreSQL refuses to run as root, so root runs it as somebody else.

use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};
use thiserror::Error;

/// Why no account for the servers could be chosen.
#[derive(Debug, Error)]
pub enum ServiceUserError {
    /// We are root and neither `postgres` nor `nobody` exists.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody to run it as"
    )]
    NoAccount,
}

/// The account the servers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceUser {
    /// The one Drover runs as.
    Current,
    /// Drover is root; the servers run as this unprivileged account.
    Other {
        /// Its login name, for messages.
        name: String,
        /// Its user id.
        uid: u32,
        /// Its primary group id.
        gid: u32,
    },
}

impl ServiceUser {
    /// The current account, or for root `postgres`, or `nobody` where there is no `postgres`.
    pub fn choose() -> Result<ServiceUser, ServiceUserError> {
        if !Uid::effective().is_root() {
            return Ok(ServiceUser::Current);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root())
            .map(|user| ServiceUser::Other {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
            .ok_or(ServiceUserError::NoAccount)
    }

    /// A command that runs as this account, away from any directory it may not enter, in a process
    /// group of its own (the terminal's Ctrl-C must not reach it: Drover stops servers in order), and
    /// without the caller's `PG…` variables, which would change what the programs do.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir("/").process_group(0);
        for name in ["PATH", "TZ"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let ServiceUser::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Creates a directory only this account can enter. Its parent must exist.
    pub fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        self.own(path)
    }

    /// Creates a new file only this account can read and write. Fails if anything is there already,
    /// so that a planted link is never followed.
    pub fn create_private_file(&self, path: &Path, content: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content.as_bytes())?;
        self.own(path)
    }

    /// Whether this account can reach `path`: every directory on the way, itself included, lets it pass.
    /// (Always true for the current account: its own error will be clearer than ours.)
    pub fn can_enter(&self, path: &Path) -> bool {
        match self {
            ServiceUser::Current => true,
            ServiceUser::Other { uid, gid, .. } => path
                .ancestors()
                .filter_map(|ancestor| fs::metadata(ancestor).ok())
                .all(|metadata| may_search(&metadata, *uid, *gid)),
        }
    }

    /// The login name when it is not the current account.
    pub fn other_name(&self) -> Option<&str> {
        match self {
            ServiceUser::Current => None,
            ServiceUser::Other { name, .. } => Some(name),
        }
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            ServiceUser::Current => Ok(()),
            ServiceUser::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }
}

/// The search permission of one directory for (uid, gid), as the kernel decides it.
fn may_search(directory: &Metadata, uid: u32, gid: u32) -> bool {
    let bit = if directory.uid() == uid {
        0o100
    } else if directory.gid() == gid {
        0o010
    } else {
        0o001
    };
    directory.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_closed_parent_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let other = ServiceUser::Other {
            name: "x".into(),
            uid: 54_321,
            gid: 54_321,
        };
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!other.can_enter(&inner));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(other.can_enter(&inner));
        assert!(ServiceUser::Current.can_enter(&inner));
    }

    #[test]
    fn private_files_never_replace_anything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        ServiceUser::Current.create_private_file(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(ServiceUser::Current.create_private_file(&path, "two").is_err());
    }
}

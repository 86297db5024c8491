//! The directory of a cluster: whose it is, who uses it now, what is in it.
//!
//! ```text
//! drover-dev.json   marks the directory as Drover's; identities, ports and passwords (mode 0600)
//! drover-dev.lock   locked while somebody runs the cluster
//! servers/          shard_1/primary/{data,socket,drover.conf,server.log}, …
//! state/            for the caller: whatever belongs to the cluster and goes with it
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ClusterError;
use super::info::{Record, RecordV1};
use crate::instance::SOCKET_DIR_BYTES_MAX;
use crate::secret::{hex, random_bytes};
use crate::{Secret, ServiceUser};

const RECORD: &str = "drover-dev.json";
const RECORD_NEW: &str = "drover-dev.json.new";
const LOCK: &str = "drover-dev.lock";
/// The longest path below the servers' directory: `/shard_99/replica_9/socket`.
const SOCKET_DIR_BELOW_BYTES: usize = 26;
/// A record is a few kilobytes; something larger is not one.
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Where the servers live when their account cannot enter the directory the user chose.
const SHARED_ROOT: &str = "/var/lib/drover";

/// An open, locked directory. The lock ends with the value, or with the process.
#[derive(Debug)]
pub(super) struct WorkDir {
    dir: PathBuf,
    pub record: RecordV1,
    _lock: File,
}

impl WorkDir {
    /// Opens or creates `dir`. Touches nothing in a directory that is not Drover's or is in use.
    pub fn open(dir: &Path, user: &ServiceUser) -> Result<WorkDir, ClusterError> {
        let created = !dir.exists();
        if created {
            let mode = if user.other_name().is_some() { 0o755 } else { 0o700 };
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(dir)
                .map_err(|e| io_error("create", dir, e))?;
        }
        let dir = dir.canonicalize().map_err(|e| io_error("open", dir, e))?;
        refuse_foreign(&dir)?;
        let lock = lock(&dir)?;
        // Read only now: another process may have changed it until the lock was ours.
        let record = match read_record(&dir)? {
            Some(Record::V1(record)) => record,
            None => RecordV1 {
                servers_elsewhere: servers_elsewhere(&dir, user),
                socket_root: None,
                replication_password: Secret::generate().ok_or(ClusterError::NoRandomness)?,
                cluster: None,
            },
        };
        let work_dir = WorkDir {
            dir,
            record,
            _lock: lock,
        };
        work_dir.save()?;
        Ok(work_dir)
    }

    /// Holds `shard_1/primary` and so on.
    pub fn servers_dir(&self) -> PathBuf {
        self.record
            .servers_elsewhere
            .clone()
            .unwrap_or_else(|| self.dir.join("servers"))
    }

    /// For the caller's own files.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Removes all data; identity files stay, with new passwords.
    pub fn wipe(&mut self) -> Result<(), ClusterError> {
        self.record.cluster = None;
        self.record.replication_password = Secret::generate().ok_or(ClusterError::NoRandomness)?;
        // Whatever is interrupted from here on is wiped again.
        self.save()?;
        for path in [&self.servers_dir(), &self.state_dir()] {
            remove_dir(path)?;
        }
        Ok(())
    }

    /// Creates the directories that live as long as one run, and says where sockets go.
    pub fn prepare(&mut self) -> Result<(), ClusterError> {
        self.remove_sockets()?;
        let servers_dir = self.servers_dir();
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&servers_dir)
            .map_err(|e| io_error("create", &servers_dir, e))?;
        let state_dir = self.state_dir();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .map_err(|e| io_error("create", &state_dir, e))?;
        if servers_dir.as_os_str().len() + SOCKET_DIR_BELOW_BYTES > SOCKET_DIR_BYTES_MAX {
            let random: [u8; 6] = random_bytes().ok_or(ClusterError::NoRandomness)?;
            let root = std::env::temp_dir().join(format!("drover-{}", hex(&random)));
            // Must be new: nobody else's directory will do.
            DirBuilder::new()
                .mode(0o711)
                .create(&root)
                .map_err(|e| io_error("create", &root, e))?;
            self.record.socket_root = Some(root);
        }
        self.save()
    }

    /// The directory for the socket of the node `shard`/`node`.
    pub fn socket_dir(&self, shard: &str, node: &str) -> PathBuf {
        match &self.record.socket_root {
            Some(root) => root.join(format!("{shard}-{node}")),
            None => self.servers_dir().join(shard).join(node).join("socket"),
        }
    }

    /// Removes socket directories outside of the tree.
    pub fn remove_sockets(&mut self) -> Result<(), ClusterError> {
        match self.record.socket_root.take() {
            Some(root) => remove_dir(&root),
            None => Ok(()),
        }
    }

    /// Writes the record: whole or not at all.
    pub fn save(&self) -> Result<(), ClusterError> {
        let path = self.dir.join(RECORD);
        let new = self.dir.join(RECORD_NEW);
        let text = serde_json::to_string_pretty(&Record::V1(self.record.clone()))
            .map_err(|e| io_error("write", &path, e.into()))?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| io_error("write", &path, e))
    }
}

/// A directory is ours if it is empty or holds our record.
fn refuse_foreign(dir: &Path) -> Result<(), ClusterError> {
    if dir.join(RECORD).is_file() {
        return Ok(());
    }
    let entries = fs::read_dir(dir).map_err(|e| io_error("read", dir, e))?;
    let ours = [LOCK, RECORD_NEW];
    match entries
        .flatten()
        .find(|entry| !ours.iter().any(|name| entry.file_name() == *name))
    {
        Some(entry) => Err(ClusterError::ForeignDirectory {
            dir: dir.to_owned(),
            found: entry.file_name().to_string_lossy().into_owned(),
        }),
        None => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io_error("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClusterError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path, e)),
    }
}

fn read_record(dir: &Path) -> Result<Option<Record>, ClusterError> {
    let path = dir.join(RECORD);
    match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", &path, e)),
        Ok(metadata) if metadata.len() > RECORD_BYTES_MAX => {
            return Err(io_error("read", &path, io::ErrorKind::FileTooLarge.into()));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(|e| io_error("read", &path, e))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|source| ClusterError::Record { path, source })
}

/// The place for the servers' files when their account cannot enter `dir` (which may be in root's home).
fn servers_elsewhere(dir: &Path, user: &ServiceUser) -> Option<PathBuf> {
    if user.can_enter(dir) {
        return None;
    }
    // FNV-1a: one directory per place, without its separators.
    let hash = dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    Some(Path::new(SHARED_ROOT).join(format!("dev-{hash:016x}")))
}

fn remove_dir(path: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, e)),
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> ClusterError {
    ClusterError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

//! The files of a store. Everything here blocks.
//!
//! ```text
//! format.json            what this directory is
//! lock                   flock
//! counter                last version given
//! keys/cluster~record.json   {"key", "version", "lease", "value"}
//! leases/lease-7.json    {"ttl_ms", "boot", "ends_ms"}
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock;
use crate::store::VALUE_BYTES_MAX;
use crate::{Key, LeaseError, LeaseId, Listing, StoreError, Version, Versioned, Write, WriteError};

/// A lock held longer than this is an error of the store: its holder is stopped.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);
/// Pause between attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_micros(500);
/// Bound on any file of the store; a value is smaller, its envelope and indentation add to it.
const FILE_BYTES_MAX: u64 = 4 * VALUE_BYTES_MAX as u64;
/// Bound on the number of keys.
const KEYS_MAX: usize = 100_000;
/// Stands for `/` in file names; not allowed in keys.
const SLASH: &str = "~";

/// A consistent look at several keys.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) listing: Listing,
    pub(super) counter: u64,
    /// When the first lease of a listed key ends, if it is not kept alive.
    pub(super) lease_end_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    boot: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v", deny_unknown_fields)]
enum Format {
    #[serde(rename = "1")]
    V1 { kind: String },
}

const KIND: &str = "drover topology store";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    value: Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseFile {
    ttl_ms: u64,
    boot: String,
    ends_ms: u64,
}

/// Holds the lock until dropped.
struct Locked(#[expect(dead_code, reason = "held for its effect")] File);

impl Directory {
    pub(super) fn open(path: PathBuf) -> Result<Directory, StoreError> {
        let directory = Directory {
            path,
            boot: clock::boot_id(),
        };
        for sub in ["keys", "leases"] {
            let sub = directory.path.join(sub);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&sub)
                .map_err(|e| io_error("create", &sub, e))?;
        }
        let _lock = directory.lock(true)?;
        directory.check_format()?;
        directory.recover_counter()?;
        Ok(directory)
    }

    /// Where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last version given. Without the lock: the file is replaced as a whole.
    pub(super) fn counter(&self) -> Result<u64, StoreError> {
        let path = self.path.join("counter");
        let text = fs::read_to_string(&path).map_err(|e| io_error("read", &path, e))?;
        text.trim().parse().map_err(|_| damaged(&path, "not a number"))
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let _lock = self.lock(false)?;
        Ok(self.live(key)?.map(KeyFile::into_versioned))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let _lock = self.lock(false)?;
        let counter = self.counter()?;
        let mut leases = BTreeMap::new();
        let mut lease_end_ms: Option<u64> = None;
        let mut listing = Listing::new();
        for key in self.keys()? {
            if !key.as_str().starts_with(prefix) {
                continue;
            }
            let Some(file) = self.read_key(&key)? else {
                continue;
            };
            if let Some(lease) = &file.lease {
                if !leases.contains_key(lease) {
                    leases.insert(lease.clone(), self.live_lease(lease)?);
                }
                let Some(Some(found)) = leases.get(lease) else {
                    continue;
                };
                lease_end_ms = Some(lease_end_ms.map_or(found.ends_ms, |end| end.min(found.ends_ms)));
            }
            listing.insert(key, file.into_versioned());
        }
        Ok(Snapshot {
            listing,
            counter,
            lease_end_ms,
        })
    }

    pub(super) fn write(&self, write: Write) -> Result<Version, WriteError> {
        let _lock = self.lock(true)?;
        self.sweep()?;
        let current = self.live(&write.key)?.map(|file| Version(file.version));
        if current != write.expected {
            return Err(WriteError::Conflict {
                key: write.key,
                current,
            });
        }
        if let Some((key, version)) = write.require
            && self.live(&key)?.map(|file| Version(file.version)) != Some(version)
        {
            return Err(WriteError::RequirementFailed { key });
        }
        if let Some(lease) = &write.lease
            && self.live_lease(&lease.0)?.is_none()
        {
            return Err(WriteError::LeaseExpired);
        }
        let version = self.next_version()?;
        let file = KeyFile {
            key: write.key.as_str().to_owned(),
            version,
            lease: write.lease.map(|lease| lease.0),
            value: write.value,
        };
        let bytes = to_bytes(&file)?;
        if bytes.len() > VALUE_BYTES_MAX {
            let message = format!(
                "the value of `{}` has more than {VALUE_BYTES_MAX} bytes",
                write.key
            );
            return Err(StoreError::Limit(message).into());
        }
        self.replace(&self.key_path(&write.key), &bytes, true)?;
        Ok(Version(version))
    }

    pub(super) fn delete(&self, key: &Key, expected: Version) -> Result<(), WriteError> {
        let _lock = self.lock(true)?;
        let current = self.live(key)?.map(|file| Version(file.version));
        if current != Some(expected) {
            return Err(WriteError::Conflict {
                key: key.clone(),
                current,
            });
        }
        self.next_version()?;
        remove(&self.key_path(key))?;
        self.sync_directory("keys")?;
        Ok(())
    }

    pub(super) fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let _lock = self.lock(true)?;
        self.sweep()?;
        let id = format!("lease-{}", self.next_version()?);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.write_lease(&id, ttl_ms)?;
        Ok(LeaseId(id))
    }

    /// Under a lock of its own: a renewal must not wait for a disk that somebody's write waits for.
    pub(super) fn keep_alive(&self, lease: &LeaseId) -> Result<(), LeaseError> {
        let _lock = self.lock_leases()?;
        match self.live_lease(&lease.0)? {
            Some(file) => Ok(self.write_lease(&lease.0, file.ttl_ms)?),
            None => Err(LeaseError::Expired),
        }
    }

    pub(super) fn revoke_lease(&self, lease: &LeaseId) -> Result<(), StoreError> {
        let _lock = self.lock(true)?;
        if self.read_lease(&lease.0)?.is_some() {
            self.next_version()?;
            self.remove_leases(std::slice::from_ref(&lease.0))?;
        }
        Ok(())
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.path.join("format.json");
        match read_json::<Format>(&path)? {
            Some(Format::V1 { kind }) if kind == KIND => Ok(()),
            Some(_) => Err(damaged(&path, "this directory is not a topology store")),
            None => {
                let kind = KIND.to_owned();
                self.replace(&path, &to_bytes(&Format::V1 { kind })?, true)
            }
        }
    }

    /// The counter is not synced to disk by itself; after a power failure it may be behind, or gone.
    fn recover_counter(&self) -> Result<(), StoreError> {
        let mut counter = self.counter().unwrap_or(0);
        let mut newest = counter;
        for key in self.keys()? {
            if let Some(file) = self.read_key(&key)? {
                newest = newest.max(file.version);
            }
        }
        for lease in self.lease_names()? {
            let number = lease.strip_prefix("lease-").and_then(|n| n.parse().ok());
            newest = newest.max(number.unwrap_or(0));
        }
        if newest > counter || counter == 0 {
            counter = newest;
            self.replace(&self.path.join("counter"), counter.to_string().as_bytes(), false)?;
        }
        Ok(())
    }

    /// Raises the counter before anything else changes, so that no version is given twice and watches look again.
    fn next_version(&self) -> Result<u64, StoreError> {
        let next = self.counter()? + 1;
        self.replace(&self.path.join("counter"), format!("{next}\n").as_bytes(), false)?;
        Ok(next)
    }

    /// Removes what has expired. Readers ignore it anyway; this keeps the directory small.
    fn sweep(&self) -> Result<(), StoreError> {
        let mut ended = Vec::new();
        for lease in self.lease_names()? {
            if self.live_lease(&lease)?.is_none() {
                ended.push(lease);
            }
        }
        if ended.is_empty() {
            Ok(())
        } else {
            self.remove_leases(&ended)
        }
    }

    /// Keys first: a key whose lease file is gone counts as gone, a lease file without keys is only litter.
    fn remove_leases(&self, leases: &[String]) -> Result<(), StoreError> {
        for key in self.keys()? {
            let bound = self.read_key(&key)?.and_then(|file| file.lease);
            if bound.is_some_and(|lease| leases.contains(&lease)) {
                remove(&self.key_path(&key))?;
            }
        }
        // None of them comes back: a renewal is over before this, or finds nothing.
        let _lock = self.lock_leases()?;
        for lease in leases {
            remove(&self.lease_path(lease))?;
        }
        Ok(())
    }

    /// The key's file, unless its lease has ended.
    fn live(&self, key: &Key) -> Result<Option<KeyFile>, StoreError> {
        let Some(file) = self.read_key(key)? else {
            return Ok(None);
        };
        let alive = match &file.lease {
            None => true,
            Some(lease) => self.live_lease(lease)?.is_some(),
        };
        Ok(alive.then_some(file))
    }

    fn live_lease(&self, lease: &str) -> Result<Option<LeaseFile>, StoreError> {
        let file = self.read_lease(lease)?;
        Ok(file.filter(|file| file.boot == self.boot && clock::now_ms() < file.ends_ms))
    }

    fn read_key(&self, key: &Key) -> Result<Option<KeyFile>, StoreError> {
        let path = self.key_path(key);
        let file = read_json::<KeyFile>(&path)?;
        match file {
            Some(file) if file.key != key.as_str() => Err(damaged(&path, "it holds another key")),
            file => Ok(file),
        }
    }

    fn read_lease(&self, lease: &str) -> Result<Option<LeaseFile>, StoreError> {
        read_json(&self.lease_path(lease))
    }

    /// Not synced: after a power failure every lease has ended anyway.
    fn write_lease(&self, lease: &str, ttl_ms: u64) -> Result<(), StoreError> {
        let file = LeaseFile {
            ttl_ms,
            boot: self.boot.clone(),
            ends_ms: clock::now_ms().saturating_add(ttl_ms),
        };
        self.replace(&self.lease_path(lease), &to_bytes(&file)?, false)
    }

    fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let names = self.names("keys")?;
        let keys = names.iter().map(|name| Key::parse(&name.replace(SLASH, "/")));
        keys.collect::<Result<_, _>>()
            .map_err(|error| damaged(&self.path.join("keys"), &error.to_string()))
    }

    fn lease_names(&self) -> Result<Vec<String>, StoreError> {
        self.names("leases")
    }

    /// Names of the JSON files in a subdirectory, without their ending. Others (a writer's unfinished file) are skipped.
    fn names(&self, sub: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path.join(sub);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| io_error("list", &path, e))? {
            let entry = entry.map_err(|e| io_error("list", &path, e))?;
            if let Some(name) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
            {
                names.push(name.to_owned());
            }
            if names.len() > KEYS_MAX {
                return Err(StoreError::Limit(format!(
                    "{} holds more than {KEYS_MAX} files",
                    path.display()
                )));
            }
        }
        Ok(names)
    }

    fn key_path(&self, key: &Key) -> PathBuf {
        self.path
            .join("keys")
            .join(format!("{}.json", key.as_str().replace('/', SLASH)))
    }

    fn lease_path(&self, lease: &str) -> PathBuf {
        self.path.join("leases").join(format!("{lease}.json"))
    }

    /// Puts a whole file in place of another. Only under the exclusive lock: the temporary name is always the same.
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
        let temporary = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)?;
            if durable && let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e| io_error("write", path, e))
    }

    fn sync_directory(&self, sub: &str) -> Result<(), StoreError> {
        let path = self.path.join(sub);
        let synced = File::open(&path).and_then(|directory| directory.sync_all());
        synced.map_err(|e| io_error("sync", &path, e))
    }

    /// The lock of everything. Who holds it may take that of the leases, not the other way round.
    fn lock(&self, exclusive: bool) -> Result<Locked, StoreError> {
        self.lock_file("lock", exclusive)
    }

    /// The lock of the files of leases that exist. It is never held for longer than it takes to write one, unsynced.
    fn lock_leases(&self) -> Result<Locked, StoreError> {
        self.lock_file("lease-lock", true)
    }

    /// A lock is of the open file, so it also keeps threads of one process apart.
    fn lock_file(&self, name: &str, exclusive: bool) -> Result<Locked, StoreError> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|e| io_error("open", &path, e))?;
        let began = Instant::now();
        loop {
            let attempt = if exclusive {
                file.try_lock()
            } else {
                file.try_lock_shared()
            };
            match attempt {
                Ok(()) => return Ok(Locked(file)),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io_error("lock", &path, ErrorKind::TimedOut.into()));
                }
                Err(TryLockError::Error(error)) => return Err(io_error("lock", &path, error)),
            }
        }
    }
}

impl KeyFile {
    fn into_versioned(self) -> Versioned {
        Versioned {
            version: Version(self.version),
            value: self.value,
        }
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| damaged(path, &error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| StoreError::Damaged {
        what: "a value to be written".to_owned(),
        detail: error.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

fn io_error(what: &str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        what: format!("cannot {what} {}", path.display()),
        source,
    }
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged {
        what: path.display().to_string(),
        detail: detail.to_owned(),
    }
}

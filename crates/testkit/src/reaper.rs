//! A temporary directory whose servers and files do not outlive the test process, however that ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits until the test process closes its end of the pipe, which the kernel does for it if nobody else
/// does; then stops PostgreSQL's processes that were started with a path in `$DIR`, and removes `$DIR`.
const SCRIPT: &str = r#"
cat > /dev/null
tries=0
while [ "$tries" -lt 100 ]; do
    found=
    for file in $(printf '%s\n' "$DIR" | grep -lsF -f - /proc/[0-9]*/cmdline); do
        process=${file%/cmdline}
        case $(readlink "$process/exe") in
        */postgres | */initdb | */pg_basebackup)
            found=1
            signal=QUIT
            [ "$tries" -lt 50 ] || signal=KILL
            kill -s "$signal" "${process#/proc/}"
            ;;
        esac
    done
    [ -n "$found" ] || break
    tries=$((tries + 1))
    sleep 0.1
done
rm -rf "$DIR"
"#;

/// A directory of its own in the system's temporary directory. Servers that run in it and the directory
/// itself go away when the value is dropped, or when the process ends in any way, `kill -9` included.
#[derive(Debug)]
pub struct ReapedDir {
    path: PathBuf,
    reaper: Child,
}

impl ReapedDir {
    /// Creates the directory and the process that watches over it.
    ///
    /// # Panics
    /// When either cannot be created, or the account servers run as cannot enter the temporary directory.
    pub fn new() -> ReapedDir {
        let directory = tempfile::Builder::new()
            .prefix("drover-test-")
            .tempdir()
            .expect("a temporary directory");
        let path = directory
            .path()
            .canonicalize()
            .expect("the temporary directory's path");
        // The servers' account must get in; what is inside has permissions of its own.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("permissions");
        let user = agent::ServiceUser::choose().expect("an account for the servers");
        assert!(
            user.can_enter(&path),
            "{} cannot be entered by {user:?}: set TMPDIR",
            path.display()
        );
        let reaper = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .env("DIR", &path)
            .current_dir("/")
            // Ctrl-C in the terminal is for the tests; the reaper has its work still before it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        // From here on the reaper removes it.
        let _ = directory.keep();
        ReapedDir { path, reaper }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for ReapedDir {
    fn default() -> ReapedDir {
        ReapedDir::new()
    }
}

impl Drop for ReapedDir {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        // It ends by itself within seconds.
        let _ = self.reaper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_the_value() {
        let directory = ReapedDir::new();
        let path = directory.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}

//! The kernel's word that something in a directory was replaced.
//!
//! Only a hint: whoever is told looks for himself, and looks once in a while without being told.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, read};
use tokio::io::unix::AsyncFd;

/// For events of files in the store's directory; their names are short.
const EVENT_BYTES: usize = 1024;

/// Tells when a file was moved into one directory: how every file of a store is written.
#[derive(Debug)]
pub(super) struct Notice {
    /// `None`: this system does not tell.
    queue: Option<AsyncFd<OwnedFd>>,
}

impl Notice {
    /// Begins to listen. Needs a runtime with IO; where the kernel refuses (a user may have so many instances, 128 by
    /// default) nothing will be told.
    pub(super) fn on(directory: &Path) -> Notice {
        let queue = open(directory)
            .inspect_err(|error| {
                tracing::info!(%error, "no word of changes from the kernel; the topology store is polled");
            })
            .ok();
        Notice { queue }
    }

    /// Whether changes are told at all.
    pub(super) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Waits until something was told since the last time; for ever when nothing is. Cancel safe.
    pub(super) async fn given(&mut self) {
        let Some(queue) = &self.queue else {
            return std::future::pending().await;
        };
        loop {
            let told = match queue.readable().await {
                Ok(mut ready) => ready.try_io(|queue| drain(queue.get_ref())),
                Err(error) => Ok(Err(error)),
            };
            match told {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no more word of changes from the kernel; the topology store is polled");
                    self.queue = None;
                    return;
                }
                // Nothing there after all.
                Err(_) => {}
            }
        }
    }
}

fn open(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&queue, directory, WatchFlags::MOVED_TO)?;
    #[expect(
        deprecated,
        reason = "unsound only for types that lend another's descriptor; this one owns its own"
    )]
    AsyncFd::new(queue)
}

/// Takes everything that was told: an event for each file, of which one look finds all. `WouldBlock`: there is nothing.
fn drain(queue: &OwnedFd) -> io::Result<()> {
    let mut events = [0_u8; EVENT_BYTES];
    let mut any = false;
    loop {
        match read(queue, &mut events) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => any = true,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if any => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

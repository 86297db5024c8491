//! Where proxies say that they have reached a point of the protocol, and wait to be let go on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::reaper::ReapedDir;

/// How long a process may take to say what it has connected for; a stopped one says nothing.
const WORDS_WITHIN: Duration = Duration::from_millis(100);

/// A process at a point. It goes on when this is dropped.
#[derive(Debug)]
pub(super) struct Hit {
    /// Which process.
    pub(super) pid: u32,
    /// The shard that the point is about.
    pub(super) shard: u32,
    stream: UnixStream,
}

impl Hit {
    /// Makes it lose the connection that the point is about, and go on.
    pub(super) fn cut(mut self) {
        let _ = self.stream.write_all(b"cut");
    }
}

/// What is waited for.
#[derive(Debug)]
struct Armed {
    point: String,
    /// How many come before it.
    before: u64,
    hit: mpsc::Sender<Hit>,
}

/// The socket, and the thread behind it.
#[derive(Debug)]
pub(super) struct Points {
    dir: ReapedDir,
    armed: Arc<Mutex<Option<Armed>>>,
    over: Arc<AtomicBool>,
}

impl Points {
    /// Listens from now on; everybody goes on at once until something is waited for.
    pub(super) fn listen() -> Self {
        let points = Self {
            dir: ReapedDir::new(),
            armed: Arc::default(),
            over: Arc::default(),
        };
        let listener = UnixListener::bind(points.path()).expect("a socket");
        let (armed, over) = (Arc::clone(&points.armed), Arc::clone(&points.over));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                take(stream, &armed);
            }
        });
        points
    }

    /// Where.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("points")
    }

    /// Waits until this point is reached once more than `before` times.
    pub(super) fn wait(&self, point: &str, before: u64, patience: Duration) -> Option<Hit> {
        let (sender, receiver) = mpsc::channel();
        *self.armed.lock().expect("no panic") = Some(Armed {
            point: point.to_owned(),
            before,
            hit: sender,
        });
        let hit = receiver.recv_timeout(patience).ok();
        *self.armed.lock().expect("no panic") = None;
        hit
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(Path::new(&self.path()));
    }
}

/// Lets it go on, unless it is waited for.
fn take(stream: UnixStream, armed: &Mutex<Option<Armed>>) {
    let _ = stream.set_read_timeout(Some(WORDS_WITHIN));
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split_whitespace();
    let (Some(pid), Some(point), Some(shard)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let (Ok(pid), Ok(shard)) = (pid.parse(), shard.parse()) else {
        return;
    };
    let mut armed = armed.lock().expect("no panic");
    let Some(wanted) = armed.as_mut().filter(|wanted| wanted.point == point) else {
        return;
    };
    if wanted.before > 0 {
        wanted.before -= 1;
    } else if let Some(wanted) = armed.take() {
        let _ = wanted.hit.send(Hit { pid, shard, stream });
    }
}

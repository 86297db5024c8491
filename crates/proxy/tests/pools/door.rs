//! A way to a server that can be shut: what passes is held back, as by a firewall that drops packets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards a port of its own to a server, until it is dropped.
pub struct Door {
    pub port: u16,
    shut: Arc<watch::Sender<bool>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    pub fn to(host: &str, port: u16) -> Door {
        let target = format!("{host}:{port}");
        let (shut, is_shut) = watch::channel(false);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                tokio::select! {
                    () = serve(listener, target, is_shut) => {}
                    _ = stopped => {}
                }
            });
            // Whoever is held back at a shut door is let go.
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Door {
            port: told.recv().unwrap(),
            shut: Arc::new(shut),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// From now on nothing passes, and nobody is told.
    pub fn shut(&self) {
        self.shut.send_replace(true);
    }

    pub fn open(&self) {
        self.shut.send_replace(false);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, target: String, shut: watch::Receiver<bool>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            return;
        };
        let (target, shut) = (target.clone(), shut.clone());
        tokio::spawn(async move {
            if pass(shut.clone()).await.is_err() {
                return;
            }
            let Ok(far) = TcpStream::connect(&target).await else {
                return;
            };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::select! {
                _ = copy(near_in, far_out, shut.clone()) => {}
                _ = copy(far_in, near_out, shut) => {}
            }
        });
    }
}

/// Waits until the door is open.
async fn pass(mut shut: watch::Receiver<bool>) -> io::Result<()> {
    let open = shut.wait_for(|shut| !*shut).await;
    open.map(|_| ()).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    shut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let n = from.read(&mut bytes).await?;
        pass(shut.clone()).await?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..n]).await?;
    }
}

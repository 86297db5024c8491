use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn pair() -> (Conn, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (
        Conn::new(Socket::Tcp(ours.expect("connects")), Buffers::new()),
        theirs.expect("accepts").0,
    )
}

#[tokio::test]
async fn messages_are_found_and_consumed() {
    let (mut conn, mut peer) = pair().await;
    peer.write_all(b"Z\0\0\0\x05IC\0\0\0\x07ab").await.expect("sent");
    conn.fill_to(13).await.expect("read");
    let message = conn.message(100).expect("valid").expect("complete");
    assert_eq!((message.tag, message.body()), (b'Z', &b"I"[..]));
    conn.consume(6);
    assert!(conn.message(100).expect("valid").is_none(), "a byte is missing");
    peer.write_all(b"c").await.expect("sent");
    assert_eq!(conn.fill_message(100).await.expect("complete").len, 8);
    assert_eq!(&conn.take(8)[..], b"C\0\0\0\x07abc");
    peer.write_all(b"D\x7f\0\0\0").await.expect("sent");
    assert_eq!(
        conn.fill_message(100).await.expect_err("too long").kind(),
        io::ErrorKind::InvalidData
    );
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffers() {
    let (mut conn, mut peer) = pair().await;
    peer.write_all(b"hello").await.expect("sent");
    conn.fill().await.expect("read");
    conn.consume(5);
    conn.out().extend_from_slice(b"answer");
    conn.flush().await.expect("sent");
    assert!(conn.try_fill().is_none());
    assert_eq!((conn.input.capacity(), conn.output.capacity()), (0, 0));
    assert_eq!(conn.buffers().kept(), 2);
}

#[tokio::test]
async fn transfer_moves_whole_buffers_and_copies_parts() {
    let ((mut from, mut source), (mut to, mut sink)) = (pair().await, pair().await);
    source.write_all(b"12345678").await.expect("sent");
    from.fill_to(8).await.expect("read");
    from.transfer(3, &mut to);
    assert_eq!((from.unread(), to.pending_out()), (&b"45678"[..], 3));
    to.flush().await.expect("sent");
    let place = from.unread().as_ptr();
    from.transfer(5, &mut to);
    assert_eq!(to.out().as_ptr(), place, "the buffers changed places");
    to.flush().await.expect("sent");
    let mut all = [0; 8];
    sink.read_exact(&mut all).await.expect("read");
    assert_eq!(&all, b"12345678");
}

#[tokio::test]
async fn a_peer_that_writes_before_it_reads_does_not_block_us() {
    let (mut conn, mut peer) = pair().await;
    const LENGTH: usize = 20_000_000;
    let peer = tokio::spawn(async move {
        // Far more than the kernel buffers, in both directions.
        peer.write_all(&vec![1; LENGTH]).await.expect("sent");
        let mut got = 0;
        let mut buffer = vec![0; 100_000];
        while got < LENGTH {
            got += peer.read(&mut buffer).await.expect("read");
        }
        got
    });
    conn.out().extend_from_slice(&vec![2; LENGTH]);
    let mut received = 0;
    while received < LENGTH {
        let n = conn.exchange().await.expect("goes on");
        assert!(n > 0);
        received += n;
        conn.consume(n);
    }
    conn.flush().await.expect("sent");
    assert_eq!(peer.await.expect("no failure"), LENGTH);
    assert_eq!(conn.traffic(), (LENGTH as u64, LENGTH as u64));
    assert!(
        conn.input.capacity() < 1 << 20,
        "the buffer did not grow with the stream"
    );
}

#[tokio::test]
async fn last_words_are_read_although_writing_fails() {
    let (mut conn, mut peer) = pair().await;
    peer.write_all(b"why").await.expect("sent");
    drop(peer);
    // The first write provokes a reset, the second would fail because of it.
    conn.out().extend_from_slice(b"x");
    let _ = conn.flush().await;
    conn.out().extend_from_slice(b"y");
    let mut words = Vec::new();
    while let Ok(n) = conn.exchange().await {
        words.extend_from_slice(conn.unread());
        conn.consume(n);
        if n == 0 {
            break;
        }
    }
    // A reset may discard what was not read yet; what was read is never garbage.
    assert!(words.is_empty() || words == b"why");
}

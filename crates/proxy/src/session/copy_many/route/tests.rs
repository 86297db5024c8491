use catalog::{KeyType, KeyValue};
use wire::frame::Message;
use wire::frontend::Frontend;

use super::super::key::KeyField;
use super::*;

fn map() -> ShardMap {
    ShardMap::even(&[ShardId(1), ShardId(4), ShardId(9)]).unwrap()
}

fn key(options: CopyOptions, key_type: KeyType) -> KeyReader {
    KeyReader {
        options,
        columns: vec![KeyField {
            field: Some(1),
            key_type,
            step: None,
        }],
        forced: false,
    }
}

/// The bodies of a lane's messages, joined, and the length of the longest.
fn bodies(mut bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut joined = Vec::new();
    let mut longest = 0;
    while !bytes.is_empty() {
        let len = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize + 1;
        let message = Message::whole(&bytes[..len]).unwrap();
        let Ok(Frontend::CopyData(data)) = Frontend::decode(message) else {
            panic!("not CopyData")
        };
        joined.extend_from_slice(data);
        longest = longest.max(data.len());
        bytes = &bytes[len..];
    }
    (joined, longest)
}

/// What each lane gets of a stream fed in chunks of this size.
fn lanes(router: &mut Router, data: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, RouteError> {
    let mut outs = vec![BytesMut::new(); 3];
    for part in data.chunks(chunk) {
        router.feed(part);
        assert_eq!(router.deal(false)?, Dealt::All);
        if part.len() % 2 == 1 {
            outs.iter_mut()
                .enumerate()
                .for_each(|(lane, out)| router.take(lane, out));
        }
    }
    router.finish();
    assert_eq!(router.deal(true)?, Dealt::All);
    outs.iter_mut()
        .enumerate()
        .for_each(|(lane, out)| router.take(lane, out));
    Ok(outs.iter().map(|out| bodies(out).0).collect())
}

fn lane(value: &KeyValue) -> usize {
    map()
        .shards()
        .iter()
        .position(|shard| *shard == map().shard_of(value))
        .unwrap()
}

#[test]
fn rows_go_to_the_owner_of_their_key() {
    let mut expect = vec![b"head,id\n".to_vec(); 3];
    let mut data = b"head,id\r\n".to_vec();
    for number in 0..500i64 {
        let value = if number % 7 == 0 {
            KeyValue::Null
        } else {
            KeyValue::Int(number)
        };
        let text = if value == KeyValue::Null {
            String::new()
        } else {
            format!("\"{number}\"")
        };
        let row = format!("\"a,\"\"\r\n{number}\",{text},é");
        data.extend_from_slice(format!("{row}\r\n").as_bytes());
        expect[lane(&value)].extend_from_slice(format!("{row}\n").as_bytes());
    }
    for chunk in [1, 2, 5, 1000, usize::MAX] {
        let mut options = CopyOptions::csv(15);
        options.header = true;
        let mut router = Router::by_key(key(options, KeyType::Int4), map());
        assert_eq!(lanes(&mut router, &data, chunk).unwrap(), expect, "{chunk}");
        assert_eq!((0..3).map(|lane| router.rows(lane)).sum::<u64>(), 500);
        assert!(!router.sent_faulty());
    }
}

#[test]
fn text_and_binary_agree_on_the_place() {
    let mut binary_data = binary::HEADER.to_vec();
    let mut text_data = Vec::new();
    for number in 0..200 {
        let name = format!("k {number}\t");
        text_data.extend_from_slice(format!("{number}\tk {number}\\t\n").as_bytes());
        binary_data.extend_from_slice(&[0, 2, 0, 0, 0, 4]);
        binary_data.extend_from_slice(&i32::to_be_bytes(number));
        binary_data.extend_from_slice(&(name.len() as u32).to_be_bytes());
        binary_data.extend_from_slice(name.as_bytes());
    }
    binary_data.extend_from_slice(binary::TRAILER);
    let mut text = Router::by_key(key(CopyOptions::text(15), KeyType::Text), map());
    lanes(&mut text, &text_data, 100).unwrap();
    let mut binary = Router::by_key(key(CopyOptions::binary(15), KeyType::Text), map());
    let parts = lanes(&mut binary, &binary_data, 100).unwrap();
    for (lane, part) in parts.iter().enumerate() {
        assert_eq!(text.rows(lane), binary.rows(lane));
        assert!(binary.rows(lane) > 20);
        assert!(part.starts_with(binary::HEADER) && part.ends_with(binary::TRAILER));
    }
}

#[test]
fn rows_no_server_takes_are_sent_all_the_same() {
    let mut router = Router::by_key(key(CopyOptions::text(15), KeyType::Int8), map());
    let parts = lanes(&mut router, b"only one\nx\tseven\n", 4).unwrap();
    assert_eq!(parts[0], b"only one\nx\tseven\n");
    assert!(router.sent_faulty());
}

#[test]
fn messages_stay_small() {
    let mut router = Router::single(&CopyOptions::text(15));
    let row = [b'x'; 999];
    for _ in 0..1000 {
        router.feed(&row);
        router.feed(b"\n");
    }
    assert_eq!(router.deal(false), Ok(Dealt::All));
    assert!(router.held_bytes() > 1_000_000);
    let mut outs = [BytesMut::new(), BytesMut::from(&b"Q\0\0\0\x04"[..])];
    router.take_for_all(outs.iter_mut());
    assert_eq!(router.held_bytes(), 0);
    assert_eq!(outs[0], outs[1][5..]);
    let (joined, longest) = bodies(&outs[0]);
    assert_eq!(joined.len(), 1_000_000);
    assert!(longest < MESSAGE_BYTES + 1001);
}

#[test]
fn values_are_appended_and_asked_for_when_they_run_out() {
    let mut options = CopyOptions::text(15);
    options.header = true;
    let mut router = Router::single(&options);
    router.append_to_rows(b"\tid".to_vec());
    router.feed(b"a\n1\n2\n3");
    router.finish();
    for values in [
        [b"\t10".to_vec(), b"\t11".to_vec()],
        [b"\t12".to_vec(), b"\t13".to_vec()],
    ] {
        assert_eq!(router.deal(true), Ok(Dealt::WantsValues));
        router.append_next(values.to_vec());
    }
    assert_eq!(router.deal(true), Ok(Dealt::All));
    let mut out = BytesMut::new();
    router.take(0, &mut out);
    assert_eq!(bodies(&out).0, b"a\tid\n1\t10\n2\t11\n3\t12\n");
    assert_eq!(router.rows(0), 3);
}

#[test]
fn a_broken_stream_is_an_error() {
    let mut router = Router::by_key(key(CopyOptions::csv(15), KeyType::Text), map());
    assert_eq!(
        lanes(&mut router, b"a,\"b\n", 10),
        Err(RouteError::Stream(CopyError::UnterminatedQuote))
    );
}

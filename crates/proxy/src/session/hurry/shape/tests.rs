use bytes::BytesMut;
use wire::backend::encode as answer;
use wire::frontend::encode;
use wire::{Target, TransactionStatus};

use super::*;

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut bytes = BytesMut::new();
    build(&mut bytes);
    bytes
}

fn parse(bytes: &mut BytesMut, name: &str, types: &[u32]) {
    encode::parse(bytes, name.as_bytes(), b"SELECT $1", types.iter().copied()).expect("short");
}

/// A Bind of the unnamed portal without parameters.
fn bind(bytes: &mut BytesMut, statement: &str) {
    message(bytes, b'B', &[b"\0", statement.as_bytes(), &[0; 7]].concat());
}

fn message(bytes: &mut BytesMut, tag: u8, body: &[u8]) {
    bytes.extend_from_slice(&[tag]);
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    bytes.extend_from_slice(body);
}

fn execute_and_sync(bytes: &mut BytesMut) {
    encode::execute(bytes, b"", 0).expect("short");
    encode::sync(bytes);
}

const LIMIT: usize = 1 << 20;

#[test]
fn a_request_is_incomplete_until_its_last_byte() {
    let query = built(|bytes| encode::query(bytes, b"SELECT 1").expect("short"));
    let batch = built(|bytes| {
        parse(bytes, "", &[]);
        bind(bytes, "");
        encode::describe(bytes, Target::Portal, b"").expect("short");
        execute_and_sync(bytes);
    });
    for whole in [&query, &batch] {
        for end in 0..whole.len() {
            assert_eq!(shape_of(&whole[..end], LIMIT), Shape::Incomplete, "{end}");
        }
    }
    assert_eq!(shape_of(&query, LIMIT), Shape::Query(query.len()));
    // What follows is the next request.
    let mut two = batch.clone();
    two.extend_from_slice(&query);
    let Shape::Batch(found) = shape_of(&two, LIMIT) else {
        panic!("no batch");
    };
    assert_eq!(found.len, batch.len());
    assert_eq!(found.statement(&two), Some(&b""[..]));
    assert_eq!(found.parses(&two, "SELECT $1", &[]), Some(0));
    assert_eq!(found.parses(&two, "SELECT $", &[]), None);
    assert_eq!(found.parses(&two, "SELECT $12", &[]), None);
}

#[test]
fn types_that_are_left_open_count_as_none() {
    let check = |declared: &[u32], known: &[u32]| {
        let bytes = built(|bytes| {
            parse(bytes, "", declared);
            bind(bytes, "");
            execute_and_sync(bytes);
        });
        match shape_of(&bytes, LIMIT) {
            Shape::Batch(batch) => batch.parses(&bytes, "SELECT $1", known),
            _ => None,
        }
    };
    assert_eq!(check(&[0, 0], &[]), Some(2));
    assert_eq!(check(&[23], &[23]), Some(1));
    assert_eq!(check(&[23], &[]), None);
    assert_eq!(check(&[23], &[20]), None);
    assert_eq!(check(&[], &[23]), None);
}

#[test]
fn everything_else_is_something_else() {
    let other = |build: &dyn Fn(&mut BytesMut)| {
        assert_eq!(shape_of(&built(|bytes| build(bytes)), LIMIT), Shape::Other);
    };
    other(&encode::sync);
    other(&|bytes| parse(bytes, "named", &[]));
    other(&|bytes| {
        parse(bytes, "", &[]);
        parse(bytes, "", &[]);
    });
    other(&|bytes| message(bytes, b'B', b"portal\0\0\0\0\0\0\0\0"));
    other(&|bytes| {
        bind(bytes, "s");
        encode::describe(bytes, Target::Statement, b"s").expect("short");
    });
    other(&|bytes| {
        bind(bytes, "s");
        encode::flush(bytes);
    });
    other(&|bytes| {
        bind(bytes, "s");
        encode::execute(bytes, b"p", 0).expect("short");
    });
    other(&|bytes| {
        bind(bytes, "s");
        encode::execute(bytes, b"", 0).expect("short");
        bind(bytes, "s");
    });
    other(&|bytes| bytes.extend_from_slice(b"Q\0\0\0\x01"));
    assert_eq!(shape_of(b"Q\x7f\0\0\0", LIMIT), Shape::Other);
}

#[test]
fn only_a_whole_answer_without_news_is_quiet() {
    let ready = |bytes: &mut BytesMut| answer::ready_for_query(bytes, TransactionStatus::Idle);
    let mut whole = built(|bytes| {
        answer::parse_complete(bytes);
        answer::bind_complete(bytes);
        message(bytes, b'D', &[0, 0]);
        answer::command_complete(bytes, b"SELECT 1").expect("short");
        ready(bytes);
    });
    let quiet = quiet_answer(&mut whole, None).expect("quiet");
    assert_eq!(quiet.status, TransactionStatus::Idle);
    assert_eq!(&whole[quiet.tag], b"SELECT 1\0");
    for end in 0..whole.len() {
        assert_eq!(quiet_answer(&mut whole[..end].to_vec(), None), None, "{end}");
    }
    for news in [b'E', b'N', b'S', b'A', b'G', b'H', b'W'] {
        let mut bytes = built(|bytes| {
            message(bytes, news, &[0, 0, 0]);
            ready(bytes);
        });
        assert_eq!(quiet_answer(&mut bytes, None), None, "{}", char::from(news));
    }
    let mut more = built(|bytes| {
        ready(bytes);
        message(bytes, b'D', &[0, 0]);
    });
    assert_eq!(quiet_answer(&mut more, None), None);
}

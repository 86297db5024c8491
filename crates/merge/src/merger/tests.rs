use super::*;
use crate::Comparator;
use bytes::BytesMut;
use proptest::prelude::*;
use wire::backend::encode::data_row;

/// A row of a nullable int4 sort key and a label.
fn row(key: Option<i32>, label: &str) -> Bytes {
    let mut buf = BytesMut::new();
    let raw = key.map(i32::to_be_bytes);
    data_row(&mut buf, [raw.as_ref().map(|b| &b[..]), Some(label.as_bytes())]).unwrap();
    buf.freeze()
}

fn by_first(descending: bool, nulls_first: bool) -> Vec<SortKey> {
    vec![SortKey {
        column: 0,
        comparator: Comparator::Int4,
        descending,
        nulls_first,
    }]
}

#[test]
fn says_whom_it_waits_for() {
    let mut merger = Merger::new(by_first(false, false), 2, Bounds::default());
    assert_eq!(merger.pop(), Ok(Next::Wait { source: 0 }));
    merger.push(0, row(Some(1), "a"));
    merger.push(0, row(Some(3), "c"));
    assert_eq!(merger.pop(), Ok(Next::Wait { source: 1 }));
    merger.push(1, row(Some(2), "b"));
    assert_eq!(merger.buffered_bytes(), 3 * row(Some(1), "a").len());
    assert_eq!(
        merger.pop(),
        Ok(Next::Row {
            source: 0,
            row: row(Some(1), "a")
        })
    );
    assert_eq!(
        merger.pop(),
        Ok(Next::Row {
            source: 1,
            row: row(Some(2), "b")
        })
    );
    assert_eq!(merger.pop(), Ok(Next::Wait { source: 1 }));
    merger.finish(1);
    assert_eq!(
        merger.pop(),
        Ok(Next::Row {
            source: 0,
            row: row(Some(3), "c")
        })
    );
    assert_eq!(merger.pop(), Ok(Next::Wait { source: 0 }));
    merger.finish(0);
    assert_eq!(merger.pop(), Ok(Next::Done));
    assert_eq!(merger.buffered_bytes(), 0);
    assert_eq!(Merger::new(vec![], 0, Bounds::default()).pop(), Ok(Next::Done));
}

#[test]
fn the_limit_ends_it_and_drops_what_is_left() {
    let bounds = Bounds {
        offset: 1,
        limit: Some(1),
    };
    let mut merger = Merger::new(by_first(false, false), 2, bounds);
    for (source, key) in [(0, 1), (0, 5), (1, 2), (1, 6)] {
        merger.push(source, row(Some(key), ""));
    }
    assert_eq!(
        merger.pop(),
        Ok(Next::Row {
            source: 1,
            row: row(Some(2), "")
        })
    );
    assert_eq!(merger.pop(), Ok(Next::Done), "without waiting for anybody");
    assert_eq!((merger.buffered_bytes(), merger.buffered_rows(0)), (0, 0));
    let nothing = Bounds {
        offset: 0,
        limit: Some(0),
    };
    assert_eq!(Merger::new(vec![], 3, nothing).pop(), Ok(Next::Done));
}

#[test]
fn a_source_in_another_order_is_an_error() {
    let mut merger = Merger::new(by_first(false, false), 1, Bounds::default());
    merger.push(0, row(Some(2), ""));
    merger.push(0, row(Some(2), ""));
    merger.push(0, row(Some(1), ""));
    assert!(merger.pop().is_ok());
    assert!(merger.pop().is_ok());
    assert_eq!(merger.pop(), Err(MergeError::OutOfOrder { source_index: 0 }));
}

#[test]
fn malformed_rows_are_errors() {
    let mut merger = Merger::new(by_first(false, false), 1, Bounds::default());
    merger.push(0, Bytes::from_static(b"C\0\0\0\x05\0"));
    assert_eq!(merger.pop(), Err(MergeError::Malformed { source_index: 0 }));
    let mut merger = Merger::new(by_first(false, false), 1, Bounds::default());
    merger.push(0, Bytes::from_static(b"D\0\0\0\x0b\0\x01\0\0\0\x01x"));
    let cause = KeyError::Malformed(Comparator::Int4);
    assert_eq!(
        merger.pop(),
        Err(MergeError::Key {
            source_index: 0,
            cause
        })
    );
}

/// Rows are pushed as late as the merger allows, so every wait is exercised.
fn merged(sources: &[Vec<Bytes>], keys: Vec<SortKey>, bounds: Bounds) -> Vec<Bytes> {
    let mut merger = Merger::new(keys, sources.len(), bounds);
    let mut sent = vec![0; sources.len()];
    let mut out = Vec::new();
    loop {
        match merger.pop().unwrap() {
            Next::Row { row, .. } => out.push(row),
            Next::Done => return out,
            Next::Wait { source } => match sources[source].get(sent[source]) {
                Some(row) => {
                    merger.push(source, row.clone());
                    sent[source] += 1;
                }
                None => merger.finish(source),
            },
        }
    }
}

proptest! {
    #[test]
    fn is_a_stable_sort_of_everything(
        mut sources in prop::collection::vec(prop::collection::vec(prop::option::of(-4..4i32), 0..12), 0..6),
        descending in any::<bool>(),
        nulls_first in any::<bool>(),
        offset in 0..5u64,
        limit in prop::option::of(0..20u64),
    ) {
        let rank = |key: &Option<i32>| match key {
            None => (if nulls_first { 0 } else { 2 }, 0),
            Some(key) => (1, if descending { -key } else { *key }),
        };
        sources.iter_mut().for_each(|keys| keys.sort_by_key(rank));
        let label = |source: usize, at: usize| format!("{source}/{at}");
        let rows: Vec<Vec<Bytes>> = sources
            .iter()
            .enumerate()
            .map(|(s, keys)| keys.iter().enumerate().map(|(at, key)| row(*key, &label(s, at))).collect())
            .collect();
        let mut expect: Vec<(Option<i32>, Bytes)> = Vec::new();
        for (keys, rows) in sources.iter().zip(&rows) {
            expect.extend(keys.iter().copied().zip(rows.iter().cloned()));
        }
        expect.sort_by_key(|(key, _)| rank(key));
        let take = limit.unwrap_or(u64::MAX) as usize;
        let expect: Vec<Bytes> = expect.into_iter().map(|(_, row)| row).skip(offset as usize).take(take).collect();
        prop_assert_eq!(merged(&rows, by_first(descending, nulls_first), Bounds { offset, limit }), expect);
    }

    /// Whatever a server sends as a row or a value: an error at worst.
    #[test]
    fn rows_from_outside_do_not_panic(
        body in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..24)),
        oid in prop::sample::select(vec![16, 17, 18, 20, 21, 23, 25, 26, 700, 701, 1042, 1082, 1114, 1186, 1266, 1700, 2950]),
    ) {
        let comparator = Comparator::for_type(oid, true).unwrap();
        let keys = vec![SortKey { column: 0, comparator, descending: true, nulls_first: false }];
        let mut raw = BytesMut::from(&b"D"[..]);
        raw.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        raw.extend_from_slice(&body);
        let mut framed = BytesMut::new();
        data_row(&mut framed, [value.as_deref()]).unwrap();
        for row in [raw.freeze(), framed.freeze()] {
            let mut merger = Merger::new(keys.clone(), 1, Bounds::default());
            merger.push(0, row.clone());
            let _ = merger.pop();
            let _ = crate::row::truncate_columns(&row, 1, &mut BytesMut::new());
        }
    }
}

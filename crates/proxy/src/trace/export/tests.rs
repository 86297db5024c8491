//! The exporter against a collector of a few lines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use super::super::{SpanId, SpanKind, TraceId};
use super::*;

/// Takes posts until `count` have come, answering each with `status`; gives their bodies.
fn collector(count: usize, status: &'static str) -> (Endpoint, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let thread = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let (mut socket, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut length = 0;
            let mut line = String::new();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(String::from_utf8(body).unwrap());
            write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
        }
        bodies
    });
    (endpoint, thread)
}

fn span(name: &str) -> Span {
    Span {
        trace: TraceId([1; 16]),
        id: SpanId([2; 8]),
        parent: None,
        name: name.to_owned(),
        kind: SpanKind::Internal,
        start_ns: 1,
        end_ns: 2,
        attributes: Vec::new(),
        error: None,
    }
}

#[test]
fn spans_arrive_and_are_counted() {
    let (endpoint, collector) = collector(1, "200 OK");
    let metrics = Arc::new(WorkerMetrics::default());
    let exporter = Exporter::start(endpoint, "drover".into(), Arc::clone(&metrics)).unwrap();
    assert!(exporter.send(vec![span("one"), span("two")]));
    assert!(exporter.send(vec![span("three")]));
    // What waits is sent when the exporter ends.
    drop(exporter);
    let bodies = collector.join().unwrap();
    assert!(bodies[0].contains(r#""name":"one""#) && bodies[0].contains(r#""name":"three""#));
    assert_eq!((metrics.spans_exported.get(), metrics.spans_failed.get()), (3, 0));
}

#[test]
fn a_refusing_collector_costs_the_spans_only() {
    let (endpoint, collector) = collector(1, "503 Service Unavailable");
    let metrics = Arc::new(WorkerMetrics::default());
    let exporter = Exporter::start(endpoint, "drover".into(), Arc::clone(&metrics)).unwrap();
    assert!(exporter.send(vec![span("one")]));
    drop(exporter);
    collector.join().unwrap();
    assert_eq!((metrics.spans_exported.get(), metrics.spans_failed.get()), (0, 1));
}

#[test]
fn a_full_queue_drops() {
    // Bound, but nobody accepts or answers: the first post waits for an answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let metrics = Arc::new(WorkerMetrics::default());
    let exporter = Exporter::start(endpoint, "drover".into(), metrics).unwrap();
    // A batch takes at most BATCH_MAX requests off the queue before the post blocks.
    let sent = (0..QUEUE_MAX * 2 + BATCH_MAX)
        .filter(|_| exporter.send(vec![span("x")]))
        .count();
    assert!((QUEUE_MAX..QUEUE_MAX * 2 + BATCH_MAX).contains(&sent), "{sent}");
    // The connection is closed at once: the end of the test does not wait for a time-out.
    drop(listener);
}

#[test]
fn endpoints() {
    let parsed = |text: &str| text.parse::<Endpoint>();
    let endpoint = parsed("http://collector:4318").unwrap();
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port, endpoint.path.as_str()),
        ("collector", 4318, "/v1/traces")
    );
    let endpoint = parsed("http://[::1]:80/custom/traces").unwrap();
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port, endpoint.path.as_str()),
        ("::1", 80, "/custom/traces")
    );
    assert_eq!(parsed("http://[::1]").unwrap().port, 4318);
    assert_eq!(parsed("https://x:1"), Err(EndpointError::Scheme));
    for bad in ["http://", "http://:1", "http://x:0", "http://x:y", "http://u@x:1"] {
        assert_eq!(parsed(bad), Err(EndpointError::Authority), "{bad}");
    }
    assert_eq!(parsed("http://x y:1"), Err(EndpointError::Characters));
}

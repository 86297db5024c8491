//! Spans as an OTLP export request in JSON, as the specification maps it: ids in hexadecimal, 64-bit numbers as strings.

use std::fmt::Write as _;

use super::{Span, SpanKind, Value};
use crate::json::{push_hex, push_string};

/// The body of an export request.
pub(super) fn request(service: &str, spans: &[Span]) -> String {
    let mut out = String::with_capacity(256 + spans.len() * 512);
    out.push_str(r#"{"resourceSpans":[{"resource":{"attributes":["#);
    attribute(&mut out, "service.name", &Value::Text(service.to_owned()));
    out.push_str(r#"]},"scopeSpans":[{"scope":{"name":"drover"},"spans":["#);
    for (turn, span) in spans.iter().enumerate() {
        if turn > 0 {
            out.push(',');
        }
        one(&mut out, span);
    }
    out.push_str("]}]}]}");
    out
}

fn one(out: &mut String, span: &Span) {
    out.push_str(r#"{"traceId":"#);
    push_hex(out, &span.trace.0);
    out.push_str(r#","spanId":"#);
    push_hex(out, &span.id.0);
    if let Some(parent) = span.parent {
        out.push_str(r#","parentSpanId":"#);
        push_hex(out, &parent.0);
    }
    out.push_str(r#","name":"#);
    push_string(out, &span.name);
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    };
    let _ = write!(
        out,
        r#","kind":{kind},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":["#,
        span.start_ns, span.end_ns
    );
    for (turn, (key, value)) in span.attributes.iter().enumerate() {
        if turn > 0 {
            out.push(',');
        }
        attribute(out, key, value);
    }
    out.push(']');
    if let Some(state) = &span.error {
        out.push_str(r#","status":{"code":2,"message":"#);
        push_string(out, state);
        out.push('}');
    }
    out.push('}');
}

fn attribute(out: &mut String, key: &str, value: &Value) {
    out.push_str(r#"{"key":"#);
    push_string(out, key);
    match value {
        Value::Text(text) => {
            out.push_str(r#","value":{"stringValue":"#);
            push_string(out, text);
        }
        Value::Number(number) => {
            let _ = write!(out, r#","value":{{"intValue":"{number}""#);
        }
    }
    out.push_str("}}");
}

#[cfg(test)]
mod tests {
    use super::super::{SpanId, TraceId};
    use super::*;

    #[test]
    fn a_span_in_json() {
        let span = Span {
            trace: TraceId([1; 16]),
            id: SpanId([2; 8]),
            parent: Some(SpanId([3; 8])),
            name: "SELECT \"x\"".to_owned(),
            kind: SpanKind::Server,
            start_ns: 5,
            end_ns: 7,
            attributes: vec![
                ("db.system", Value::Text("postgresql".to_owned())),
                ("drover.shards", Value::Number(2)),
            ],
            error: Some("23505".to_owned()),
        };
        let expected = concat!(
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"drover"}}]},"#,
            r#""scopeSpans":[{"scope":{"name":"drover"},"spans":[{"traceId":"01010101010101010101010101010101","#,
            r#""spanId":"0202020202020202","parentSpanId":"0303030303030303","name":"SELECT \"x\"","kind":2,"#,
            r#""startTimeUnixNano":"5","endTimeUnixNano":"7","attributes":["#,
            r#"{"key":"db.system","value":{"stringValue":"postgresql"}},"#,
            r#"{"key":"drover.shards","value":{"intValue":"2"}}],"#,
            r#""status":{"code":2,"message":"23505"}}]}]}]}"#
        );
        assert_eq!(request("drover", &[span]), expected);
    }
}

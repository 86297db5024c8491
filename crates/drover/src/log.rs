//! The log: lines of text or JSON on standard error.

use std::fmt;
use std::io::IsTerminal as _;

use drover::config::{LogFormat, LogLevel};
use drover::reload::SetLevel;
use proxy::json::push_string;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Chooses what is logged, in the syntax of tracing's filters (`info`, `proxy=debug,warn`); stronger than the
/// configuration's level.
pub const VARIABLE: &str = "DROVER_LOG";

/// Whether what the environment asks for can be understood.
pub fn check() -> Result<(), ParseError> {
    match std::env::var(VARIABLE) {
        Ok(wanted) => EnvFilter::try_new(wanted).map(|_| ()),
        Err(_) => Ok(()),
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| level.as_str().to_owned());
    EnvFilter::new(format!("{wanted},session=info"))
}

/// Starts the log, which goes to standard error: standard output is for results. What sessions log because the
/// configuration asks for it is logged at every level. What is returned changes the level later.
pub fn start(format: LogFormat, level: LogLevel) -> SetLevel {
    let builder = tracing_subscriber::fmt()
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second start (in tests) keeps the first.
    match format {
        LogFormat::Text => {
            let builder = builder.with_env_filter(filter(level)).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
        LogFormat::Json => {
            let builder = builder.event_format(Json);
            let builder = builder.with_env_filter(filter(level)).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
    }
}

/// One JSON object per event: `timestamp`, `level`, `target`, then the event's own fields.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = String::with_capacity(512);
        line.push_str("{\"timestamp\":");
        push_string(&mut line, &time);
        line.push_str(",\"level\":");
        push_string(&mut line, event.metadata().level().as_str());
        line.push_str(",\"target\":");
        push_string(&mut line, event.metadata().target());
        event.record(&mut Fields { line: &mut line });
        line.push_str("}\n");
        writer.write_str(&line)
    }
}

struct Fields<'a> {
    line: &'a mut String,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, text: &str) {
        self.key(field);
        push_string(self.line, text);
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        self.line.push_str(&value.to_string());
    }

    fn key(&mut self, field: &Field) {
        self.line.push(',');
        push_string(self.line, field.name());
        self.line.push(':');
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            // JSON has no such numbers.
            self.text(field, &value.to_string());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &crate::terminal::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_object() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Json)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("broken \"pipe\"");
            tracing::info!(
                target: "session",
                event = "slow",
                latency_ms = 1.5,
                rows = 3_u64,
                tenant = None::<&str>,
                error = &error as &dyn std::error::Error,
                "a\nline"
            );
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (head, rest) = text.split_once(",\"level\"").unwrap();
        assert!(
            head.starts_with("{\"timestamp\":\"20") && head.ends_with("Z\""),
            "{head}"
        );
        assert_eq!(
            rest,
            ":\"INFO\",\"target\":\"session\",\"message\":\"a\\nline\",\"event\":\"slow\",\"latency_ms\":1.5,\
             \"rows\":3,\"error\":\"broken \\\"pipe\\\"\"}\n"
        );
    }
}

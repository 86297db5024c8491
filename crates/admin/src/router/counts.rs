//! The HTTP side's own metrics.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Requests answered, by the class of their status.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_class: [AtomicU64; 4],
    over_limit: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(count) = self.by_class.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.over_limit.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Appends Prometheus' text format.
    pub(super) fn write(&self, text: &mut String) {
        text.push_str(
            "# HELP drover_http_requests_total HTTP requests answered, by status.\n\
             # TYPE drover_http_requests_total counter\n",
        );
        for (class, count) in self.by_class.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                text,
                "drover_http_requests_total{{status=\"{}xx\"}} {count}",
                class + 2
            );
        }
        let over_limit = self.over_limit.load(Ordering::Relaxed);
        let _ = writeln!(
            text,
            "# HELP drover_http_requests_over_limit_total HTTP requests answered 429.\n\
             # TYPE drover_http_requests_over_limit_total counter\n\
             drover_http_requests_over_limit_total {over_limit}"
        );
    }
}

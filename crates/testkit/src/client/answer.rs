//! Everything a client can observe about one exchange.

use super::message::{Column, Diagnostic, Message, Row};

/// What one statement returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementResult {
    /// Columns, `None` when the statement returns no rows (or, extended, was not described).
    pub columns: Option<Vec<Column>>,
    /// Rows in arrival order.
    pub rows: Vec<Row>,
    /// Command tag; `None` when the statement failed or was cut off. Empty text for an empty query.
    pub tag: Option<String>,
    /// COPY OUT data, messages joined.
    pub copied: Vec<u8>,
    /// How often the portal was suspended by a row limit.
    pub suspensions: usize,
}

/// Everything that arrived between a request and its last ReadyForQuery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Results in order; a failed statement leaves what it delivered before.
    pub results: Vec<StatementResult>,
    /// Parameter types from Describe of a statement.
    pub parameters: Option<Vec<u32>>,
    /// Errors in order; more than one only in pipelines with several Syncs.
    pub errors: Vec<Diagnostic>,
    /// Notices in order.
    pub notices: Vec<Diagnostic>,
    /// ParameterStatus changes in order.
    pub settings: Vec<(String, String)>,
    /// Notifications: channel and payload.
    pub notifications: Vec<(String, String)>,
    /// Transaction status of each ReadyForQuery: `I`, `T` or `E`.
    pub ready: Vec<u8>,
    /// The message tags in order, runs of rows or copy data as one, asynchronous ones left out.
    pub shape: String,
}

impl Answer {
    /// The first error.
    pub fn error(&self) -> Option<&Diagnostic> {
        self.errors.first()
    }

    /// Status after the exchange, `I` when there was no ReadyForQuery.
    pub fn status(&self) -> u8 {
        self.ready.last().copied().unwrap_or(b'I')
    }

    /// Rows of the first result as text, NULL as `None`.
    pub fn text_rows(&self) -> Vec<Vec<Option<String>>> {
        let rows = self
            .results
            .first()
            .map(|result| result.rows.as_slice())
            .unwrap_or_default();
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        rows.iter()
            .map(|row| row.iter().map(|value| value.as_ref().map(text)).collect())
            .collect()
    }

    /// First value of the first row as text.
    pub fn value(&self) -> Option<String> {
        self.text_rows().into_iter().next()?.into_iter().next()?
    }

    /// The command tags in order.
    pub fn tags(&self) -> Vec<&str> {
        self.results
            .iter()
            .filter_map(|result| result.tag.as_deref())
            .collect()
    }

    /// Adds a message. `open` says whether the last result still collects.
    pub(crate) fn absorb(&mut self, tag: u8, message: Message, open: &mut bool) {
        self.note_shape(tag);
        match message {
            Message::RowDescription(columns) => {
                self.current(open).columns = Some(columns);
            }
            Message::DataRow(row) => self.current(open).rows.push(row),
            Message::CopyData(data) => self.current(open).copied.extend(data),
            Message::CommandComplete(text) => {
                self.current(open).tag = Some(text);
                *open = false;
            }
            Message::EmptyQuery => {
                self.current(open).tag = Some(String::new());
                *open = false;
            }
            Message::Error(error) => {
                self.errors.push(error);
                *open = false;
            }
            Message::Notice(notice) => self.notices.push(notice),
            Message::ParameterStatus(name, value) => self.settings.push((name, value)),
            Message::Notification(_, channel, payload) => self.notifications.push((channel, payload)),
            Message::ParameterDescription(types) => self.parameters = Some(types),
            Message::ReadyForQuery(status) => {
                self.ready.push(status);
                *open = false;
            }
            Message::Other(b's', _) => self.current(open).suspensions += 1,
            Message::Authentication(..)
            | Message::BackendKeyData(..)
            | Message::CopyStart(..)
            | Message::Other(..) => {}
        }
    }

    fn current(&mut self, open: &mut bool) -> &mut StatementResult {
        if !*open || self.results.is_empty() {
            self.results.push(StatementResult::default());
            *open = true;
        }
        let last = self.results.len() - 1;
        &mut self.results[last]
    }

    fn note_shape(&mut self, tag: u8) {
        let tag = char::from(tag);
        let asynchronous = matches!(tag, 'N' | 'S' | 'A');
        let repeated = matches!(tag, 'D' | 'd') && self.shape.ends_with(tag);
        if !asynchronous && !repeated {
            self.shape.push(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_results() {
        let mut answer = Answer::default();
        let mut open = false;
        answer.absorb(b'T', Message::RowDescription(Vec::new()), &mut open);
        for _ in 0..3 {
            answer.absorb(b'D', Message::DataRow(vec![Some(b"7".to_vec())]), &mut open);
        }
        answer.absorb(b'C', Message::CommandComplete("SELECT 3".into()), &mut open);
        answer.absorb(b'C', Message::CommandComplete("BEGIN".into()), &mut open);
        answer.absorb(b'Z', Message::ReadyForQuery(b'T'), &mut open);
        assert_eq!(answer.shape, "TDCCZ");
        assert_eq!(answer.tags(), ["SELECT 3", "BEGIN"]);
        assert_eq!(answer.value().as_deref(), Some("7"));
        assert_eq!(answer.status(), b'T');
    }
}

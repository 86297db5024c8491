//! The statements of a plan context, looked up by their texts.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use sql::NormalisedBuf;

use super::recall::Recall;
use super::statement::{DigestSlot, Key, Planned, Statement};

/// What a look-up found.
pub enum Found {
    /// A known statement; when `normalised`, its keys are in the literals of the buffer.
    Statement(Rc<Statement>),
    /// Not known yet; `normalised` says whether the buffer holds a key for it.
    Unknown {
        /// The text was normalised.
        normalised: bool,
    },
}

/// Entries per cache; a full cache is emptied, which costs one parse per statement in use.
const ENTRIES_MAX: usize = 8192;

/// Texts longer than this are not kept.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of texts per cache. A plan is a few times as large as its text where it holds parts of it.
const CACHE_BYTES_MAX: usize = 8 << 20;

/// What is known by its text, up to a number of entries and of bytes.
struct Table<T> {
    entries: HashMap<Box<[u8]>, T, foldhash::fast::RandomState>,
    bytes: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            bytes: 0,
        }
    }
}

impl<T> Table<T> {
    fn keep(&mut self, key: &[u8], value: T) {
        if key.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.entries.len() >= ENTRIES_MAX || self.bytes + key.len() > CACHE_BYTES_MAX {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += key.len();
        self.entries.insert(key.into(), value);
    }
}

/// The statements of one plan context.
#[derive(Default)]
pub struct StatementCache {
    normalised: RefCell<Table<Rc<Statement>>>,
    exact: RefCell<Table<Rc<Statement>>>,
    alike: RefCell<Table<Option<Rc<AlikeRows>>>>,
    recall: Recall,
}

/// What is known of the rows of one shape, after the same words and before the same: see `session::alike`.
#[derive(Debug)]
pub struct AlikeRows {
    /// Where their key is; literals are counted in the row.
    pub key: Key,
    /// The plan of a statement of two.
    pub planned: Planned,
    /// What it is.
    pub kind: sql::StatementKind,
    /// Where it may be read.
    pub place: plan::ReadPlace,
    /// Where runs are counted.
    pub digest: DigestSlot,
    /// The statement of two.
    pub sample: String,
}

impl StatementCache {
    /// Looks a text up. `scratch` is filled with the normalised form.
    pub fn find(&self, text: &str, scratch: &mut NormalisedBuf, conforming_strings: bool) -> Found {
        if let Some(statement) = self.recall(text.as_bytes(), scratch) {
            return Found::Statement(statement);
        }
        let normalised = sql::normalise(text, scratch, conforming_strings);
        if normalised && let Some(statement) = self.normalised.borrow().entries.get(scratch.key.as_slice()) {
            self.recall.keep(text, &scratch.literals, statement);
            return Found::Statement(Rc::clone(statement));
        }
        if let Some(statement) = self.find_exact(text) {
            scratch.literals.clear();
            return Found::Statement(statement);
        }
        Found::Unknown { normalised }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.normalised.take();
        self.exact.take();
        self.alike.take();
        self.recall.clear();
    }

    /// Looks a text up by comparing it with the last one of its kind; what is found is valid UTF-8 and has its literals
    /// in `scratch`.
    pub fn recall(&self, text: &[u8], scratch: &mut NormalisedBuf) -> Option<Rc<Statement>> {
        self.recall.find(text, &mut scratch.literals)
    }

    /// Looks a text up without normalising it.
    pub fn find_exact(&self, text: &str) -> Option<Rc<Statement>> {
        let text = crate::trace::comment::without(text);
        self.exact.borrow().entries.get(text.as_bytes()).cloned()
    }

    /// What is known of rows of a shape: `None` when nobody has looked, `Some(None)` when they are not to be taken apart.
    pub fn find_alike(&self, key: &[u8]) -> Option<Option<Rc<AlikeRows>>> {
        self.alike.borrow().entries.get(key).cloned()
    }

    /// Keeps what is known of rows of a shape.
    pub fn keep_alike(&self, key: &[u8], known: Option<Rc<AlikeRows>>) {
        self.alike.borrow_mut().keep(key, known);
    }

    /// Keeps a statement for all texts with this normalised key.
    pub fn keep_normalised(&self, key: &[u8], statement: Rc<Statement>) {
        self.normalised.borrow_mut().keep(key, statement);
    }

    /// Keeps a statement for exactly this text, whatever a comment of `key='value'` pairs at its end says.
    pub fn keep_exact(&self, text: &str, statement: Rc<Statement>) {
        let text = crate::trace::comment::without(text);
        self.exact.borrow_mut().keep(text.as_bytes(), statement);
    }
}

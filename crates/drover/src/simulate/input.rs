//! Keys from a column of real data.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use catalog::{KeyError, KeyShape, KeyValue};
use wire::copy::{CopyOptions, Field, FieldRules, Splitter, field};

use super::{Keys, Progress, SimulateError};

const CHUNK_BYTES: usize = 256 * 1024;
/// The form in which exports are the same in all versions.
const FORM_OF_MAJOR: u16 = 18;
/// Columns of a first line that are looked at for a name.
const COLUMNS_MAX: usize = 1_664;

/// Reads a whole file, or standard input for `-`.
pub fn read(
    path: &Path,
    csv: bool,
    column: &str,
    shape: &KeyShape,
    progress: &mut Progress,
) -> Result<Keys, SimulateError> {
    let name = path.display().to_string();
    let failed = |error| SimulateError::Read {
        name: name.clone(),
        error,
    };
    if name == "-" {
        let reader = Reader::new(csv, column, shape, "standard input")?;
        return reader.run(std::io::stdin().lock(), None, progress);
    }
    let file = File::open(path).map_err(failed)?;
    // A pipe has no length.
    let bytes = file.metadata().map_err(failed)?;
    let bytes = bytes.is_file().then_some(bytes.len());
    Reader::new(csv, column, shape, &name)?.run(file, bytes, progress)
}

/// A column of the key.
struct Column {
    /// From 0; not known before the first line when the column is named.
    at: Option<usize>,
    name: String,
}

/// Reads the keys of a stream.
pub(super) struct Reader {
    name: String,
    options: CopyOptions,
    columns: Vec<Column>,
    shape: KeyShape,
    keys: Keys,
}

impl Reader {
    pub(super) fn new(
        csv: bool,
        columns: &str,
        shape: &KeyShape,
        name: &str,
    ) -> Result<Reader, SimulateError> {
        let column = |name: &str| Column {
            at: name
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1)),
            name: name.to_owned(),
        };
        // The name of a column of a key of one may contain a comma.
        let columns: Vec<Column> = match shape.single() {
            Some(_) => vec![column(columns)],
            None => columns.split(',').map(|name| column(name.trim())).collect(),
        };
        if columns.len() != shape.types().len() {
            return Err(SimulateError::Columns {
                types: shape.types().len(),
                columns: columns.len(),
            });
        }
        let mut options = match csv {
            true => CopyOptions::csv(FORM_OF_MAJOR),
            false => CopyOptions::text(FORM_OF_MAJOR),
        };
        options.header = columns.iter().any(|column| column.at.is_none());
        Ok(Reader {
            name: name.to_owned(),
            options,
            columns,
            shape: shape.clone(),
            keys: Keys::new(),
        })
    }

    pub(super) fn run(
        mut self,
        mut from: impl Read,
        bytes: Option<u64>,
        progress: &mut Progress,
    ) -> Result<Keys, SimulateError> {
        let mut splitter = Splitter::new(&self.options);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0_u64;
        loop {
            let read = match from.read(&mut chunk) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(SimulateError::Read {
                        name: self.name,
                        error,
                    });
                }
            };
            done += read as u64;
            match chunk.get(..read).filter(|read| !read.is_empty()) {
                Some(data) => splitter.feed(data),
                None => splitter.finish(),
            }
            while let Some(row) = splitter.next_row().map_err(|error| self.wrong(error))? {
                match row.header {
                    true => self.find_columns(row.bytes)?,
                    false => self.row(row.bytes)?,
                }
            }
            if read == 0 {
                break;
            }
            progress.tick(self.keys.rows, done, bytes);
        }
        match self.keys.rows {
            0 => Err(SimulateError::Empty(self.keys.unreadable)),
            _ => Ok(self.keys),
        }
    }

    fn wrong(&self, error: wire::copy::CopyError) -> SimulateError {
        SimulateError::Format {
            name: self.name.clone(),
            error,
        }
    }

    fn find_columns(&mut self, line: &[u8]) -> Result<(), SimulateError> {
        for at in 0..self.columns.len() {
            if self.columns[at].at.is_none() {
                self.columns[at].at = Some(self.find(line, &self.columns[at].name)?);
            }
        }
        Ok(())
    }

    fn find(&self, line: &[u8], name: &str) -> Result<usize, SimulateError> {
        for at in 0..COLUMNS_MAX {
            let found = field(&self.options, FieldRules::default(), line, at);
            match found.map_err(|error| self.wrong(error))? {
                None => break,
                Some(Field::Value(found)) if *found == *name.as_bytes() => return Ok(at),
                Some(_) => {}
            }
        }
        Err(SimulateError::Column(name.to_owned()))
    }

    fn row(&mut self, row: &[u8]) -> Result<(), SimulateError> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, key_type) in self.columns.iter().zip(self.shape.types()) {
            let at = column.at.unwrap_or_default();
            let found = field(&self.options, FieldRules::default(), row, at);
            values.push(match found.map_err(|error| self.wrong(error))? {
                Some(Field::Null) => Ok(KeyValue::Null),
                Some(Field::Value(value)) => key_type.from_text(&value),
                Some(Field::Default) | None => Err(KeyError::Malformed),
            });
        }
        match values.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(values) => self.keys.add(KeyValue::of_columns(values)),
            Err(_) => self.keys.unreadable += 1,
        }
        Ok(())
    }
}

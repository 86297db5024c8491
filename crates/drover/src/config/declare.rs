//! Declaring options, and reading them with every problem noted.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::files;
use super::nearest::nearest;
use super::sections::SECTIONS;
use super::values::FromToml;

/// The most problems worth showing at once.
const PROBLEMS_MAX: usize = 100;

/// One option, for the documentation.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptionDoc {
    pub(super) key: &'static str,
    /// What its value looks like.
    pub(super) kind: &'static str,
    /// As TOML. `None`: see `required`.
    pub(super) default: Option<&'static str>,
    /// Whether it must be given. Neither required nor with a default: it may be left out.
    pub(super) required: bool,
    pub(super) doc: &'static [&'static str],
}

/// One section, for the documentation and to know its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct SectionDoc {
    pub(super) name: &'static str,
    /// `[[name]]`, any number of times.
    pub(super) repeated: bool,
    pub(super) doc: &'static [&'static str],
    pub(super) options: &'static [OptionDoc],
}

/// Whether a section has an option.
#[must_use]
pub fn has_option(section: &str, key: &str) -> bool {
    let section = SECTIONS.iter().find(|known| known.name == section);
    section.is_some_and(|section| section.options.iter().any(|option| option.key == key))
}

/// What [`section!`] implements.
pub(super) trait Section: Sized {
    const DOC: SectionDoc;
    /// The options that differ.
    fn changed(&self, other: &Self) -> Vec<&'static str>;
    fn read(reader: &mut Reader<'_>, table: &DeTable<'_>, at: usize) -> Option<Self>;
}

/// A section's value and where it was written.
#[derive(Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    /// Byte offset of the section.
    pub(super) at: usize,
    /// Byte offsets of the options given.
    keys: Vec<(String, usize)>,
}

impl<T> Located<T> {
    /// Where an option was written; the section's place if it was not.
    pub(super) fn key_at(&self, key: &str) -> usize {
        self.keys
            .iter()
            .find(|(name, _)| name == key)
            .map_or(self.at, |(_, at)| *at)
    }
}

/// Declares a section: `name: Type = "default as TOML"`. Without a default an option is required, unless its type
/// knows what absence means (`Option<_>`).
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $name:ident($path:literal, repeated: $repeated:literal) {
            $( $(#[doc = $option_doc:literal])+ $key:ident: $type:ty $(= $default:literal)?, )*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $option_doc])+ pub $key: $type, )*
        }

        impl $crate::config::declare::Section for $name {
            const DOC: $crate::config::declare::SectionDoc = $crate::config::declare::SectionDoc {
                name: $path,
                repeated: $repeated,
                doc: &[$($doc),+],
                options: &[$(
                    $crate::config::declare::OptionDoc {
                        key: stringify!($key),
                        kind: <$type as $crate::config::values::FromToml>::KIND,
                        default: section!(@default $($default)?),
                        required: <$type as $crate::config::values::FromToml>::REQUIRED,
                        doc: &[$($option_doc),+],
                    },
                )*],
            };

            fn changed(&self, other: &Self) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $( if self.$key != other.$key {
                    changed.push(stringify!($key));
                } )*
                changed
            }

            fn read(
                reader: &mut $crate::config::declare::Reader<'_>,
                table: &toml::de::DeTable<'_>,
                at: usize,
            ) -> Option<Self> {
                $( let $key = reader.option(
                    ($path, at), table, stringify!($key), section!(@default $($default)?),
                ); )*
                Some($name { $( $key: $key?, )* })
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}
pub(super) use section;

/// A text being read, and what is wrong with it.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where relative paths of secrets count from.
    directory: &'a Path,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, directory: &'a Path) -> Reader<'a> {
        Reader {
            text,
            directory,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// What is odd and not wrong, so far.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// In the order of the text.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.dedup();
        self.problems.truncate(PROBLEMS_MAX);
        self.problems
    }

    /// Notes a problem at a byte offset.
    pub(super) fn problem(&mut self, at: usize, message: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(Problem {
            file: None,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        });
    }

    /// The document; what is not TOML is noted and left out.
    pub(super) fn document(&mut self) -> DeTable<'a> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            // Only the message: the error's own display would show the line, which may hold a password.
            let at = error.span().map_or(0, |span| span.start);
            self.problem(at, error.message());
        }
        document.into_inner()
    }

    /// Notes sections that do not exist.
    pub(super) fn check_sections(&mut self, document: &DeTable<'_>) {
        let known = SECTIONS.iter().map(|section| section.name);
        for key in document.keys() {
            let name = key.get_ref().as_ref();
            if !known.clone().any(|known| known == name) {
                let nearest =
                    nearest(name, known.clone()).map(|section| section_name(section, is_repeated(section)));
                self.unknown(key.span().start, &format!("section [{name}]"), nearest);
            }
        }
    }

    /// A section that comes at most once; left out it is empty.
    pub(super) fn section<S: Section>(&mut self, document: &DeTable<'_>) -> Option<Located<S>> {
        let name = S::DOC.name;
        match document.get(name) {
            None => self.table::<S>(&DeTable::new(), 0),
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => self.table(table, key_start(document, name)),
                _ => {
                    self.problem(
                        key_start(document, name),
                        format!("`{name}` must be a section, [{name}]"),
                    );
                    None
                }
            },
        }
    }

    /// A section that comes any number of times, or not at all.
    pub(super) fn any_sections<S: Section>(&mut self, document: &DeTable<'_>) -> Vec<Located<S>> {
        if document.contains_key(S::DOC.name) {
            self.sections(document)
        } else {
            Vec::new()
        }
    }

    /// A section that comes any number of times, at least once.
    pub(super) fn sections<S: Section>(&mut self, document: &DeTable<'_>) -> Vec<Located<S>> {
        let name = S::DOC.name;
        let Some(value) = document.get(name) else {
            self.problem(0, format!("at least one [[{name}]] is needed"));
            return Vec::new();
        };
        let elements = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        };
        if elements.is_empty() {
            self.problem(value.span().start, format!("at least one [[{name}]] is needed"));
        }
        let mut sections = Vec::new();
        for element in elements {
            match element.get_ref() {
                DeValue::Table(table) if value.get_ref().is_array() => {
                    sections.extend(self.table(table, element.span().start));
                }
                _ => self.problem(element.span().start, format!("write it as [[{name}]]")),
            }
        }
        sections
    }

    /// One option of a section. `None`: it is missing or wrong, which has been noted.
    pub(super) fn option<T: FromToml>(
        &mut self,
        (section, at): (&str, usize),
        table: &DeTable<'_>,
        key: &str,
        default: Option<&str>,
    ) -> Option<T> {
        if let Some(value) = table.get(key) {
            return self.value(value, key);
        }
        if let Some(default) = default {
            let value = DeValue::parse(default).ok()?;
            return self.value(&value, key);
        }
        let absent = T::absent();
        if absent.is_none() {
            let section = section_name(section, is_repeated(section));
            self.problem(at, format!("`{key}` is missing in {section}"));
        }
        absent
    }

    fn value<T: FromToml>(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<T> {
        let read = match value.get_ref() {
            DeValue::Table(table) if T::SECRET => self.secret(table),
            _ => None,
        };
        let result = match read {
            Some(Ok(text)) => T::from_toml(&DeValue::String(text.into())),
            Some(Err(message)) => Err(message),
            None => T::from_toml(value.get_ref()),
        };
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(value.span().start, format!("`{key}`: {message}"));
                None
            }
        }
    }

    /// A secret that is somewhere else: `{ file = "…" }` or `{ env = "…" }`. `None`: it is written some other way.
    fn secret(&mut self, table: &DeTable<'_>) -> Option<Result<String, String>> {
        let mut keys = table.iter();
        let (Some((key, value)), None) = (keys.next(), keys.next()) else {
            return None;
        };
        let place = value.get_ref().as_str()?;
        match key.get_ref().as_ref() {
            "file" => {
                let path = self.directory.join(place);
                Some(files::secret(&path).map(|(text, warning)| {
                    self.warnings.extend(warning);
                    text
                }))
            }
            "env" => Some(match std::env::var(place) {
                Ok(text) => Ok(text),
                Err(_) => Err(format!("the environment has no text in `{place}`")),
            }),
            _ => None,
        }
    }

    fn table<S: Section>(&mut self, table: &DeTable<'_>, at: usize) -> Option<Located<S>> {
        let known = S::DOC.options.iter().map(|option| option.key);
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.clone().any(|known| known == name) {
                let section = section_name(S::DOC.name, S::DOC.repeated);
                let nearest = nearest(name, known.clone()).map(str::to_owned);
                self.unknown(
                    key.span().start,
                    &format!("option `{name}` in {section}"),
                    nearest,
                );
            }
        }
        let keys = table
            .keys()
            .map(|key| (key.get_ref().to_string(), key.span().start))
            .collect();
        let value = S::read(self, table, at)?;
        Some(Located { value, at, keys })
    }

    fn unknown(&mut self, at: usize, what: &str, nearest: Option<String>) {
        let hint = nearest.map_or(String::new(), |nearest| {
            format!("; the nearest known is `{nearest}`")
        });
        self.problem(at, format!("unknown {what}{hint}"));
    }
}

/// As it is written in the file.
pub(super) fn section_name(name: &str, repeated: bool) -> String {
    if repeated {
        format!("[[{name}]]")
    } else {
        format!("[{name}]")
    }
}

fn is_repeated(name: &str) -> bool {
    SECTIONS
        .iter()
        .any(|section| section.name == name && section.repeated)
}

fn key_start(table: &DeTable<'_>, name: &str) -> usize {
    table.get_key_value(name).map_or(0, |(key, _)| key.span().start)
}

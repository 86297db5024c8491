//! SASLprep (RFC 4013) of passwords, the way PostgreSQL does it: what the profile prohibits is looked for
//! *before* normalisation, and a password it rejects is used as it is.

use std::borrow::Cow;
use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

/// The password as it is hashed.
pub(super) fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => {
            normalize(text).map_or(Cow::Borrowed(password), |text| Cow::Owned(text.into_bytes()))
        }
        _ => Cow::Borrowed(password),
    }
}

/// `None` if the profile rejects the text.
fn normalize(text: &str) -> Option<String> {
    let map = |c: char| {
        if tables::non_ascii_space_character(c) {
            ' '
        } else {
            c
        }
    };
    let mapped: Vec<char> = text
        .chars()
        .map(map)
        .filter(|c| !tables::commonly_mapped_to_nothing(*c))
        .collect();
    if mapped.is_empty() || mapped.iter().any(|c| prohibited(*c)) || !direction_is_valid(&mapped) {
        return None;
    }
    Some(mapped.into_iter().nfkc().collect())
}

fn prohibited(c: char) -> bool {
    tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::surrogate_code(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// Text with right-to-left characters has no left-to-right ones, and begins and ends with the former.
fn direction_is_valid(text: &[char]) -> bool {
    let right = |c: &char| tables::bidi_r_or_al(*c);
    !text.iter().any(right)
        || (text.first().is_some_and(right)
            && text.last().is_some_and(right)
            && !text.iter().any(|c| tables::bidi_l(*c)))
}

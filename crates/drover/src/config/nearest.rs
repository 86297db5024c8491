//! The known name that somebody probably meant.

/// The name with the fewest edits from `text`; the first of equals. `None` only if there are no names.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Keys in the file are bounded only by the file; nobody means a known name by a very long one.
    let text: Vec<char> = text.chars().take(64).flat_map(char::to_lowercase).collect();
    names.min_by_key(|name| distance(&text, &name.chars().collect::<Vec<_>>()))
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["pool_size", "reserve_pool", "queue_limit", "idle_timeout"];
        for (text, meant) in [
            ("pol_size", "pool_size"),
            ("poolsize", "pool_size"),
            ("Idle_Timeout", "idle_timeout"),
            ("queue_limti", "queue_limit"),
        ] {
            assert_eq!(nearest(text, names.into_iter()), Some(meant));
        }
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}

//! A failing statement, made shorter for as long as it fails in the same way.
//!
//! Words and parentheses are left out, longer stretches first. Most of what remains is no SQL; both servers say so alike, and then it does
//! not fail. The order of rows and LIMIT belong together, so from the outermost ORDER BY on nothing is left out.

/// Statements that are tried at most.
const TRIES_MAX: usize = 4_000;

/// The shortest text found for which `fails` is true. It is true for `sql`.
pub(super) fn shrunk(sql: &str, fails: &mut dyn FnMut(&str) -> bool) -> String {
    let mut words = words(sql);
    let kept = words.len() - kept_from(&words);
    let mut tries = 0;
    let mut fails = |words: &[String]| {
        tries += 1;
        tries <= TRIES_MAX && fails(&words.join(" "))
    };
    while without_stretches(&mut words, kept, &mut fails) | without_parentheses(&mut words, kept, &mut fails)
    {
    }
    words.join(" ")
}

/// Leaves out stretches of words; whether there was one.
fn without_stretches(words: &mut Vec<String>, kept: usize, fails: &mut dyn FnMut(&[String]) -> bool) -> bool {
    let before = words.len();
    let mut length = words.len().saturating_sub(kept + 1);
    while length > 0 {
        let mut start = 0;
        while start + length + kept <= words.len() {
            let mut fewer = words.clone();
            fewer.drain(start..start + length);
            if balanced(&fewer) && fails(&fewer) {
                *words = fewer;
            } else {
                start += 1;
            }
        }
        length -= 1;
    }
    words.len() < before
}

/// Leaves out pairs of parentheses around something that stays; whether there was one.
fn without_parentheses(
    words: &mut Vec<String>,
    kept: usize,
    fails: &mut dyn FnMut(&[String]) -> bool,
) -> bool {
    let before = words.len();
    let mut start = 0;
    while start + kept < words.len() {
        let closing = (words[start] == "(").then(|| {
            let inside = (start + 1..words.len()).find(|end| balanced(&words[start..=*end]));
            inside.unwrap_or(start)
        });
        let mut fewer = words.clone();
        if let Some(end) = closing.filter(|end| *end > start && *end + kept < words.len()) {
            fewer.remove(end);
            fewer.remove(start);
        }
        if fewer.len() < words.len() && fails(&fewer) {
            *words = fewer;
        } else {
            start += 1;
        }
    }
    words.len() < before
}

/// Where the part begins that stays: the last ORDER BY outside of parentheses.
fn kept_from(words: &[String]) -> usize {
    let mut depth = 0_i32;
    let mut from = words.len();
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "ORDER" if depth == 0 => from = at,
            _ => {}
        }
    }
    from
}

fn balanced(words: &[String]) -> bool {
    let mut depth = 0_i32;
    for word in words {
        depth += i32::from(word == "(") - i32::from(word == ")");
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Words, parentheses and commas; quoted text is part of its word.
fn words(sql: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in sql.chars() {
        let single = quote.is_none() && matches!(letter, '(' | ')' | ',');
        if single || (quote.is_none() && letter.is_whitespace()) {
            words.push(if single { letter.to_string() } else { String::new() });
            words.push(String::new());
            continue;
        }
        match quote {
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            _ => {}
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let sql = "SELECT a, (SELECT max(b) FROM s WHERE s.x = 'O''Neill (x') FROM t WHERE t.a > 3 AND t.b IS NULL ORDER BY 1 LIMIT 2";
        let mut tried = 0;
        let mut fails = |sql: &str| {
            tried += 1;
            sql.starts_with("SELECT") && sql.contains("max ( b )") && sql.contains("t.b IS NULL")
        };
        let shortest = shrunk(sql, &mut fails);
        assert_eq!(shortest, "SELECT max ( b ) t.b IS NULL ORDER BY 1 LIMIT 2");
        assert!(tried <= TRIES_MAX);
    }

    #[test]
    fn quotes_stay_whole() {
        assert_eq!(words("a='b (c' ,d"), ["a='b (c'", ",", "d"]);
    }
}

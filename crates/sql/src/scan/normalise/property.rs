//! Texts with the same key have the same raw tree up to the values of their literals.

use super::*;
use proptest::prelude::*;

/// The raw tree as text, without locations and without the values of constants that were taken out.
fn shape(text: &str, literals: &[Literal]) -> Option<String> {
    let tree = pg_raw_parse::parse(text).ok()?;
    let debug = format!("{:?}", &*tree);
    let taken = |location: &str| {
        let at = location.parse::<u32>().ok();
        literals.iter().any(|l| Some(l.start) == at)
    };
    let mut out = String::new();
    let mut rest = debug.as_str();
    // A constant prints as `A_Const { val: Some(…), isnull: false, location: n, .. }`.
    while let Some(at) = rest.find("A_Const { val: Some(") {
        out.push_str(&rest[..at]);
        let constant = &rest[at..];
        let end = constant.find(", isnull: ").expect("isnull");
        let location = constant[end..].split("location: ").nth(1).expect("location");
        let location = location.split(',').next().expect("number");
        let kind = constant["A_Const { val: Some(".len()..]
            .split('(')
            .next()
            .expect("kind");
        // The grammar keeps the least int4 as a decimal; analysis makes an int4 of it. The key has the exact kind.
        let kind = if kind == "Float" { "Integer" } else { kind };
        out.push_str(&if taken(location) {
            format!("CONST {kind}")
        } else {
            constant[..end].to_owned()
        });
        rest = &constant[end..];
    }
    out.push_str(rest);
    let mut cleaned = String::new();
    let mut parts = out.split("location: ");
    cleaned.push_str(parts.next().unwrap_or_default());
    for part in parts {
        cleaned.push_str(part.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()));
    }
    for field in [
        "rexpr_list_start: ",
        "rexpr_list_end: ",
        "list_start: ",
        "list_end: ",
        "stmt_len: ",
    ] {
        let mut next = String::new();
        let mut parts = cleaned.split(field);
        next.push_str(parts.next().unwrap_or_default());
        for part in parts {
            next.push_str(part.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()));
        }
        cleaned = next;
    }
    Some(cleaned)
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,3}",
        "[1-9][0-9]{8,20}",
        "[0-9]{1,3}\\.[0-9]{0,2}",
        "[0-9]{1,2}e[0-9]",
        "'[a-z% ]{0,4}'",
        Just("'it''s'".to_owned()),
        "-[0-9]{1,3}",
        "- [0-9]{1,2}",
        Just("-2147483648".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("E'a'".to_owned()),
        Just("$1".to_owned()),
    ]
}

/// Pieces that follow each other in any order make texts of which many are valid and all must keep the promise.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => literal(),
        2 => prop::sample::select(vec!["a", "t.b", "f(", "g (", "(", ")", "\"x\"", "t.*", "*"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["=", "<>", "+", "-", "*", "||", "<", "::", "@-", ",", "[1]", "::int4", "::numeric("])
            .prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "select", "from", "where", "and", "or", "not", "between", "in (", "like", "order by", "group by", "limit",
            "having", "case when", "then", "else", "end", "as x", "union", "values (", "date", "interval", "numeric(",
            "distinct on (", "returning", "is null", "cast(", "as varchar(", "offset", "t(a bit(", "collate \"C\"", "for", "variadic", "symmetric", "distinct", "array[", "operator(+)", "rows", "both", "all", "over (",
        ])
        .prop_map(str::to_owned),
    ]
}

fn statement() -> impl Strategy<Value = Vec<String>> {
    let template = prop::sample::select(vec![
        "select @ from t where a = @ and b in (@, @) or c between @ and @",
        "select f(@, a - @), @ :: int , - @, (@)[1] from t where x like @ order by @ limit @",
        "update t set a = a + @, b = @ where c = @ and d <> @ returning @",
        "insert into t (a, b) values (@, @), (@, @) on conflict (a) do update set b = @",
        "delete from t where a = @ and b = any (array[@, @]) and f(@) > @",
        "with c as (select @ as x) select case when x = @ then @ else @ end, cast(@ as numeric(@)) from c group by @ having sum(x) > @",
        "select @ union select @ except select a from (values (@), (@)) v(a) where a <= @ order by @",
        "select distinct @, substring(a from @ for @), array[@, @], f(variadic @), trim(both @ from @), overlay(a placing @ from @)",
        "select sum(a) over (order by b rows @ preceding) - @, a between symmetric @ and @, a at time zone @, a is distinct from @",
        "select a @ b , a -@ , a *-@ , a- @ , @-@ , (a)-@ , $1-@ , @::numeric(@) from t(@) x where date @ < @",
    ]);
    let filled = (template, prop::collection::vec(literal(), 16)).prop_map(|(t, l)| {
        let mut literals = l.into_iter();
        t.split('@')
            .flat_map(|p| [p.to_owned(), literals.next().unwrap_or_default()])
            .collect::<Vec<_>>()
    });
    let free = prop::collection::vec(piece(), 1..12).prop_map(|mut p| {
        p.insert(0, "select".to_owned());
        p.into_iter().flat_map(|p| [" ".to_owned(), p]).collect()
    });
    prop_oneof![3 => filled, 2 => free]
}

/// Replaces every literal that was taken out by another one of the same kind.
fn replace(text: &str, literals: &[Literal], seed: u32) -> String {
    let mut out = String::new();
    let mut from = 0;
    for (i, literal) in literals.iter().enumerate() {
        let start = literal.start as usize;
        out.push_str(&text[from..start]);
        let n = seed.wrapping_add(i as u32) % 999 + 1;
        let sign = if literal.slice(text).starts_with('-') {
            "-"
        } else {
            ""
        };
        out.push_str(&match literal.kind {
            LiteralKind::Int4 => format!("{sign}{n}"),
            LiteralKind::Int8 => format!("{sign}{n}00000000000"),
            LiteralKind::Numeric => format!("{sign}{n}.5"),
            LiteralKind::Text => format!("'x''{n}'"),
        });
        from = start + literal.len as usize;
    }
    out + &text[from..]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn equal_keys_mean_equal_trees(parts in statement(), seed in any::<u32>()) {
        let text = parts.concat();
        let (mut a, mut b) = (NormalisedBuf::default(), NormalisedBuf::default());
        if !normalise(&text, &mut a, true) {
            return Ok(());
        }
        let other = replace(&text, &a.literals, seed);
        prop_assert!(normalise(&other, &mut b, true), "{}", other);
        // A signed number has the kind of its value, with the sign: keys must not mix the two.
        prop_assert_eq!(&a.key, &b.key, "{} / {}", text, other);
        prop_assert_eq!(shape(&text, &a.literals), shape(&other, &b.literals), "{} / {}", text, other);
        // Every literal taken out is a constant of the tree at that very place.
        if let Ok(tree) = pg_raw_parse::parse(&text) {
            let debug = format!("{:?}", &*tree);
            for literal in &a.literals {
                let at = format!("isnull: false, location: {},", literal.start);
                prop_assert!(debug.contains(&at), "{} at {}", text, literal.start);
            }
        }
    }
}

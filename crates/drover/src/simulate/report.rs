//! What the reader sees.

use std::fmt::Write as _;

use super::schemes::{Figures, Outcome, skew};
use super::{Keys, SimulateArgs};

/// Shards whose rows are listed one by one.
const LISTED_MAX: usize = 16;

/// A table for people.
pub fn text(args: &SimulateArgs, keys: &Keys, outcomes: &[Outcome]) -> String {
    let distinct = keys.by_rows().len() as u64 * keys.sampled();
    let mut out = format!(
        "{} rows, {}{} keys of type {}; {} shards, then {}\n",
        number(keys.rows),
        if keys.sampled() > 1 { "about " } else { "" },
        number(distinct),
        args.shape.name(),
        args.shards,
        args.shards + args.add,
    );
    if keys.sampled() > 1 {
        let _ = writeln!(out, "Figures are of one in {} keys.", number(keys.sampled()));
    }
    if keys.unreadable > 0 {
        let rows = number(keys.unreadable);
        let _ = writeln!(
            out,
            "{rows} rows are left out: their key is not a {} as PostgreSQL prints it.",
            args.shape.name()
        );
    }
    let _ = writeln!(
        out,
        "\n{:<10} {:>25} {:>6} {:>9} {:>10}  to be written down",
        "scheme", "rows per shard", "skew", "moves", "skew then"
    );
    for outcome in outcomes {
        let _ = match &outcome.figures {
            Err(why) => writeln!(out, "{:<10} {why}", outcome.scheme),
            Ok(figures) => writeln!(out, "{}", line(outcome.scheme, figures)),
        };
    }
    if (args.shards + args.add) as usize <= LISTED_MAX {
        shards(outcomes, &mut out);
    }
    out
}

fn line(scheme: &str, figures: &Figures) -> String {
    let (min, max) = ends(&figures.before);
    let note = match figures.note.is_empty() {
        true => String::new(),
        false => format!("  {}", figures.note),
    };
    format!(
        "{scheme:<10} {:>25} {:>6.2} {:>7.1} % {:>10.2}{note}",
        format!("{} – {}", number(min), number(max)),
        skew(&figures.before),
        figures.moved_part() * 100.0,
        skew(&figures.after),
    )
}

/// Rows of every shard, before and after.
fn shards(outcomes: &[Outcome], out: &mut String) {
    let known: Vec<(&str, &Figures)> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.scheme, outcome.figures.as_ref().ok()?)))
        .collect();
    for (title, of) in [
        (
            "rows at first",
            (|figures| &figures.before) as fn(&Figures) -> &Vec<u64>,
        ),
        ("rows then", |figures| &figures.after),
    ] {
        let count = known
            .iter()
            .map(|(_, figures)| of(figures).len())
            .max()
            .unwrap_or(0);
        let _ = write!(out, "\n{title:<14}");
        for (scheme, _) in &known {
            let _ = write!(out, " {scheme:>14}");
        }
        out.push('\n');
        for shard in 0..count {
            let _ = write!(out, "{:<14}", format!("shard_{}", shard + 1));
            for (_, figures) in &known {
                let rows = of(figures).get(shard).copied().unwrap_or(0);
                let _ = write!(out, " {:>14}", number(rows));
            }
            out.push('\n');
        }
    }
}

/// The same as one JSON object. Names and values are ours, so nothing needs escaping but the notes, which are plain.
pub fn json(args: &SimulateArgs, keys: &Keys, outcomes: &[Outcome]) -> String {
    let schemes: Vec<String> = outcomes.iter().map(json_scheme).collect();
    format!(
        "{{\"rows\":{},\"keys\":{},\"sampled\":{},\"unreadable\":{},\"type\":\"{}\",\"shards\":{},\"added\":{},\"schemes\":[{}]}}\n",
        keys.rows,
        keys.by_rows().len() as u64 * keys.sampled(),
        keys.sampled(),
        keys.unreadable,
        args.shape.name(),
        args.shards,
        args.add,
        schemes.join(",")
    )
}

fn json_scheme(outcome: &Outcome) -> String {
    match &outcome.figures {
        Err(why) => format!("{{\"scheme\":\"{}\",\"impossible\":\"{why}\"}}", outcome.scheme),
        Ok(figures) => format!(
            "{{\"scheme\":\"{}\",\"rows_before\":{:?},\"rows_after\":{:?},\"skew_before\":{:.4},\"skew_after\":{:.4},\
             \"moved_rows\":{},\"moved_part\":{:.6},\"note\":\"{}\"}}",
            outcome.scheme,
            figures.before,
            figures.after,
            skew(&figures.before),
            skew(&figures.after),
            figures.moved,
            figures.moved_part(),
            figures.note
        ),
    }
}

fn ends(rows: &[u64]) -> (u64, u64) {
    (
        rows.iter().copied().min().unwrap_or(0),
        rows.iter().copied().max().unwrap_or(0),
    )
}

/// With commas between thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

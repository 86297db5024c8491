//! The same cases over rows that are spread over the shards in another way.

use std::path::Path;

use super::{Case, CaseFile, CaseFileError, Flag, Item, Refusal, RowCheck, Side};

/// How rows are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// As the files say.
    #[default]
    Written,
    /// Tables for which a file names no scheme are all on the second shard.
    OneShard,
    /// All keys of the tables of `_schema.sql` are NULL. Only for files that change nothing.
    NullKeys,
}

impl Spread {
    /// All of them, with the names that a command line has for them.
    pub const ALL: [(&'static str, Spread); 3] = [
        ("written", Spread::Written),
        ("one-shard", Spread::OneShard),
        ("null-keys", Spread::NullKeys),
    ];
}

/// What of a statement depends on the order of rows that are equal in all they are ordered by.
const DEPENDS_ON_TIES: [&str; 8] = [
    "limit",
    "fetch",
    "distinct on",
    "over (",
    "over(",
    "_agg(",
    "over w",
    "within group",
];

impl CaseFile {
    /// The file with its rows spread like this; `None` where that is not for this file.
    ///
    /// # Errors
    /// `_null_keys.sql` cannot be read from `folder`.
    pub fn spread(mut self, spread: Spread, folder: &Path) -> Result<Option<CaseFile>, CaseFileError> {
        match spread {
            Spread::Written => return Ok(Some(self)),
            Spread::OneShard => self.items.iter_mut().for_each(to_one_shard),
            Spread::NullKeys => {
                let on_schema =
                    |item: &Item| matches!(item, Item::Setup(step) if step.place.starts_with("_schema:"));
                if !self.readonly || !self.items.iter().any(on_schema) {
                    return Ok(None);
                }
                let keys = CaseFile::read(&folder.join("_null_keys.sql"))?;
                let setup = |item: &Item| matches!(item, Item::Setup(_) | Item::Only(..) | Item::Load(_));
                let at = self.items.iter().take_while(|item| setup(item)).count();
                self.items.splice(at..at, keys.items);
            }
        }
        for item in &mut self.items {
            if let Item::Case(case) = item {
                relax(case, spread);
            }
        }
        Ok(Some(self))
    }
}

fn to_one_shard(item: &mut Item) {
    const KEY: &str = "drover.shard_key = '";
    let Item::Only(Side::Drover, step) = item else {
        return;
    };
    let written = ["scheme", "places", "colocate_with", "salt"];
    if written.iter().any(|word| step.sql.contains(word)) {
        return;
    }
    if step.sql.contains("drover.shard_table(") {
        let call = step.sql.trim_end().trim_end_matches(')').to_owned();
        step.sql = format!("{call}, scheme => 'list', places => '{{shard:2}} = *')");
    } else if let Some((before, (key, after))) =
        (step.sql.split_once(KEY)).and_then(|(before, rest)| Some((before, rest.split_once('\'')?)))
    {
        let options = "drover.scheme = 'list', drover.places = '{shard:2} = *'";
        step.sql = format!("{before}{KEY}{key}', {options}{after}");
    }
}

/// What a case says was meant for the rows as written.
fn relax(case: &mut Case, spread: Spread) {
    // One shard may answer what several cannot.
    if let Refusal::Must(_) = case.refusal {
        case.refusal = Refusal::May(None);
    }
    if spread == Spread::NullKeys {
        case.flags.insert(Flag::AnyError);
        case.ordered = false;
        let sql = case.step.sql.to_lowercase();
        if DEPENDS_ON_TIES.iter().any(|words| sql.contains(words)) && case.rows == RowCheck::Values {
            case.rows = RowCheck::Count;
        }
    }
}

//! What `EXPLAIN (ROUTE)` shows.

use catalog::{KeyStep, KeyType, KeyValue, MapId, ShardId, Snapshot};

use crate::{
    Bound, Combine, FinishPlace, Gather, GatherPlace, KeySource, LimitPlan, LimitValue, Many, NullKeys, Plan,
    PreludeSource, Side, SortKey, Target,
};

/// The plan as lines of text: tier, shards, SQL for the shards, how the answers are combined.
///
/// `shards` are those that the target resolves to when the caller knows them (parameters given); without them constant
/// keys are resolved here.
pub fn explain_route(plan: &Plan, snapshot: &Snapshot, shards: Option<&[ShardId]>) -> Vec<String> {
    let resolved = shards
        .map(<[ShardId]>::to_vec)
        .or_else(|| constant_shards(plan, snapshot));
    let one = resolved.as_ref().is_some_and(|s| s.len() <= 1);
    let mut out = vec![format!("Tier: {}", tier(plan, one))];
    out.push(format!("Target: {}", target(&plan.target)));
    if let Some(shards) = &resolved {
        let list: Vec<String> = shards.iter().map(|s| format!("shard_{s}")).collect();
        let list = if list.is_empty() {
            "any one (every key is NULL)".to_owned()
        } else {
            list.join(", ")
        };
        out.push(format!("Shards: {list}"));
    }
    if plan.indexed {
        out.push("Global indexes: changed in the same transaction".to_owned());
    }
    for value in &plan.prelude {
        let source = match &value.source {
            PreludeSource::Now => "start of the transaction".to_owned(),
            PreludeSource::StatementTime => "start of the statement".to_owned(),
            PreludeSource::NextIds { count: 1 } => "drover.next_id()".to_owned(),
            PreludeSource::NextIds { count } => format!("{count} of drover.next_id()"),
            PreludeSource::HomeExpression { sql } | PreludeSource::HomeArray { sql } => {
                format!("SELECT {sql} on the home shard")
            }
        };
        out.push(format!("Computed once: ${} = {source}", value.param));
    }
    if let Some(text) = &plan.text {
        out.push(format!("One shard: {text}"));
    }
    if !one
        && tier(plan, one) != "one shard"
        && matches!(
            plan.target,
            Target::Keys { .. }
                | Target::Between { .. }
                | Target::Lookup { .. }
                | Target::All { .. }
                | Target::Cluster
        )
    {
        many(&plan.many, &mut out);
    }
    out
}

fn tier(plan: &Plan, one: bool) -> &'static str {
    match (&plan.target, &plan.many) {
        (Target::Home, _) => "home shard",
        (Target::Any, _) => "any one shard",
        (Target::Every, _) => "every shard, home first",
        (
            Target::Keys { .. }
            | Target::Between { .. }
            | Target::Lookup { .. }
            | Target::All { .. }
            | Target::Cluster,
            _,
        ) if one => "one shard",
        (Target::Keys { keys, .. }, _) if keys.len() == 1 && keys[0].is_single() => "one shard",
        (Target::Keys { .. } | Target::Between { .. }, Many::Refuse(_)) => "one shard, or refused",
        (_, Many::Refuse(_)) => "refused",
        (_, Many::SplitInsert(_) | Many::SumTags { .. }) => "split",
        (_, Many::Rows(rows)) if rows.tag_rows => "split",
        (_, Many::Rows(_)) => "scatter and merge",
        (_, Many::Gather(gather)) if gather.finish_on == FinishPlace::Home => "gather",
        (_, Many::Gather(_)) => "carry rows",
        (_, Many::Transfer(_) | Many::Relocate(_)) => "carry rows",
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Home => "the home shard".to_owned(),
        Target::Any => "any one shard (reference tables)".to_owned(),
        Target::Every => "every shard (reference table)".to_owned(),
        Target::All { map } => format!("all shards of map {map}"),
        Target::Lookup { map, index, keys } => {
            let keys: Vec<String> = keys.iter().map(key).collect();
            format!(
                "shards of map {map} where global index {index} finds [{}]",
                keys.join(", ")
            )
        }
        Target::Cluster => "shards that turn out as it runs".to_owned(),
        Target::Between { map, keys, uses } => {
            let one = |bound: &Bound| match (keys.get(bound.key), bound.side) {
                (None, _) => String::new(),
                (Some(source), Side::AtLeast) => format!("from {}", key(source)),
                (Some(source), Side::AtMost) => format!("to {}", key(source)),
            };
            let of_use = |bounds: &Vec<Bound>| bounds.iter().map(one).collect::<Vec<_>>().join(" ");
            let mut uses: Vec<String> = uses.iter().map(of_use).collect();
            uses.dedup();
            format!("keys {} of map {map}", uses.join("; "))
        }
        Target::Keys { map, keys, nulls } => {
            let keys: Vec<String> = keys.iter().map(key).collect();
            let nulls = if *nulls == NullKeys::Placed {
                ", NULL has its place"
            } else {
                ""
            };
            format!("keys [{}] of map {map}{nulls}", keys.join(", "))
        }
    }
}

fn key(source: &KeySource) -> String {
    match source {
        KeySource::Const { value, .. } => constant(value),
        KeySource::Param { index, key_type } => format!("${index} {}", key_type.name()),
        KeySource::ConvertedParam {
            index,
            key_type,
            steps,
        } => steps
            .iter()
            .fold(format!("${index} {}", key_type.name()), |text, step| match step {
                KeyStep::Chars(most) => format!("{text}({most})"),
                KeyStep::Decimal { precision, scale } => format!("{text}({precision},{scale})"),
                KeyStep::Seconds(digits) => format!("{text}({digits})"),
                KeyStep::To(target) => format!("{text} as {}", target.name()),
            }),
        KeySource::Element {
            index,
            element,
            key_type,
        } => format!("${index}[{element}] {}", key_type.name()),
        KeySource::ParamArray { index, key_type } => format!("each of ${index} {}[]", key_type.name()),
        KeySource::SubKeys { columns } => {
            let columns: Vec<Vec<KeySource>> = columns.to_vec();
            let keys: Vec<String> = KeySource::product(columns).iter().map(key).collect();
            format!("every sub-key of {}", keys.join(" | "))
        }
        KeySource::Product { columns } => {
            let column = |values: &Vec<KeySource>| match values.as_slice() {
                [only] => key(only),
                several => {
                    let several: Vec<String> = several.iter().map(key).collect();
                    format!("one of {}", several.join(" | "))
                }
            };
            let columns: Vec<String> = columns.iter().map(column).collect();
            format!("({})", columns.join(", "))
        }
    }
}

fn constant(value: &KeyValue) -> String {
    match value {
        KeyValue::Text(text) => sql::quote_literal(&String::from_utf8_lossy(text)),
        KeyValue::Uuid(bytes) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("{} {hex}", KeyType::Uuid.name())
        }
        other => other.to_string(),
    }
}

/// The shards of [`Target::Between`], ascending and each once. `value` gives the value of a bound; `None`: it cannot be read.
pub fn between(
    snapshot: &Snapshot,
    map: MapId,
    uses: &[Vec<Bound>],
    value: impl Fn(&Bound) -> Option<KeyValue>,
) -> Vec<ShardId> {
    let Some(map) = snapshot.map(map) else {
        return vec![snapshot.home()];
    };
    let mut shards = Vec::new();
    for bounds in uses {
        let (mut low, mut high) = (None::<KeyValue>, None::<KeyValue>);
        let mut qualifies = true;
        for bound in bounds {
            let Some(value) = value(bound) else { continue };
            qualifies &= value != KeyValue::Null;
            match (bound.side, &low, &high) {
                (Side::AtLeast, Some(known), _) if known.borrowed() >= value.borrowed() => {}
                (Side::AtLeast, ..) => low = Some(value),
                (Side::AtMost, _, Some(known)) if known.borrowed() <= value.borrowed() => {}
                (Side::AtMost, ..) => high = Some(value),
            }
        }
        if qualifies {
            shards.extend(map.shards_between(low.as_ref(), high.as_ref()));
        }
    }
    shards.sort_unstable();
    shards.dedup();
    shards
}

/// The shards when nothing but constants decides.
fn constant_shards(plan: &Plan, snapshot: &Snapshot) -> Option<Vec<ShardId>> {
    let mut shards = Vec::new();
    match &plan.target {
        Target::Home => shards.push(snapshot.home()),
        Target::Any => return None,
        Target::Every => shards.extend_from_slice(snapshot.shards()),
        Target::Lookup { .. } => return None,
        Target::All { map } => shards.extend_from_slice(snapshot.shards_of(*map)),
        Target::Cluster => match snapshot.shards() {
            [one] => shards.push(*one),
            _ => return None,
        },
        Target::Between { map, keys, uses } => {
            let value = |bound: &Bound| match keys.get(bound.key)? {
                KeySource::Const { value, .. } => Some(value.clone()),
                _ => None,
            };
            let known = uses.iter().flatten().all(|bound| value(bound).is_some());
            shards = known.then(|| between(snapshot, *map, uses, value))?;
        }
        Target::Keys { map, keys, nulls } => {
            let map = snapshot.map(*map)?;
            for source in keys {
                let values = constants(source)?;
                let placed = values
                    .iter()
                    .filter(|value| !value.has_null() || *nulls == NullKeys::Placed);
                match source {
                    KeySource::SubKeys { .. } => {
                        shards.extend(placed.flat_map(|value| map.sub_key_shards(value)));
                    }
                    _ => shards.extend(placed.map(|value| map.shard_of(value))),
                }
            }
        }
    }
    shards.sort_unstable();
    shards.dedup();
    Some(shards)
}

/// All keys that a source stands for, when it is made of constants.
fn constants(source: &KeySource) -> Option<Vec<KeyValue>> {
    match source {
        KeySource::Const { value, .. } => Some(vec![value.clone()]),
        KeySource::Product { columns } | KeySource::SubKeys { columns } => {
            let columns = columns.iter().map(|values| {
                let values = values.iter().map(constants).collect::<Option<Vec<_>>>()?;
                Some(values.concat())
            });
            Some(combinations(&columns.collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    }
}

/// Every combination of the values of each column.
pub fn combinations(columns: &[Vec<KeyValue>]) -> Vec<KeyValue> {
    let mut records: Vec<Vec<KeyValue>> = vec![Vec::new()];
    for values in columns {
        let longer = records.iter().flat_map(|record| {
            let with = |value: &KeyValue| record.iter().chain([value]).cloned().collect();
            values.iter().map(with)
        });
        records = longer.collect();
    }
    records.into_iter().map(KeyValue::of_columns).collect()
}

fn many(many: &Many, out: &mut Vec<String>) {
    match many {
        Many::Refuse(refusal) => {
            out.push(format!(
                "Several shards: refused, {} {}",
                refusal.code, refusal.reason
            ));
        }
        Many::SumTags { shard_sql } => {
            out.push(format!(
                "Each shard: {}",
                shard_sql.as_deref().unwrap_or("the statement itself")
            ));
            out.push("Combine: add up the row counts".to_owned());
        }
        Many::Rows(rows) => {
            let text = rows.shard_sql.as_deref().unwrap_or("the statement itself");
            let text = rows.with_conditions(text, |own| {
                let columns: Vec<&str> = own.columns.iter().map(|(_, sql)| sql.as_str()).collect();
                Some(format!("{} of this shard", columns.join(", ")))
            });
            out.push(format!("Each shard: {}", text.unwrap_or_default()));
            out.push(format!("Combine: {}", combine(&rows.combine)));
        }
        Many::SplitInsert(split) => {
            out.push(format!(
                "Each shard: {}(its rows){}",
                split.head,
                split.tail.replace('\n', " ")
            ));
            for row in &split.rows {
                out.push(format!("Row of {}: {}", key(&row.key), row_sql(row)));
            }
            let answer = if split.returning {
                "rows of each"
            } else {
                "add up the row counts"
            };
            out.push(format!("Combine: {answer}"));
        }
        Many::Gather(plan) => gather(plan, out),
        Many::Relocate(moved) => {
            out.push(format!("Rows of: {}", target(&moved.from.target)));
            out.push(format!("Find: {}", moved.lock));
            out.push(format!("Keep: {}", moved.stay));
            out.push(format!("Take away: {}", moved.leave));
            out.push(format!("Store elsewhere: {}", moved.arrive));
        }
        Many::Transfer(transfer) => {
            out.push(format!("Rows of: {}", transfer.source));
            for drawn in &transfer.drawn {
                out.push(format!("For each row: SELECT {} on the home shard", drawn.sql));
            }
            let place = match &transfer.place {
                crate::TransferPlace::Home => "the home shard".to_owned(),
                crate::TransferPlace::Every => "every shard, home first".to_owned(),
                crate::TransferPlace::Key { map, key: source } => {
                    format!("the shard of {} of map {map}", key(source))
                }
            };
            out.push(format!("Go to: {place}"));
            out.push(format!("There: {}", transfer.insert));
        }
    }
}

fn gather(gather: &Gather, out: &mut Vec<String>) {
    for input in &gather.inputs {
        out.push(format!(
            "Gather from {}: {}",
            place(&input.place),
            input.text(&[])
        ));
        if let Some(deal) = &input.deal {
            let source = key(&deal.key);
            out.push(format!(
                "Each row goes to the shard of {source} of map {}",
                deal.map
            ));
        }
    }
    let named = |input: usize| gather.inputs.get(input).map_or("", |input| input.name.as_str());
    for reduction in &gather.reductions {
        out.push(format!(
            "Where there is much less of it, \"{}\" first, and of \"{}\" only rows with {} among its values",
            named(reduction.by),
            named(reduction.input),
            reduction.value
        ));
    }
    out.push(match &gather.finish_on {
        FinishPlace::Home => format!("Combine: PostgreSQL finishes: {}", gather.finish),
        FinishPlace::Every => format!("On every shard, home first: {}", gather.finish),
        FinishPlace::Rows(rows) => format!("On {}: {}", place(rows), gather.finish),
    });
}

fn place(place: &GatherPlace) -> String {
    match place {
        GatherPlace::Home => "the home shard".to_owned(),
        GatherPlace::All { map } => format!("all shards of map {map}"),
        GatherPlace::Keys { map, keys } => {
            let keys: Vec<String> = keys.iter().map(key).collect();
            format!("keys [{}] of map {map}", keys.join(", "))
        }
    }
}

/// A row, with the names of the values that are put into it.
fn row_sql(row: &crate::SplitRow) -> String {
    let mut sql = row.sql.clone();
    for value in row.drawn.iter().rev() {
        if sql.is_char_boundary(value.at) {
            sql.insert_str(value.at, &format!("${}[{}]", value.param, value.element));
        }
    }
    sql
}

fn combine(combine: &Combine) -> String {
    match combine {
        Combine::Concat { limit } => format!("rows as they come{}", limits(limit)),
        Combine::Ordered { keys, limit } => {
            let keys: Vec<String> = keys.iter().map(sort_key).collect();
            format!("merge by {}{}", keys.join(", "), limits(limit))
        }
        Combine::Finish { sql, .. } => format!("PostgreSQL finishes: {sql}"),
    }
}

fn sort_key(key: &SortKey) -> String {
    let direction = if key.descending { "descending" } else { "ascending" };
    let nulls = if key.nulls_first { "first" } else { "last" };
    format!("column {} {direction} nulls {nulls}", key.column + 1)
}

fn limits(limit: &LimitPlan) -> String {
    let value = |v: LimitValue| match v {
        LimitValue::Const(value) => value.to_string(),
        LimitValue::Param { index } => format!("${index}"),
    };
    let offset = limit.offset.map(|v| format!(", skip {}", value(v)));
    let limit = limit.limit.map(|v| format!(", at most {}", value(v)));
    format!("{}{}", offset.unwrap_or_default(), limit.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::{BodyFacts, BodyParser, Epoch, FunctionBody, ShardMap, ShardingInput, SnapshotBuilder};

    struct NoBodies;

    impl BodyParser for NoBodies {
        fn body_facts(&self, _: FunctionBody<'_>) -> Result<BodyFacts, String> {
            Err("there are no functions here".to_owned())
        }
    }

    fn snapshot() -> Snapshot {
        let starts = [(0, 2), (100, 3), (200, 1)];
        let starts = starts.map(|(key, shard)| (KeyValue::Int(key), ShardId(shard)));
        let map = ShardMap::by_range(ShardId(1), starts.to_vec()).unwrap();
        let sharding = ShardingInput {
            epoch: Epoch(1),
            shards: vec![ShardId(1), ShardId(2), ShardId(3)],
            home: ShardId(1),
            maps: vec![(MapId(1), map)],
            ..ShardingInput::default()
        };
        SnapshotBuilder::new().build(&sharding, &NoBodies).unwrap()
    }

    #[test]
    fn bounds_meet_within_a_use_and_add_up_over_uses() {
        let snapshot = snapshot();
        let check = |uses: &[&[(Side, Option<i64>)]], expect: &[u32]| {
            let mut values = Vec::new();
            let mut bound = |(side, value): &(Side, Option<i64>)| {
                values.push(*value);
                Bound {
                    key: values.len() - 1,
                    side: *side,
                }
            };
            let uses: Vec<Vec<Bound>> = uses
                .iter()
                .map(|bounds| bounds.iter().map(&mut bound).collect())
                .collect();
            let value = |bound: &Bound| Some(values[bound.key].map_or(KeyValue::Null, KeyValue::Int));
            let found = between(&snapshot, MapId(1), &uses, value);
            let found: Vec<u32> = found.into_iter().map(|shard| shard.0).collect();
            assert_eq!(found, expect, "{uses:?} {values:?}");
        };
        use Side::{AtLeast, AtMost};
        check(&[&[(AtLeast, Some(10)), (AtMost, Some(60))]], &[2]);
        check(
            &[&[(AtMost, Some(60)), (AtLeast, Some(10)), (AtLeast, Some(-5))]],
            &[2],
        );
        check(
            &[&[(AtLeast, Some(90)), (AtMost, Some(300)), (AtMost, Some(150))]],
            &[2, 3],
        );
        check(&[&[(AtMost, Some(99))]], &[1, 2]);
        check(&[&[(AtLeast, Some(200))]], &[1]);
        check(&[&[(AtLeast, Some(60)), (AtMost, Some(10))]], &[]);
        check(&[&[(AtLeast, Some(10)), (AtMost, None)]], &[]);
        check(
            &[
                &[(AtLeast, Some(10)), (AtMost, Some(20))],
                &[(AtLeast, Some(150)), (AtMost, Some(160))],
            ],
            &[2, 3],
        );
        let unread = vec![vec![Bound {
            key: 0,
            side: AtLeast,
        }]];
        assert_eq!(between(&snapshot, MapId(1), &unread, |_| None).len(), 3);
    }
}

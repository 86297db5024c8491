//! The clauses of a SELECT as text.

/// One item of a select list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectItem {
    /// The expression.
    pub expr: String,
    /// Output name.
    pub name: Option<String>,
    /// Only there for ORDER BY, GROUP BY or DISTINCT; left out of the printed select list.
    pub junk: bool,
    /// The tree's `ressortgroupref`, 0 when no clause refers to it.
    pub sort_group_ref: u32,
}

/// The clauses of a SELECT as text without their keywords; change what you need, then print with
/// [`SelectParts::to_sql`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectParts {
    /// WITH list, with RECURSIVE if needed: `WITH …`.
    pub with: Option<String>,
    /// `Some("")` for DISTINCT, `Some(list)` for DISTINCT ON (list).
    pub distinct: Option<String>,
    /// Select list.
    pub items: Vec<SelectItem>,
    /// FROM list; empty for none.
    pub from: String,
    /// WHERE condition.
    pub condition: Option<String>,
    /// GROUP BY elements.
    pub group_by: Vec<String>,
    /// GROUP BY DISTINCT.
    pub group_distinct: bool,
    /// HAVING condition.
    pub having: Option<String>,
    /// Window definitions: name and specification in parentheses.
    pub windows: Vec<(String, String)>,
    /// ORDER BY elements.
    pub order_by: Vec<String>,
    /// LIMIT expression.
    pub limit: Option<String>,
    /// FETCH FIRST … WITH TIES instead of LIMIT.
    pub with_ties: bool,
    /// OFFSET expression.
    pub offset: Option<String>,
    /// FOR UPDATE and its like, with keywords.
    pub locking: Vec<String>,
}

impl SelectParts {
    /// The statement.
    pub fn to_sql(&self) -> String {
        let mut out = String::new();
        if let Some(with) = &self.with {
            out.push_str(with);
            out.push(' ');
        }
        out.push_str("SELECT");
        match self.distinct.as_deref() {
            None => {}
            Some("") => out.push_str(" DISTINCT"),
            Some(list) => out.push_str(&format!(" DISTINCT ON ({list})")),
        }
        for (i, item) in self.items.iter().filter(|i| !i.junk).enumerate() {
            out.push_str(if i == 0 { " " } else { ", " });
            out.push_str(&item.expr);
            if let Some(name) = &item.name {
                out.push_str(" AS ");
                out.push_str(&crate::quote_ident(name));
            }
        }
        if !self.from.is_empty() {
            out.push_str(&format!(" FROM {}", self.from));
        }
        push_clause(&mut out, "WHERE", self.condition.as_deref());
        if !self.group_by.is_empty() {
            let distinct = if self.group_distinct { "DISTINCT " } else { "" };
            out.push_str(&format!(" GROUP BY {distinct}{}", self.group_by.join(", ")));
        }
        push_clause(&mut out, "HAVING", self.having.as_deref());
        if !self.windows.is_empty() {
            let list: Vec<String> = self
                .windows
                .iter()
                .map(|(n, s)| format!("{} AS {s}", crate::quote_ident(n)))
                .collect();
            out.push_str(&format!(" WINDOW {}", list.join(", ")));
        }
        self.push_tail(&mut out);
        out
    }

    /// ORDER BY, LIMIT and so on, with a space before each; what follows a set operation.
    pub(super) fn tail(&self) -> String {
        let mut out = String::new();
        self.push_tail(&mut out);
        out
    }

    fn push_tail(&self, out: &mut String) {
        if !self.order_by.is_empty() {
            out.push_str(&format!(" ORDER BY {}", self.order_by.join(", ")));
        }
        push_clause(out, "OFFSET", self.offset.as_deref());
        match (&self.limit, self.with_ties) {
            (Some(limit), true) => out.push_str(&format!(" FETCH FIRST ({limit}) ROWS WITH TIES")),
            (Some(limit), false) => out.push_str(&format!(" LIMIT {limit}")),
            (None, _) => {}
        }
        for lock in &self.locking {
            out.push(' ');
            out.push_str(lock);
        }
    }
}

fn push_clause(out: &mut String, keyword: &str, body: Option<&str>) {
    if let Some(body) = body {
        out.push(' ');
        out.push_str(keyword);
        out.push(' ');
        out.push_str(body);
    }
}

//! What a prepared statement takes and gives, in a form that can be compared.

use std::sync::Arc;

use wire::backend::{Backend, tag};

/// Parameter types, and the columns as PostgreSQL compares them when it makes a plan anew: names, types and modifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    params: Option<Box<[u32]>>,
    /// `None`: it returns no rows.
    columns: Option<Box<[u8]>>,
}

impl Description {
    /// Of the types of a ParameterDescription (`None`: nobody asked) and the body of a RowDescription (`None`: NoData).
    #[must_use]
    pub fn new(params: Option<&[u32]>, columns: Option<&[u8]>) -> Arc<Self> {
        Arc::new(Self {
            params: params.map(Box::from),
            columns: columns.map(compared),
        })
    }

    /// The same columns, for who was told these parameters.
    #[must_use]
    pub fn with_params(&self, params: Option<&[u32]>) -> Arc<Self> {
        Arc::new(Self {
            params: params.map(Box::from),
            columns: self.columns.clone(),
        })
    }

    /// The parameter types, if they were asked for.
    #[must_use]
    pub fn params(&self) -> Option<&[u32]> {
        self.params.as_deref()
    }

    /// Whether the other gives the same columns.
    #[must_use]
    pub fn gives_the_same(&self, other: &Self) -> bool {
        self.columns == other.columns
    }

    /// Whether the other takes the same parameters; `None`: that is not known of the other, and this one cares.
    #[must_use]
    pub fn takes_the_same(&self, other: &Self) -> Option<bool> {
        match (&self.params, &other.params) {
            (None, _) => Some(true),
            (Some(_), None) => None,
            (Some(ours), Some(theirs)) => Some(ours == theirs),
        }
    }

    /// Whether this one says all that the other does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.gives_the_same(other) && other.takes_the_same(self) == Some(true)
    }
}

/// Without what may differ between two servers, or two executions: the table's number and the format.
fn compared(body: &[u8]) -> Box<[u8]> {
    let Ok(Backend::RowDescription(columns)) = Backend::decode_body(tag::ROW_DESCRIPTION, body) else {
        return Box::from(body);
    };
    let mut all = Vec::with_capacity(body.len());
    for column in columns.iter() {
        all.extend_from_slice(column.name);
        all.push(0);
        all.extend_from_slice(&column.type_oid.to_be_bytes());
        all.extend_from_slice(&column.typmod.to_be_bytes());
    }
    all.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, table: u32, type_oid: u32, format: u16) -> Vec<u8> {
        let mut body = 1_u16.to_be_bytes().to_vec();
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&1_u16.to_be_bytes());
        body.extend_from_slice(&type_oid.to_be_bytes());
        body.extend_from_slice(&4_u16.to_be_bytes());
        body.extend_from_slice(&u32::MAX.to_be_bytes());
        body.extend_from_slice(&format.to_be_bytes());
        body
    }

    #[test]
    fn what_matters_is_compared_and_nothing_else() {
        let of = |body: &[u8]| Description::new(Some(&[23]), Some(body));
        let one = of(&column("a", 100, 23, 0));
        assert!(one.covers(&of(&column("a", 200, 23, 1))));
        assert!(!one.covers(&of(&column("b", 100, 23, 0))));
        assert!(!one.covers(&of(&column("a", 100, 700, 0))));
        assert!(!one.covers(&Description::new(Some(&[23]), None)));
        let untold = one.with_params(None);
        assert!(one.covers(&untold));
        assert!(!untold.covers(&one));
        assert_eq!(one.takes_the_same(&untold), None);
        assert_eq!(one.takes_the_same(&one.with_params(Some(&[700]))), Some(false));
    }
}

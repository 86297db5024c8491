//! Names of catalog objects for the deparser.

use catalog::{Oid, Snapshot, TypeKind};
use sql::{NameSource, QualifiedName, quote_ident};

/// Names from a snapshot.
pub(super) struct Names<'a>(pub &'a Snapshot);

impl NameSource for Names<'_> {
    fn relation(&self, oid: sql::Oid) -> Option<QualifiedName> {
        self.0
            .relation(Oid(oid))
            .map(|r| QualifiedName::qualified(&r.schema, &r.name))
    }

    fn column(&self, relation: sql::Oid, attno: i16) -> Option<String> {
        Some(self.0.relation(Oid(relation))?.column(attno)?.name.clone())
    }

    fn function(&self, oid: sql::Oid) -> Option<QualifiedName> {
        self.0
            .function(Oid(oid))
            .map(|f| QualifiedName::qualified(&f.schema, &f.name))
    }

    fn operator(&self, oid: sql::Oid) -> Option<QualifiedName> {
        self.0
            .operator(Oid(oid))
            .map(|o| QualifiedName::qualified(&o.schema, &o.name))
    }

    fn type_name(&self, oid: sql::Oid, typmod: i32) -> Option<String> {
        let facts = self.0.type_info(Oid(oid))?;
        if facts.kind == TypeKind::Array {
            return Some(format!("{}[]", self.type_name(facts.element?.0, typmod)?));
        }
        let name = format!("{}.{}", quote_ident(&facts.schema), quote_ident(&facts.name));
        Some(match modifier(oid, typmod) {
            Modifier::None => name,
            Modifier::Known(text) => format!("{name}{text}"),
            Modifier::Unknown => return None,
        })
    }

    fn collation(&self, oid: sql::Oid) -> Option<QualifiedName> {
        self.0
            .collation(Oid(oid))
            .map(|c| QualifiedName::qualified(&c.schema, &c.name))
    }

    fn enum_label(&self, oid: sql::Oid) -> Option<String> {
        self.0.label_of(Oid(oid)).map(str::to_owned)
    }

    fn field(&self, type_oid: sql::Oid, attno: i16) -> Option<String> {
        let facts = self.0.type_info(Oid(type_oid))?;
        let relation = self.0.relation(facts.relation?)?;
        Some(relation.column(attno)?.name.clone())
    }
}

enum Modifier {
    None,
    Known(String),
    Unknown,
}

/// A type modifier as text, for the built-in types.
fn modifier(oid: u32, typmod: i32) -> Modifier {
    if typmod < 0 {
        return Modifier::None;
    }
    match oid {
        // character, character varying: length and a header of four bytes.
        1042 | 1043 if typmod >= 4 => Modifier::Known(format!("({})", typmod - 4)),
        1700 if typmod >= 4 => {
            let packed = typmod - 4;
            let precision = (packed >> 16) & 0xffff;
            // Eleven bits, signed, since scale may be negative.
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            Modifier::Known(format!("({precision}, {scale})"))
        }
        // bit, varbit, time, timetz, timestamp, timestamptz: the number itself.
        1560 | 1562 | 1083 | 1266 | 1114 | 1184 => Modifier::Known(format!("({typmod})")),
        _ => Modifier::Unknown,
    }
}

/// A type by OID as SQL text, without modifier.
pub(super) fn type_sql(snapshot: &Snapshot, oid: u32) -> Option<String> {
    Names(snapshot).type_name(oid, -1)
}

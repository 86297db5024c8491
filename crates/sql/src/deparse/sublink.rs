//! Subqueries in expressions.

use super::DeparseError;
use super::expr::strip_implicit;
use super::printer::{Printed, Printer, unsupported};
use crate::nodes::Node;

/// `SubLinkType` of the server.
const EXISTS: i32 = 0;
const ALL: i32 = 1;
const ANY: i32 = 2;
const ROW_COMPARE: i32 = 3;
const EXPR: i32 = 4;
pub(super) const ARRAY: i32 = 6;
/// `ParamKind` of the place where a subquery's column is compared.
const PARAM_SUBLINK: i32 = 2;

impl<'a> Printer<'a> {
    pub(super) fn sublink(&mut self, n: &'a Node) -> Printed {
        let kind = n.i32("subLinkType")?;
        if !matches!(kind, EXISTS | ALL | ANY | ROW_COMPARE | EXPR | ARRAY) {
            return Err(unsupported(n, "kind of subquery"));
        }
        let query = self.query(n.node("subselect")?)?;
        let quantifier = match kind {
            EXISTS => return Ok(format!("(EXISTS ({query}))")),
            EXPR => return Ok(format!("({query})")),
            ARRAY => return Ok(format!("ARRAY({query})")),
            ANY => "ANY ",
            ALL => "ALL ",
            _ => "",
        };
        let (left, op) = self.comparison(n.node("testexpr")?)?;
        Ok(format!("({left} {op} {quantifier}({query}))"))
    }

    /// Left side and operator of a comparison with a subquery's columns.
    fn comparison(&mut self, test: &'a Node) -> Result<(String, String), DeparseError> {
        match &*test.name {
            "OPEXPR" => {
                let (left, op) = self.one_comparison(test)?;
                Ok((self.expr(left)?, self.operator_name(op)?))
            }
            "BOOLEXPR" => {
                let mut lefts = Vec::new();
                let mut ops = Vec::new();
                for arg in test.nodes("args")? {
                    let (left, op) = self.one_comparison(arg)?;
                    lefts.push(self.expr(left)?);
                    ops.push(op);
                }
                let op = self.common_operator(test, &ops)?;
                Ok((format!("ROW({})", lefts.join(", ")), op))
            }
            "ROWCOMPARE" | "ROWCOMPAREEXPR" => {
                for right in test.nodes("rargs")? {
                    require_column(right)?;
                }
                let op = self.common_operator(test, test.oids("opnos")?)?;
                Ok((format!("ROW({})", self.list(test, "largs")?), op))
            }
            _ => Err(unsupported(test, "comparison with a subquery")),
        }
    }

    fn one_comparison(&self, n: &'a Node) -> Result<(&'a Node, u32), DeparseError> {
        if !n.is("OPEXPR") {
            return Err(unsupported(n, "comparison with a subquery"));
        }
        let args = n.nodes("args")?;
        let [left, right] = args.as_slice() else {
            return Err(unsupported(n, "number of arguments"));
        };
        require_column(right)?;
        Ok((left, n.oid("opno")?))
    }
}

/// The right side must be the subquery's column, as it is or cast by the parser itself.
fn require_column(n: &Node) -> Result<(), DeparseError> {
    let below = strip_implicit(n)?;
    match below.is("PARAM") && below.i32("paramkind")? == PARAM_SUBLINK {
        true => Ok(()),
        false => Err(unsupported(n, "comparison with a subquery")),
    }
}

//! The hits of rules in Prometheus' text format.

use std::fmt::Write as _;

use super::pools::escaped;
use crate::rules::Rules;

/// Name, kind, labels and meaning.
pub(super) const DOCUMENTED: [(&str, &str, &str, &str); 1] = [(
    "drover_rule_hits_total",
    "counter",
    "rule, action, mode",
    "Statements that a rule was about; names of rules come from the configuration.",
)];

/// The rules' metrics.
pub(crate) fn expose(rules: &Rules) -> String {
    let mut out = String::new();
    for (name, kind, _, help) in DOCUMENTED {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for rule in rules.iter() {
            let _ = writeln!(
                out,
                "{name}{{rule=\"{}\",action=\"{}\",mode=\"{}\"}} {}",
                escaped(&rule.config.name),
                rule.action(),
                rule.mode(),
                rule.hits()
            );
        }
    }
    out
}

//! `[[rules]]`: values, and what they mean to the proxy.

use proxy::rules::{RuleAction, RuleConfig, Rules};
use toml::de::DeValue;

use super::declare::{Located, Reader};
use super::sections::RuleSection;
use super::values::FromToml;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleDo {
    /// The statement is answered with an error.
    Block,
    /// Another one runs.
    Rewrite,
}

/// Whether it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleMode {
    /// It does.
    Enforce,
    /// It counts.
    DryRun,
}

impl FromToml for RuleDo {
    const KIND: &'static str = "\"block\" or \"rewrite\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("block") => Ok(RuleDo::Block),
            Some("rewrite") => Ok(RuleDo::Rewrite),
            _ => Err("must be \"block\" or \"rewrite\"".to_owned()),
        }
    }
}

impl FromToml for RuleMode {
    const KIND: &'static str = "\"enforce\" or \"dry-run\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("enforce") => Ok(RuleMode::Enforce),
            Some("dry-run") => Ok(RuleMode::DryRun),
            _ => Err("must be \"enforce\" or \"dry-run\"".to_owned()),
        }
    }
}

impl RuleSection {
    /// As the proxy takes it.
    pub(super) fn to_proxy(&self) -> RuleConfig {
        RuleConfig {
            name: self.name.0.clone(),
            matches: self.statement.0.clone(),
            user: self.user.as_ref().map(|name| name.0.clone()),
            database: self.database.as_ref().map(|name| name.0.clone()),
            action: match self.action {
                RuleDo::Block => RuleAction::Block {
                    sqlstate: self.sqlstate.as_ref().map(|text| text.0.clone()),
                    message: self.message.as_ref().map(|text| text.0.clone()),
                },
                RuleDo::Rewrite => RuleAction::Rewrite {
                    text: self.rewrite.as_ref().map(|sql| sql.0.clone()).unwrap_or_default(),
                },
            },
            is_enforced: self.mode == RuleMode::Enforce,
        }
    }
}

/// Options that belong together, and statements that are some.
pub(super) fn check(reader: &mut Reader<'_>, rules: &[Located<RuleSection>]) {
    for rule in rules {
        let section = &rule.value;
        match (section.action, &section.rewrite) {
            (RuleDo::Rewrite, None) => {
                reader.problem(
                    rule.at,
                    "`rewrite` is missing in [[rules]]: the action is \"rewrite\"",
                );
            }
            (RuleDo::Block, Some(_)) => {
                reader.problem(
                    rule.key_at("rewrite"),
                    "`rewrite` is of no use: the action is \"block\"",
                );
            }
            _ => {}
        }
        for (key, given) in [
            ("message", section.message.is_some()),
            ("sqlstate", section.sqlstate.is_some()),
        ] {
            if given && section.action == RuleDo::Rewrite {
                reader.problem(
                    rule.key_at(key),
                    format!("`{key}` is of no use: the action is \"rewrite\""),
                );
            }
        }
    }
    if rules
        .iter()
        .any(|rule| (rule.value.action == RuleDo::Rewrite) != rule.value.rewrite.is_some())
    {
        return;
    }
    let configs: Vec<RuleConfig> = rules.iter().map(|rule| rule.value.to_proxy()).collect();
    for problem in Rules::new(&configs).err().into_iter().flatten() {
        if let Some(rule) = rules.get(problem.rule) {
            let message = format!("`{}`: {}", problem.option, problem.message);
            reader.problem(rule.key_at(problem.option), message);
        }
    }
}

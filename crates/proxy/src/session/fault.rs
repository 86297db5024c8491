//! How things go wrong in a session.

use wire::backend::ErrorFields;

use crate::exec::link::LinkError;
use crate::exec::relay::PumpError;
use crate::exec::statement::KeyProblem;
use crate::pools::CheckoutError;

/// Why a step of a session did not succeed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody is there any more.
    ClientGone,
    /// The session cannot go on; the client is to be told this.
    Fatal(Box<ErrorFields>),
    /// The statement failed; the session goes on.
    Statement(Box<ErrorFields>),
}

impl Fault {
    /// An error of this statement.
    pub(crate) fn error(code: &str, message: impl Into<String>) -> Self {
        Self::Statement(Box::new(ErrorFields::error(code, message)))
    }

    /// An error that ends the session.
    pub(crate) fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self::Fatal(Box::new(ErrorFields::fatal(code, message)))
    }

    /// A refusal, as the client sees it.
    pub(crate) fn refused(refusal: &plan::Refusal) -> Self {
        let fields = ErrorFields::error(plan::refusal::SQLSTATE, refusal.reason.clone())
            .with_detail(format!("refusal code {}", refusal.code.as_str()))
            .with_hint(refusal.hint.clone());
        Self::Statement(Box::new(fields))
    }

    /// A key that Drover cannot read as PostgreSQL would.
    pub(crate) fn key_problem(problem: KeyProblem) -> Self {
        Self::refused(&plan::Refusal::with(
            plan::RefusalCode::KeyForm,
            problem.to_string(),
        ))
    }

    /// A server was lost while it worked for this session.
    pub(crate) fn lost(error: &LinkError, shard: &str) -> Self {
        let fields = match error {
            LinkError::Ended(fields) => {
                let mut fields = (**fields).clone();
                "ERROR".clone_into(&mut fields.severity);
                fields
            }
            other => ErrorFields::error("08006", format!("connection to {shard} was lost: {other}")),
        };
        Self::Statement(Box::new(fields))
    }
}

impl From<CheckoutError> for Fault {
    fn from(error: CheckoutError) -> Self {
        let mut fields = ErrorFields::error(&error.sqlstate, error.message);
        if let Some(hint) = error.hint {
            fields = fields.with_hint(hint);
        }
        Self::Statement(Box::new(fields))
    }
}

impl From<PumpError> for Fault {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Client(_) => Self::ClientGone,
            PumpError::Server(error) => Self::lost(&error, "a shard"),
        }
    }
}

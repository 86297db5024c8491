//! How things go wrong in a session.

use wire::backend::ErrorFields;

use crate::exec::link::LinkError;
use crate::exec::relay::PumpError;
use crate::exec::statement::KeyProblem;
use crate::pools::CheckoutError;

/// The start of a refusal's DETAIL; its code follows.
const REFUSAL_DETAIL: &str = "refusal code ";

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
        Self::Statement(Box::new(refusal_fields(refusal)))
    }

    /// A refusal in the words of the table.
    pub(crate) fn refused_as(code: plan::RefusalCode) -> Self {
        Self::refused(&plan::Refusal::new(code))
    }

    /// A key that Drover cannot read as PostgreSQL would.
    pub(crate) fn key_problem(problem: KeyProblem) -> Self {
        Self::refused(&plan::Refusal::with(
            plan::RefusalCode::KeyForm,
            problem.to_string(),
        ))
    }

    /// The server that was asked is gone.
    pub(crate) fn is_lost(&self) -> bool {
        let (Self::Fatal(fields) | Self::Statement(fields)) = self else {
            return false;
        };
        matches!(fields.code.as_str(), "08006" | "57P01" | "57P02" | "57P03")
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

/// A refusal as fields of an error.
pub(crate) fn refusal_fields(refusal: &plan::Refusal) -> ErrorFields {
    ErrorFields::error(plan::refusal::SQLSTATE, refusal.reason.clone())
        .with_detail(format!("{REFUSAL_DETAIL}{}", refusal.code.as_str()))
        .with_hint(refusal.hint.clone())
}

/// The refusal code of an error that Drover made; servers use its SQLSTATE too.
pub(crate) fn refusal_code(fields: &ErrorFields) -> Option<&str> {
    if fields.code != plan::refusal::SQLSTATE {
        return None;
    }
    fields.detail.as_deref()?.strip_prefix(REFUSAL_DETAIL)
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

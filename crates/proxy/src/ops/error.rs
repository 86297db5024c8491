//! Why an operator statement failed, and what the client is told.

use catalog::load::CatalogError;
use plan::{Refusal, RefusalCode};
use topology::ChangeError;
use wire::backend::ErrorFields;

use crate::admin_link::AdminError;
use crate::session::refusal_fields;

/// Why an operator statement failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpError {
    /// It cannot be done, and the client is told why.
    #[error("{}", .0.message)]
    Refused(Box<ErrorFields>),
    /// A shard failed or said no.
    #[error("{shard}: {source}")]
    Shard {
        /// Name of the shard.
        shard: String,
        /// What it said.
        source: AdminError,
    },
    /// The other proxies or the topology store.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Decided or possibly decided, and not carried out everywhere; [`super::repair`] will.
    #[error("unfinished: {0}")]
    Unfinished(String),
    /// A test ended the process here.
    #[error("died")]
    Died,
}

impl OpError {
    /// An error for the client.
    pub(super) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(ErrorFields::error(code, message)))
    }

    /// The same with a hint.
    pub(super) fn refused_with(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self::Refused(Box::new(ErrorFields::error(code, message).with_hint(hint)))
    }

    /// A refusal of the table in `plan`, in words of its own.
    pub(super) fn not_done(code: RefusalCode, reason: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Refused(Box::new(refusal_in(code, reason, hint)))
    }

    /// A refusal of the planner's.
    pub(super) fn from_refusal(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal_fields(&refusal)))
    }

    /// For `map_err`: a failure on this shard.
    pub(super) fn on(shard: &str) -> impl Fn(AdminError) -> Self + use<> {
        let shard = shard.to_owned();
        move |source| Self::Shard {
            shard: shard.clone(),
            source,
        }
    }

    /// The SQLSTATE of what a server said.
    pub(super) fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(fields)
            | Self::Shard {
                source: AdminError::Server(fields),
                ..
            } => Some(&fields.code),
            _ => None,
        }
    }

    /// What the client is told.
    pub(super) fn into_fields(self) -> ErrorFields {
        match self {
            Self::Refused(fields) => *fields,
            Self::Shard { shard, source } => shard_fields(&shard, source),
            Self::Change(error) => change_fields(&error),
            Self::Unfinished(what) => ErrorFields::error("08007", what).with_hint(
                "Drover finishes it by itself once the shards can be reached; look before repeating it.",
            ),
            Self::Died => ErrorFields::error("57P02", "the move was ended"),
        }
    }
}

fn shard_fields(shard: &str, source: AdminError) -> ErrorFields {
    match source {
        AdminError::Server(fields) => {
            let mut fields = *fields;
            "ERROR".clone_into(&mut fields.severity);
            // It points into a text the client has not written.
            fields.position = None;
            let place = format!("This happened on {shard}.");
            fields.detail = Some(match fields.detail.take() {
                Some(detail) => format!("{detail} {place}"),
                None => place,
            });
            fields
        }
        AdminError::Catalog(error) => catalog_fields(&error),
        AdminError::State(message) => ErrorFields::error("XX000", message),
        error @ (AdminError::Dial(_) | AdminError::Link(_)) => {
            ErrorFields::error("08006", format!("{shard} failed: {error}"))
        }
    }
}

fn catalog_fields(error: &CatalogError) -> ErrorFields {
    let code = match error {
        CatalogError::NoSuchColumn { .. } => "42703",
        CatalogError::BadKey { .. }
        | CatalogError::MixedMap { .. }
        | CatalogError::NotATable { .. }
        | CatalogError::ChildPlacement { .. }
        | CatalogError::NotUtf8 { .. } => return refusal_in(RefusalCode::Immovable, error.to_string(), None),
        _ => "XX000",
    };
    ErrorFields::error(code, error.to_string())
}

fn refusal_in(code: RefusalCode, reason: impl Into<String>, hint: Option<&str>) -> ErrorFields {
    let hint = hint.unwrap_or(code.entry().hint).to_owned();
    refusal_fields(&Refusal {
        code,
        reason: reason.into(),
        hint,
    })
}

fn change_fields(error: &ChangeError) -> ErrorFields {
    match error {
        ChangeError::Busy { .. } => ErrorFields::error("55P03", error.to_string()),
        ChangeError::Wait(_) => ErrorFields::error("55P03", format!("not all proxies are ready: {error}"))
            .with_hint("Long statements hold a change back; try again when they have ended."),
        ChangeError::Lost | ChangeError::Membership(_) => ErrorFields::error(
            "57P01",
            format!("this proxy was cut off from the cluster: {error}"),
        ),
        ChangeError::NoCluster | ChangeError::Invalid(_) | ChangeError::Store(_) => {
            ErrorFields::error("XX000", format!("the topology store: {error}"))
        }
    }
}

//! From PostgreSQL's errors to HTTP's.

use std::error::Error;

use tokio_postgres::error::SqlState;

use crate::api::{ApiError, ErrorKind};

/// What a failed statement or login means for the request.
pub(super) fn api_error(error: &tokio_postgres::Error) -> ApiError {
    let Some(database) = error.as_db_error() else {
        return without_sqlstate(error);
    };
    let sqlstate = database.code();
    let kind = kind_of(sqlstate);
    let message = match kind {
        ErrorKind::Internal => {
            let (code, message) = (sqlstate.code(), database.message());
            tracing::error!(code, message, "a statement of the HTTP API failed");
            "the row cannot be read"
        }
        _ => database.message(),
    };
    ApiError::new(kind, message).with_sqlstate(sqlstate.code())
}

/// The socket failed, or else the configuration did: a role without the password it needs.
fn without_sqlstate(error: &tokio_postgres::Error) -> ApiError {
    let of_the_socket = error.is_closed() || error.source().is_some_and(<dyn Error>::is::<std::io::Error>);
    if of_the_socket {
        tracing::warn!(%error, "the connection of the HTTP API to the proxy failed");
        return ApiError::new(ErrorKind::Unavailable, "the connection to the proxy failed");
    }
    tracing::error!(%error, "the HTTP API cannot log in to the proxy");
    ApiError::new(ErrorKind::Internal, "the row cannot be read")
}

fn kind_of(sqlstate: &SqlState) -> ErrorKind {
    let code = sqlstate.code();
    match code {
        "0A000" => ErrorKind::Refused,
        "42501" => ErrorKind::Forbidden,
        // Dropped since its facts were loaded.
        "42P01" | "3F000" => ErrorKind::NotFound,
        // A lock that another transaction holds, a cancel, a timeout, a shutdown, a start.
        "55P03" => ErrorKind::Unavailable,
        _ => match code.get(..2) {
            // The key is no value of its column's type.
            Some("22") => ErrorKind::BadRequest,
            Some("08" | "40" | "53" | "57") => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (code, expect) in [
            ("22P02", ErrorKind::BadRequest),
            ("22003", ErrorKind::BadRequest),
            ("22021", ErrorKind::BadRequest),
            ("42501", ErrorKind::Forbidden),
            ("42P01", ErrorKind::NotFound),
            ("0A000", ErrorKind::Refused),
            ("08006", ErrorKind::Unavailable),
            ("53300", ErrorKind::Unavailable),
            ("57P03", ErrorKind::Unavailable),
            ("57014", ErrorKind::Unavailable),
            ("40001", ErrorKind::Unavailable),
            ("55P03", ErrorKind::Unavailable),
            ("28P01", ErrorKind::Internal),
            ("42883", ErrorKind::Internal),
            ("XX000", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(&SqlState::from_code(code)), expect, "{code}");
        }
    }
}

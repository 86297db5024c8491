//! Paths, status codes and limits.

mod answer;
mod counts;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::api::{ApiError, Backend, ErrorKind, Role};
use crate::auth::{Access, Caller};
use crate::serve::HttpConfig;
use answer::{json, text};
use counts::Counts;

const API: &str = "/api/v1/";

/// Everything under one listener. Without limits on connections: [`crate::serve`] adds those.
pub fn router(listener: SocketAddr, api: Arc<dyn Backend>, config: &HttpConfig) -> Router {
    let state = Arc::new(App {
        api,
        access: Access::new(config.tokens.clone(), config.default_role.clone(), listener),
        requests: Semaphore::new(config.limits.requests.clamp(1, Semaphore::MAX_PERMITS)),
        request_timeout: config.limits.request_timeout,
        counts: Counts::default(),
    });
    let guarded = Router::new()
        // A table may be called `directory`, and a key `resolve`.
        .route("/api/v1/directory/resolve", post(resolve).get(row))
        .route("/api/v1/reload", post(reload).get(row))
        .route("/api/v1/{*row}", get(row))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(&state), limit))
        .route_layer(from_fn_with_state(Arc::clone(&state), authenticate));
    let ready = Router::new()
        .route("/ready", get(ready))
        .route_layer(from_fn_with_state(Arc::clone(&state), limit));
    Router::new()
        .merge(guarded)
        .merge(ready)
        // Outside all limits: a busy process is a live one.
        .route("/health", get(health))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(config.limits.body_bytes))
        .layer(from_fn_with_state(Arc::clone(&state), count))
        .with_state(state)
}

struct App {
    api: Arc<dyn Backend>,
    access: Access,
    requests: Semaphore,
    request_timeout: std::time::Duration,
    counts: Counts,
}

type AppState = State<Arc<App>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveRequest {
    shard_key: Key,
    key_type: String,
}

/// A number is as good as its digits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    Text(String),
    Integer(i64),
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

async fn resolve(State(app): AppState, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| {
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
            _ => ErrorKind::BadRequest,
        };
        ApiError::new(kind, rejection.body_text())
    })?;
    let request: ResolveRequest = serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(
            ErrorKind::BadRequest,
            format!("the body is not a valid request: {error}"),
        )
    })?;
    let key = match request.shard_key {
        Key::Text(text) => text,
        Key::Integer(number) => number.to_string(),
    };
    if key.contains('\0') {
        return Err(ApiError::new(
            ErrorKind::BadRequest,
            "the key contains a zero byte",
        ));
    }
    let resolved = app.api.resolve(&request.key_type, &key).await?;
    Ok(Json(resolved).into_response())
}

async fn row(
    State(app): AppState,
    Extension(role): Extension<Option<Role>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let key = crate::path::row_key(uri.path().strip_prefix(API).unwrap_or_default())?;
    if key.schema.as_deref().is_some_and(is_reserved) {
        return Err(ApiError::new(ErrorKind::NotFound, "there is no such table"));
    }
    let role = role
        .ok_or_else(|| ApiError::new(ErrorKind::Unauthorized, "a bearer token is required to read rows"))?;
    Ok(json(StatusCode::OK, app.api.row(&role, &key).await?))
}

/// Unlike all else it changes something, so a page that a browser shows on this host must not be able to ask for it:
/// without a token it could.
async fn reload(State(app): AppState, headers: HeaderMap) -> Result<Response, ApiError> {
    if headers.contains_key(header::ORIGIN) && !headers.contains_key(header::AUTHORIZATION) {
        let message = "a browser's page needs a bearer token for this";
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    Ok(Json(app.api.reload().await?).into_response())
}

async fn metrics(State(app): AppState) -> Response {
    let mut metrics = app.api.metrics().await;
    app.counts.write(&mut metrics);
    text(metrics)
}

/// Anybody may ask; the reasons name servers and are for callers who may know them.
async fn ready(State(app): AppState, headers: HeaderMap) -> Response {
    let readiness = app.api.readiness().await;
    if readiness.reasons.is_empty() {
        return Json(Status {
            status: "ready",
            reasons: Vec::new(),
        })
        .into_response();
    }
    let may_know = matches!(app.access.caller(&headers), Caller::Allowed(_));
    let reasons = if may_know { readiness.reasons } else { Vec::new() };
    let mut response = Json(Status {
        status: "not ready",
        reasons,
    })
    .into_response();
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer::retry_later(&mut response);
    response
}

async fn health() -> Response {
    Json(Status {
        status: "ok",
        reasons: Vec::new(),
    })
    .into_response()
}

async fn nothing_here() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "there is nothing at this path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorKind::MethodNotAllowed, "this path does not take that method")
}

/// Schemas whose tables are not data: Drover's own and PostgreSQL's.
fn is_reserved(schema: &str) -> bool {
    schema == "drover" || schema == "information_schema" || schema.starts_with("pg_")
}

/// Lets known callers through, with the role they act as.
async fn authenticate(State(app): AppState, mut request: Request, next: Next) -> Response {
    match app.access.caller(request.headers()) {
        Caller::Allowed(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Caller::Denied(error) => error.into_response(),
    }
}

/// Bounds how many requests run at once, and each one's time, the reading of its body included.
async fn limit(State(app): AppState, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.requests.try_acquire() else {
        return ApiError::new(ErrorKind::TooManyRequests, "too many requests at once").into_response();
    };
    match tokio::time::timeout(app.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(ErrorKind::Unavailable, "the request took too long").into_response(),
    }
}

async fn count(State(app): AppState, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    app.counts.add(response.status());
    response
}

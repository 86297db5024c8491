//! Every status code, over a real socket, with a backend that answers whatever the request names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::router;
use crate::api::{
    ApiError, Backend, BoxFuture, ErrorKind, PhysicalConnection, Readiness, Resolved, Role, RowKey,
};
use crate::{HttpConfig, HttpLimits, Token};

/// Fails with the kind that the key names; a key `wait` waits for `release`, `never` for ever.
#[derive(Default)]
struct Fake {
    reasons: Vec<String>,
    release: Notify,
    waiting: Notify,
}

impl Fake {
    async fn fail(&self, key: &str) -> Result<(), ApiError> {
        let kind = match key {
            "bad" => ErrorKind::BadRequest,
            "forbidden" => ErrorKind::Forbidden,
            "missing" => ErrorKind::NotFound,
            "refused" => ErrorKind::Refused,
            "down" => ErrorKind::Unavailable,
            "broken" => ErrorKind::Internal,
            "never" => std::future::pending().await,
            "wait" => {
                self.waiting.notify_one();
                self.release.notified().await;
                return Ok(());
            }
            _ => return Ok(()),
        };
        Err(ApiError::new(kind, format!("the key is {key}")).with_sqlstate("XX001"))
    }
}

impl Backend for Fake {
    fn resolve<'a>(&'a self, key_type: &'a str, key: &'a str) -> BoxFuture<'a, Result<Resolved, ApiError>> {
        Box::pin(async move {
            self.fail(key).await?;
            Ok(Resolved {
                shard_key: key.to_owned(),
                shard_id: format!("shard_of_{key_type}"),
                physical_connection: PhysicalConnection {
                    primary_host: "10.0.0.1".to_owned(),
                    primary_port: 5432,
                    replica_hosts: vec!["10.0.0.2:5432".to_owned()],
                    ssl_mode: "disable".to_owned(),
                },
                status: "active".to_owned(),
                active_connections: 3,
            })
        })
    }

    fn row<'a>(&'a self, role: &'a Role, key: &'a RowKey) -> BoxFuture<'a, Result<String, ApiError>> {
        Box::pin(async move {
            self.fail(&key.values[0]).await?;
            let schema = key.schema.as_deref().unwrap_or("-");
            Ok(format!(
                "{}|{schema}|{}|{}",
                role.user,
                key.table,
                key.values.join("|")
            ))
        })
    }

    fn readiness(&self) -> BoxFuture<'_, Readiness> {
        Box::pin(async {
            Readiness {
                reasons: self.reasons.clone(),
            }
        })
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "drover_clients 1\n".to_owned() })
    }
}

fn role(user: &str) -> Role {
    Role {
        user: user.to_owned(),
        password: None,
    }
}

fn config() -> HttpConfig {
    HttpConfig {
        tokens: vec![Token::new("s3cret", role("reader"))],
        default_role: Some(role("drover")),
        limits: HttpLimits::default(),
    }
}

const LOOPBACK: &str = "127.0.0.1:6480";
const PUBLIC: &str = "0.0.0.0:6480";

/// Serves on loopback as if the listener had the claimed address.
async fn start(claimed: &str, backend: Arc<Fake>, config: &HttpConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = router(claimed.parse().expect("an address"), backend, config);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Sends a request and returns the whole answer, head in lower case.
async fn ask(address: SocketAddr, head: &str, body: &str) -> (String, String) {
    let request = async {
        let mut stream = TcpStream::connect(address).await?;
        let length = body.len();
        let head = head.replace('\n', "\r\n");
        let text = format!(
            "{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), request)
        .await
        .expect("an answer in time");
    let answer = answer.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn check(address: SocketAddr, head: &str, body: &str, status: u16, expect: &str) -> String {
    let (answer, found) = ask(address, head, body).await;
    assert!(
        answer.starts_with(&format!("http/1.1 {status} ")),
        "{head}: {answer}\n{found}"
    );
    assert!(found.contains(expect), "{head}: {found}");
    let retry = answer.contains("\r\nretry-after: 1");
    assert_eq!(retry, [429, 503].contains(&status), "{head}: {answer}");
    answer
}

#[tokio::test]
async fn rows() {
    let address = start(LOOPBACK, Arc::default(), &config()).await;
    for (path, status, expect) in [
        ("/api/v1/users/42", 200, "drover|-|users|42"),
        ("/api/v1/sales.orders/7,x%2Cy", 200, "drover|sales|orders|7|x,y"),
        ("/api/v1/users/", 200, "drover|-|users|"),
        ("/api/v1/directory/resolve", 200, "drover|-|directory|resolve"),
        (
            "/api/v1/users/bad",
            400,
            r#"{"error":"bad_request","message":"the key is bad","sqlstate":"XX001"}"#,
        ),
        ("/api/v1/users/%zz", 400, "hexadecimal"),
        ("/api/v1/users/forbidden", 403, r#""error":"forbidden""#),
        ("/api/v1/users/missing", 404, r#""error":"not_found""#),
        ("/api/v1/users/broken", 500, r#""error":"internal""#),
        ("/api/v1/users/refused", 501, r#""error":"refused""#),
        ("/api/v1/users/down", 503, r#""error":"unavailable""#),
        ("/api/v1/drover.shards/1", 404, "no such table"),
        ("/api/v1/pg_catalog.pg_class/1", 404, "no such table"),
        ("/api/v1/pg%5Fcatalog.pg_class/1", 404, "no such table"),
        ("/api/v1/pg_toast.t/1", 404, "no such table"),
        ("/api/v1/information_schema.tables/1", 404, "no such table"),
        ("/api/v1/users", 404, "nothing at this path"),
        ("/api/v1/", 404, "nothing at this path"),
        ("/", 404, "nothing at this path"),
    ] {
        check(address, &format!("GET {path} HTTP/1.1"), "", status, expect).await;
    }
    check(
        address,
        "DELETE /api/v1/users/42 HTTP/1.1",
        "",
        405,
        "method_not_allowed",
    )
    .await;
    let answer = check(address, "GET /api/v1/users/1 HTTP/1.1", "", 200, "").await;
    assert!(answer.contains("content-type: application/json"), "{answer}");
}

#[tokio::test]
async fn resolve() {
    let address = start(LOOPBACK, Arc::default(), &config()).await;
    let resolved = concat!(
        r#"{"shard_key":"org_1","shard_id":"shard_of_org","physical_connection":{"primary_host":"10.0.0.1","#,
        r#""primary_port":5432,"replica_hosts":["10.0.0.2:5432"],"ssl_mode":"disable"},"status":"active","#,
        r#""active_connections":3}"#
    );
    for (body, status, expect) in [
        (r#"{"shard_key": "org_1", "key_type": "org"}"#, 200, resolved),
        (
            r#"{"shard_key": 443322, "key_type": "org"}"#,
            200,
            r#"{"shard_key":"443322","#,
        ),
        (r#"{"shard_key": 1.5, "key_type": "org"}"#, 400, "bad_request"),
        (r#"{"shard_key": "a\u0000", "key_type": "org"}"#, 400, "zero byte"),
        (
            r#"{"shard_key": "bad", "key_type": "org"}"#,
            400,
            "the key is bad",
        ),
        (r#"{"shard_key": "1"}"#, 400, "key_type"),
        (r#"{"shard_key": "1", "key_type": "org", "more": 1}"#, 400, "more"),
        ("", 400, "bad_request"),
        ("[", 400, "bad_request"),
        (
            r#"{"shard_key": "down", "key_type": "org"}"#,
            503,
            "the key is down",
        ),
    ] {
        check(
            address,
            "POST /api/v1/directory/resolve HTTP/1.1",
            body,
            status,
            expect,
        )
        .await;
    }
    let long = format!(
        r#"{{"shard_key": "{}", "key_type": "org"}}"#,
        "x".repeat(16 * 1024)
    );
    check(
        address,
        "POST /api/v1/directory/resolve HTTP/1.1",
        &long,
        413,
        "too_large",
    )
    .await;
}

#[tokio::test]
async fn tokens() {
    let address = start(PUBLIC, Arc::default(), &config()).await;
    for path in [
        "GET /api/v1/users/1",
        "POST /api/v1/directory/resolve",
        "POST /api/v1/reload",
        "GET /metrics",
        "GET /api/v1/users/missing",
    ] {
        let answer = check(address, &format!("{path} HTTP/1.1"), "", 401, "unauthorized").await;
        assert!(answer.contains("\r\nwww-authenticate: bearer"), "{answer}");
        check(
            address,
            &format!("{path} HTTP/1.1\nauthorization: Bearer wrong"),
            "",
            401,
            "not valid",
        )
        .await;
    }
    let known = "GET /api/v1/users/1 HTTP/1.1\nauthorization: Bearer s3cret";
    check(address, known, "", 200, "reader|-|users|1").await;
    check(address, "GET /health HTTP/1.1", "", 200, r#"{"status":"ok"}"#).await;
    check(address, "GET /ready HTTP/1.1", "", 200, r#"{"status":"ready"}"#).await;

    let reload = "POST /api/v1/reload HTTP/1.1\nauthorization: Bearer s3cret";
    check(address, reload, "", 501, "no configuration to read again").await;

    // A page in somebody's browser can send this, too.
    let address = start(
        LOOPBACK,
        Arc::default(),
        &HttpConfig {
            tokens: Vec::new(),
            ..config()
        },
    )
    .await;
    check(
        address,
        "POST /api/v1/reload HTTP/1.1",
        "",
        501,
        "no configuration",
    )
    .await;
    let foreign = "POST /api/v1/reload HTTP/1.1\norigin: http://evil.example";
    check(address, foreign, "", 403, "browser").await;

    let nobody = HttpConfig {
        default_role: None,
        ..config()
    };
    let address = start(LOOPBACK, Arc::default(), &nobody).await;
    check(address, "GET /api/v1/users/1 HTTP/1.1", "", 401, "to read rows").await;
    check(address, "GET /metrics HTTP/1.1", "", 200, "drover_clients 1\n").await;
}

#[tokio::test]
async fn readiness_says_why_to_those_who_may_know() {
    let backend = || {
        Arc::new(Fake {
            reasons: vec!["shard_2: down".to_owned()],
            ..Fake::default()
        })
    };
    let address = start(LOOPBACK, backend(), &config()).await;
    check(
        address,
        "GET /ready HTTP/1.1",
        "",
        503,
        r#"{"status":"not ready","reasons":["shard_2: down"]}"#,
    )
    .await;
    check(address, "GET /health HTTP/1.1", "", 200, "ok").await;
    let address = start(PUBLIC, backend(), &config()).await;
    let (_, body) = ask(address, "GET /ready HTTP/1.1", "").await;
    assert_eq!(body, r#"{"status":"not ready"}"#);
    check(
        address,
        "GET /ready HTTP/1.1\nauthorization: Bearer s3cret",
        "",
        503,
        "shard_2: down",
    )
    .await;
}

#[tokio::test]
async fn metrics_count_requests() {
    let address = start(LOOPBACK, Arc::default(), &config()).await;
    check(address, "GET /health HTTP/1.1", "", 200, "").await;
    check(address, "GET /nothing HTTP/1.1", "", 404, "").await;
    let answer = check(
        address,
        "GET /metrics HTTP/1.1",
        "",
        200,
        "drover_clients 1\n# HELP ",
    )
    .await;
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    let expect = "drover_http_requests_total{status=\"2xx\"} 2\ndrover_http_requests_total{status=\"3xx\"} 0\n\
                  drover_http_requests_total{status=\"4xx\"} 1\n";
    check(address, "GET /metrics HTTP/1.1", "", 200, expect).await;
}

#[tokio::test]
async fn requests_are_bounded_in_number_and_time() {
    let backend = Arc::new(Fake::default());
    let limits = HttpLimits {
        requests: 1,
        ..HttpLimits::default()
    };
    let address = start(LOOPBACK, Arc::clone(&backend), &HttpConfig { limits, ..config() }).await;
    let first = tokio::spawn(async move { ask(address, "GET /api/v1/users/wait HTTP/1.1", "").await });
    backend.waiting.notified().await;
    check(
        address,
        "GET /api/v1/users/1 HTTP/1.1",
        "",
        429,
        "too_many_requests",
    )
    .await;
    check(address, "GET /health HTTP/1.1", "", 200, "ok").await;
    backend.release.notify_one();
    assert!(first.await.expect("a request").0.starts_with("http/1.1 200 "));
    check(address, "GET /api/v1/users/1 HTTP/1.1", "", 200, "").await;
    check(
        address,
        "GET /metrics HTTP/1.1",
        "",
        200,
        "drover_http_requests_over_limit_total 1\n",
    )
    .await;

    let limits = HttpLimits {
        request_timeout: Duration::from_millis(20),
        ..HttpLimits::default()
    };
    let address = start(LOOPBACK, backend, &HttpConfig { limits, ..config() }).await;
    check(address, "GET /api/v1/users/never HTTP/1.1", "", 503, "too long").await;
}

#[tokio::test]
async fn serving_ends_when_told_and_closes_what_is_idle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let limits = HttpLimits {
        connections: 1,
        idle_timeout: Duration::from_millis(50),
        shutdown_timeout: Duration::from_millis(50),
        ..HttpLimits::default()
    };
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let backend = Arc::new(Fake::default());
    let config = HttpConfig { limits, ..config() };
    let api: Arc<dyn Backend> = Arc::<Fake>::clone(&backend);
    let server = tokio::spawn(crate::serve(listener, api, config, async move {
        stopped.notified().await
    }));

    // The only place is taken by a client that says nothing; the next one is served once that one is thrown out.
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    check(
        address,
        "GET /api/v1/users/1 HTTP/1.1",
        "",
        200,
        "drover|-|users|1",
    )
    .await;
    assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);

    // A request that never ends does not keep the server.
    let endless = tokio::spawn(async move { TcpStream::connect(address).await });
    let mut endless = endless.await.expect("a task").expect("a connection");
    endless
        .write_all(b"GET /api/v1/users/wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("a request");
    backend.waiting.notified().await;
    stop.notify_one();
    let result = tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .expect("an end in time");
    result.expect("no panic").expect("no error");
}

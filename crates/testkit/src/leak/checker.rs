//! Clients that must never see anything but their own.

use super::{Hunt, ROWS, row_tag};
use crate::client::{Answer, Client, ClientError, Extended, Format, Parameter, Pipeline};
use crate::random::Random;

/// What a session of one's own looks like. A setting with a dotted name that was made and undone on a server reads as
/// the empty text there for the rest of the server's life, on plain PostgreSQL too: no leak.
pub(super) const STATE: &str = "SELECT current_setting('search_path'), current_setting('TimeZone'), current_setting('DateStyle'),
  current_setting('work_mem'), nullif(current_setting('drovertest.secret', true), ''), to_regclass('pg_temp.leak_temp')::text,
  (SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'leak%')::text,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())::text,
  (SELECT count(*) FROM pg_listening_channels())::text";
/// Lives of a checker before it connects anew, so that both fresh and long sessions are looked at.
const EXCHANGES_PER_SESSION: u64 = 40;

pub(super) fn run(hunt: &Hunt, number: u64) {
    let mut random = Random::new(hunt.options.seed.wrapping_mul(7_919).wrapping_add(number));
    let tag = format!("checker-{number}");
    while hunt.running() {
        match session(hunt, &tag, &mut random) {
            Ok(()) => {}
            Err(ClientError::Refused(_)) => {
                hunt.count(&hunt.turned_down);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(error) => hunt.violation(format!("{tag}: {error}")),
        }
    }
}

fn session(hunt: &Hunt, tag: &str, random: &mut Random) -> Result<(), ClientError> {
    let target = hunt.options.target.clone().with_option("application_name", tag);
    let mut client = Client::open(&target)?;
    for _ in 0..EXCHANGES_PER_SESSION {
        if !hunt.running() {
            break;
        }
        if let Some(problem) = exchange(&mut client, tag, &hunt.untouched, random)? {
            hunt.violation(format!("{tag}: {problem}"));
        }
        hunt.count(&hunt.checks);
    }
    client.close();
    Ok(())
}

/// One exchange; what is wrong with it, if anything.
fn exchange(
    client: &mut Client,
    tag: &str,
    untouched: &[Option<String>],
    random: &mut Random,
) -> Result<Option<String>, ClientError> {
    let key = random.below(u64::from(ROWS)) as u32;
    let nonce = format!("{tag}-{}", random.next_u64());
    let (answer, wanted) = match random.below(7) {
        0 => (
            client.simple(&format!("SELECT '{nonce}'"))?,
            vec![vec![Some(nonce)]],
        ),
        1 => (
            client.simple(&format!("SELECT tag FROM leak_rows WHERE k = {key}"))?,
            vec![vec![Some(row_tag(key))]],
        ),
        2 => {
            let parameters = [Parameter::text(nonce.clone()), Parameter::text(key.to_string())];
            let sql = "SELECT $1::text, tag FROM leak_rows WHERE k = $2::int";
            let run = Extended {
                parameters: &parameters,
                ..Extended::new(sql)
            };
            (
                client.extended(&run)?,
                vec![vec![Some(nonce), Some(row_tag(key))]],
            )
        }
        3 => {
            let row = |text: String| vec![Some(text)];
            let answer = client.run(pipelined(&nonce))?;
            let all: Vec<_> = answer
                .results
                .iter()
                .flat_map(|result| result.rows.clone())
                .collect();
            let all: Vec<_> = all
                .into_iter()
                .flatten()
                .flatten()
                .map(|v| String::from_utf8_lossy(&v).into_owned())
                .collect();
            let wanted: Vec<String> = (0..3).map(|part| format!("{nonce}-{part}")).collect();
            if all != wanted {
                return Ok(Some(format!("pipeline answered {all:?} instead of {wanted:?}")));
            }
            (answer, vec![row(format!("{nonce}-0"))])
        }
        4 => (
            client.simple("SELECT count(*)::text FROM leak_rows")?,
            vec![vec![Some(ROWS.to_string())]],
        ),
        5 => (client.simple(STATE)?, vec![untouched.to_vec()]),
        _ => (
            client.simple("SHOW application_name")?,
            vec![vec![Some(tag.to_string())]],
        ),
    };
    Ok(judge(&answer, &wanted))
}

fn pipelined(nonce: &str) -> Pipeline {
    (0..3).fold(Pipeline::new(), |pipeline, part| {
        let value = [Parameter::text(format!("{nonce}-{part}"))];
        let sent = pipeline
            .parse("", "SELECT $1::text", &[25])
            .bind("", "", &value, Format::Text);
        sent.execute("", 0).sync()
    })
}

fn judge(answer: &Answer, wanted: &[Vec<Option<String>>]) -> Option<String> {
    if let Some(error) = answer.error() {
        return Some(format!("error {error}"));
    }
    if answer.status() != b'I' {
        return Some("left inside a transaction it never began".to_string());
    }
    if !answer.notifications.is_empty() {
        return Some(format!("got notifications {:?}", answer.notifications));
    }
    let seen = answer.text_rows();
    (seen != wanted).then(|| format!("saw {seen:?} instead of {wanted:?}"))
}

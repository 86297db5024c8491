//! Clients that are cut off in the middle of what they send.

use super::{Hunt, ROWS};
use crate::client::{Answer, Client, ClientError, Format, Parameter, Pipeline, Target, startup_packet};
use crate::random::Random;
use std::time::Duration;

/// A victim that reads answers does so no longer than this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Exchanges in one stream.
const STEPS_MAX: u64 = 6;

pub(super) fn run(hunt: &Hunt, number: u64) {
    let mut random = Random::new(hunt.options.seed.wrapping_mul(1_000_003).wrapping_add(number));
    let mut life = 0u64;
    while hunt.running() {
        life += 1;
        let tag = format!("victim-{number}-{life}");
        match live(hunt, &tag, number * 1_000_000_000 + life, &mut random) {
            Ok(true) => hunt.count(&hunt.survived),
            Ok(false) => hunt.count(&hunt.killed),
            Err(ClientError::Refused(_)) => {
                hunt.count(&hunt.turned_down);
                std::thread::sleep(Duration::from_millis(20));
            }
            // A server may close on a client that stops in the middle; that is the end of this life, too.
            Err(ClientError::Closed(_) | ClientError::Io(_)) => hunt.count(&hunt.killed),
            Err(error) => hunt.violation(format!("{tag}: {error}")),
        }
    }
}

/// One life; true if the victim was let live.
fn live(hunt: &Hunt, tag: &str, id: u64, random: &mut Random) -> Result<bool, ClientError> {
    let target = hunt.options.target.clone().with_option("application_name", tag);
    if random.below(12) == 0 {
        return cut_during_startup(&target, random).map(|()| false);
    }
    let mut client = Client::open(&target)?;
    client.set_timeout(PATIENCE);
    let stream = stream(tag, id, random);
    let len = stream.bytes().len() as u64;
    if random.below(4) == 0 {
        let readies = stream.readies();
        client.send(stream.bytes())?;
        let answer = client.collect(readies)?;
        check_own(hunt, tag, &answer);
        client.close();
        return Ok(true);
    }
    let cut = random.below(len + 1) as usize;
    let mut sent = 0;
    while sent < cut {
        // In pieces, so that the server sees the stream stop at many places.
        let piece = (1 + random.below(400) as usize).min(cut - sent);
        client.send(&stream.bytes()[sent..sent + piece])?;
        sent += piece;
        if random.below(6) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(2_000)));
        }
    }
    if random.below(3) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
    }
    client.kill();
    Ok(false)
}

fn cut_during_startup(target: &Target, random: &mut Random) -> Result<(), ClientError> {
    let mut client = Client::open_silent(target)?;
    let packet = startup_packet(target);
    let cut = random.below(packet.len() as u64 + 1) as usize;
    client.send(&packet[..cut])?;
    if random.below(2) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
    }
    client.kill();
    Ok(())
}

/// Everything a surviving victim reads is its own.
fn check_own(hunt: &Hunt, tag: &str, answer: &Answer) {
    let values = answer
        .results
        .iter()
        .flat_map(|result| result.rows.iter().flatten().flatten());
    for value in values {
        let text = String::from_utf8_lossy(value);
        let foreign =
            |word: &&str| *word != tag && (word.starts_with("victim-") || word.starts_with("checker-"));
        if let Some(word) = text.split_whitespace().find(foreign) {
            hunt.violation(format!("{tag} read {word}"));
        }
    }
}

/// A random stream of exchanges.
fn stream(tag: &str, id: u64, random: &mut Random) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for step in 0..1 + random.below(STEPS_MAX) {
        // Ids are unique, so that each transaction's two rows can be told from all others.
        pipeline = exchange(pipeline, tag, id * STEPS_MAX + step, random);
    }
    pipeline
}

fn exchange(pipeline: Pipeline, tag: &str, id: u64, random: &mut Random) -> Pipeline {
    let key = random.below(u64::from(ROWS)) as u32;
    match random.below(16) {
        0 => pipeline.query(&format!("SELECT '{tag}', current_setting('application_name')")),
        1 => pipeline.query(&format!(
            "SET application_name = '{tag}'; SET TimeZone = 'Asia/Tokyo'"
        )),
        2 => pipeline.query("SET search_path = pg_catalog; SET work_mem = '3MB'; SET DateStyle = 'German'"),
        3 => pipeline.query(&format!("SELECT set_config('drovertest.secret', '{tag}', false)")),
        4 => pipeline.query(&format!("SELECT tag FROM leak_rows WHERE k = {key}")),
        5 => pair(pipeline.query("BEGIN"), tag, id).query("COMMIT"),
        6 => pair(pipeline.query("BEGIN"), tag, id)
            .query("SELECT pg_sleep(0.002)")
            .query("ROLLBACK"),
        7 => copy(pipeline, tag, id),
        8 => pipeline
            .query("CREATE TEMP TABLE leak_temp (a int)")
            .query("SELECT count(*) FROM leak_temp"),
        9 => pipeline
            .query(&format!("PREPARE leak_prepared AS SELECT '{tag}'"))
            .query("EXECUTE leak_prepared"),
        10 => pipeline
            .query("SELECT pg_advisory_lock(4711 + pg_backend_pid())")
            .query("LISTEN leak_channel"),
        11 => pipeline
            .parse(
                "leak_statement",
                "SELECT $1::text, tag FROM leak_rows WHERE k = $2::int",
                &[],
            )
            .bind(
                "",
                "leak_statement",
                &[Parameter::text(tag), Parameter::text(key.to_string())],
                Format::Text,
            )
            .describe_portal("")
            .execute("", 0)
            .sync(),
        12 => pipeline
            .parse("", "SELECT k, tag FROM leak_rows ORDER BY k", &[])
            .bind("leak_portal", "", &[], Format::Binary)
            .execute("leak_portal", 5)
            .flush()
            .execute("leak_portal", 5)
            .sync(),
        13 => pipeline
            .parse("", "SELECT 1/0", &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0)
            .sync(),
        14 => {
            let one = |pipeline: Pipeline| {
                let value = [Parameter::text(tag)];
                pipeline
                    .parse("", "SELECT $1::text", &[25])
                    .bind("", "", &value, Format::Text)
                    .execute("", 0)
            };
            one(one(one(pipeline).sync()).flush()).sync()
        }
        _ => pipeline
            .query(&format!("SELECT repeat('{tag} ', 3000) || pg_sleep(0.001)::text"))
            .query("SELECT 1;;"),
    }
}

/// Two rows that belong together, on different shards where there are shards.
fn pair(pipeline: Pipeline, tag: &str, id: u64) -> Pipeline {
    let insert = |key: u64| format!("INSERT INTO leak_pairs VALUES ({key}, '{tag}-{id}')");
    pipeline.query(&insert(id * 2)).query(&insert(id * 2 + 1))
}

fn copy(pipeline: Pipeline, tag: &str, id: u64) -> Pipeline {
    let (one, two) = (id * 2, id * 2 + 1);
    let data = format!("{one}\t{tag}-copy-{id}\n{two}\t{tag}-copy-{id}\n");
    pipeline.query("COPY leak_pairs FROM STDIN").copy(data.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_make_equal_streams() {
        let bytes = |seed| stream("t", 1, &mut Random::new(seed)).bytes().to_vec();
        assert_eq!(bytes(5), bytes(5));
        assert_ne!(bytes(5), bytes(6));
    }
}

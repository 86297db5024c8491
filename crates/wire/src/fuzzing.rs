//! Bodies of the fuzz targets, kept here so that ordinary tests replay the corpora. Each takes any bytes and
//! panics only if a promise of this crate is broken.

use crate::backend::Backend;
use crate::copy::{CopyFormat, CopyOptions, FieldRules, Splitter, field};
use crate::frame::Frames;
use crate::frontend::{Frontend, SaslInitial, rename};
use crate::scram::{Challenge, Client, ClientProof, Keys, Login, Server, Verifier};
use crate::startup::{self, Startup};
use bytes::BytesMut;

const LIMIT: usize = 1 << 20;

/// A stream of client messages: decoded ones encode to the same bytes, renamed ones decode to the new name.
pub fn frontend(data: &[u8]) {
    let mut frames = Frames::new(data, LIMIT);
    let mut consumed = 0;
    while let Some(Ok(message)) = frames.next() {
        consumed += message.bytes.len();
        if message.tag == crate::frontend::tag::PASSWORD {
            let _ = SaslInitial::decode(message.body());
            let _ = crate::frontend::password(message.body());
        }
        let Ok(decoded) = Frontend::decode(message) else {
            continue;
        };
        let mut again = BytesMut::new();
        crate::frontend::encode::any(&mut again, &decoded).expect("decoded messages encode");
        assert_eq!(&again[..], message.bytes);
        read_frontend(&decoded);
        again.clear();
        let renamed = match decoded {
            Frontend::Parse(_) => rename::parse(&mut again, message, b"other"),
            Frontend::Bind(_) => rename::bind(&mut again, message, Some(b"other"), b"other"),
            Frontend::Describe { .. } => rename::describe(&mut again, message, b"other"),
            Frontend::Close { .. } => rename::close(&mut again, message, b"other"),
            Frontend::Execute { .. } => rename::execute(&mut again, message, b"other"),
            _ => continue,
        };
        renamed.expect("decoded messages can be renamed");
        let renamed = Frames::new(&again, LIMIT + 16)
            .next()
            .expect("one message")
            .expect("a good header");
        check_renamed(
            &decoded,
            &Frontend::decode(renamed).expect("renamed messages decode"),
        );
    }
    assert_eq!(frames.consumed(), consumed);
    let _ = frames.missing();
}

fn read_frontend(decoded: &Frontend<'_>) {
    if let Frontend::Bind(bind) = decoded {
        assert_eq!(bind.params.iter().count(), bind.params.len());
        assert_eq!(bind.param(bind.params.len()), None);
        if bind.formats_agree() {
            assert!((0..bind.params.len()).all(|at| bind.format(at).is_some()));
        }
    }
}

fn check_renamed(before: &Frontend<'_>, after: &Frontend<'_>) {
    let name: &[u8] = b"other";
    let expect = match *before {
        Frontend::Parse(parse) => Frontend::Parse(crate::frontend::Parse { name, ..parse }),
        Frontend::Bind(bind) => Frontend::Bind(crate::frontend::Bind {
            portal: name,
            statement: name,
            ..bind
        }),
        Frontend::Describe { target, .. } => Frontend::Describe { target, name },
        Frontend::Close { target, .. } => Frontend::Close { target, name },
        Frontend::Execute { max_rows, .. } => Frontend::Execute {
            portal: name,
            max_rows,
        },
        other => other,
    };
    assert_eq!(*after, expect);
}

/// A stream of server messages: decoded ones encode to messages that decode to the same.
pub fn backend(data: &[u8]) {
    for message in Frames::new(data, LIMIT).map_while(Result::ok) {
        let Ok(decoded) = Backend::decode(message) else {
            continue;
        };
        let mut again = BytesMut::new();
        crate::backend::encode::any(&mut again, &decoded).expect("decoded messages encode");
        let back = Frames::new(&again, 64 * LIMIT)
            .next()
            .expect("one message")
            .expect("a good header");
        let back = Backend::decode(back).expect("encoded messages decode");
        match (decoded, back) {
            // Owned fields are normalised: order, doubles, text that is not UTF-8.
            (Backend::Error(a), Backend::Error(b)) | (Backend::Notice(a), Backend::Notice(b)) => {
                assert_eq!(b.to_owned().message, a.to_owned().message);
            }
            // Empty names are not mechanisms; methods this crate does not speak lose their data.
            (Backend::Authentication(a), Backend::Authentication(b)) => {
                assert!(a.mechanisms().eq(b.mechanisms()));
            }
            (a, b) => assert_eq!(a, b),
        }
        read_backend(&decoded, message.body());
    }
}

fn read_backend(decoded: &Backend<'_>, body: &[u8]) {
    match decoded {
        Backend::DataRow(row) => {
            let ranges: Vec<_> = row.ranges().collect();
            assert_eq!(ranges.len(), row.len());
            for (range, value) in ranges.into_iter().zip(row.columns) {
                assert_eq!(range.map(|r| &body[r]), value);
            }
        }
        Backend::RowDescription(columns) => assert_eq!(columns.iter().count(), columns.len()),
        Backend::CommandComplete { tag } => {
            if let Some(parsed) = crate::CommandTag::parse(tag) {
                assert_eq!(parsed.to_string().as_bytes(), *tag);
            }
        }
        _ => {}
    }
}

/// A first packet.
pub fn startup(data: &[u8]) {
    let Ok(Some(len)) = startup::peek(data) else {
        return;
    };
    assert!((8..=startup::PACKET_MAX).contains(&len));
    let Some(Ok(decoded)) = data.get(..len).map(startup::decode) else {
        return;
    };
    let mut again = BytesMut::new();
    match decoded {
        Startup::SslRequest => startup::encode::ssl_request(&mut again),
        Startup::GssEncRequest => startup::encode::gssenc_request(&mut again),
        Startup::Cancel { pid, key } => {
            startup::encode::cancel(&mut again, pid, key).expect("decoded packets encode");
        }
        Startup::Session(session) => {
            startup::encode::session(&mut again, session.version, session.params).expect("as above");
        }
    }
    assert_eq!(&again[..], &data[..len]);
}

/// Messages of a SCRAM exchange, separated by newlines, to both sides.
pub fn scram(data: &[u8]) {
    let messages: Vec<&[u8]> = data.split(|b| *b == b'\n').take(3).collect();
    let part = |at: usize| messages.get(at).copied().unwrap_or_default();
    let keys = Keys {
        client_key: [1; 32],
        server_key: [2; 32],
    };
    let verifier = Verifier::from_keys(&keys, b"salt", 1);
    let server =
        Server::new(verifier, "server").and_then(|server| server.first(super::scram::MECHANISM, part(0)));
    if let Ok((challenge, _)) = server {
        check_proof(challenge, part(1));
    }
    let client =
        Client::start("client").and_then(|(client, _)| client.challenge(part(0), Login::Keys(&keys)));
    if let Ok((proof, _)) = client {
        check_signature(proof, part(1));
    }
    if let Ok(Ok(verifier)) = std::str::from_utf8(part(2)).map(str::parse::<Verifier>) {
        assert_eq!(verifier.to_string().parse(), Ok(verifier));
    }
    if let Ok(stored) = std::str::from_utf8(part(2)) {
        let _ = crate::md5::verify(stored, [1, 2, 3, 4], part(1));
    }
}

/// No input can guess a proof.
fn check_proof(challenge: Challenge, message: &[u8]) {
    assert!(challenge.proof(message).is_err(), "forged proof");
}

/// No input can guess a signature.
fn check_signature(proof: ClientProof, message: &[u8]) {
    assert!(proof.finish(message).is_err(), "forged signature");
}

/// A COPY stream: the first bytes choose the options and the size of chunks. Chunks do not matter.
pub fn copy(data: &[u8]) {
    let Some((&[kind, chunk], stream)) = data.split_first_chunk::<2>() else {
        return;
    };
    let major = if kind & 4 == 0 { 15 } else { 18 };
    let mut options = match kind & 3 {
        0 => CopyOptions::text(major),
        1 => CopyOptions::csv(major),
        2 => CopyOptions::binary(major),
        _ => {
            let format = CopyFormat::Csv {
                delimiter: b';',
                quote: b'\'',
                escape: b'\\',
            };
            CopyOptions {
                format,
                ..CopyOptions::csv(major)
            }
        }
    };
    options.header = kind & 8 != 0;
    options.row_max = 1 << 12;
    let whole = copy_rows(&options, stream, usize::MAX);
    assert_eq!(whole, copy_rows(&options, stream, usize::from(chunk).max(1)));
}

fn copy_rows(
    options: &CopyOptions,
    stream: &[u8],
    chunk: usize,
) -> (Vec<Vec<u8>>, Option<crate::copy::CopyError>) {
    let mut splitter = Splitter::new(options);
    let mut rows = Vec::new();
    let mut chunks = stream.chunks(chunk);
    let mut finished = false;
    loop {
        match splitter.next_row() {
            Ok(Some(row)) => {
                for index in [0, 2] {
                    let _ = field(options, FieldRules::default(), row.bytes, index);
                }
                rows.push(row.bytes.to_vec());
            }
            Ok(None) => match chunks.next() {
                Some(part) => splitter.feed(part),
                None if finished => return (rows, None),
                None => {
                    splitter.finish();
                    finished = true;
                }
            },
            Err(error) => return (rows, Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replay(target: &str, run: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let mut files = 0;
        for entry in std::fs::read_dir(&folder).expect("the corpus is in the repository") {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            run(&data);
            files += 1;
        }
        assert!(files > 0, "no corpus for {target}");
    }

    #[test]
    fn corpora_replay() {
        replay("frontend", frontend);
        replay("backend", backend);
        replay("startup", startup);
        replay("scram", scram);
        replay("copy", copy);
    }

    proptest! {
        /// A little fuzzing in every test run.
        #[test]
        fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..200), tag in any::<u8>()) {
            scram(&data);
            copy(&data);
            let framed = |header: &[u8]| {
                let mut packet = header.to_vec();
                packet.extend_from_slice(&(data.len() as u32 + 4).to_be_bytes());
                packet.extend_from_slice(&data);
                packet
            };
            startup(&framed(&[]));
            frontend(&framed(&[tag]));
            backend(&framed(&[tag]));
        }
    }
}

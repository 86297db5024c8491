use super::*;

/// RFC 7677, section 3.
const RFC_CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const RFC_SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const RFC_SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn rfc_verifier() -> Verifier {
    Verifier::from_password(b"pencil", &STANDARD.decode(RFC_SALT).unwrap(), 4096).unwrap()
}

#[test]
fn server_accepts_the_example_of_the_rfc() {
    let server = Server::new(rfc_verifier(), RFC_SERVER_NONCE).unwrap();
    let (challenge, first) = server
        .first(MECHANISM, format!("n,,n=user,r={RFC_CLIENT_NONCE}").as_bytes())
        .unwrap();
    let expect = format!("r={RFC_CLIENT_NONCE}{RFC_SERVER_NONCE},s={RFC_SALT},i=4096");
    assert_eq!(String::from_utf8(first).unwrap(), expect);
    let accepted = challenge.proof(RFC_FINAL.as_bytes()).unwrap();
    assert_eq!(
        accepted.message,
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    let keys = Keys::derive(b"pencil", &STANDARD.decode(RFC_SALT).unwrap(), 4096).unwrap();
    assert_eq!(accepted.keys, keys);
}

fn exchange(verifier: Verifier, login: Login<'_>) -> Result<(Keys, Keys), ScramError> {
    let (client, first) = Client::start("cccc")?;
    let (challenge, first) = Server::new(verifier, "ssss")?.first(MECHANISM, &first)?;
    let (client, proof) = client.challenge(&first, login)?;
    let accepted = challenge.proof(&proof)?;
    Ok((client.finish(&accepted.message)?, accepted.keys))
}

#[test]
fn client_and_server_agree_and_learn_the_same_keys() {
    let verifier: Verifier = rfc_verifier().to_string().parse().unwrap();
    assert_eq!(verifier, rfc_verifier());
    let (client, server) = exchange(verifier.clone(), Login::Password(b"pencil")).unwrap();
    assert_eq!(client, server);
    exchange(verifier.clone(), Login::Keys(&server)).unwrap();
    assert_eq!(Verifier::from_keys(&server, verifier.salt(), 4096), verifier);
    assert_eq!(
        exchange(verifier, Login::Password(b"pencils")),
        Err(ScramError::WrongProof)
    );
}

#[test]
fn a_mock_looks_real_and_accepts_nothing() {
    let mock = Verifier::mock(b"cluster secret", "nobody", 4096);
    assert_eq!(mock, Verifier::mock(b"cluster secret", "nobody", 4096));
    assert_ne!(
        mock.salt(),
        Verifier::mock(b"cluster secret", "somebody", 4096).salt()
    );
    assert_eq!(mock.salt().len(), 16);
    assert_eq!(exchange(mock, Login::Password(b"")), Err(ScramError::WrongProof));
}

#[test]
fn client_refuses_a_server_without_the_verifier() {
    let run = |last: &[u8]| {
        let (client, first) = Client::start("cccc").unwrap();
        let (_, first) = Server::new(rfc_verifier(), "ssss")
            .unwrap()
            .first(MECHANISM, &first)
            .unwrap();
        let (client, _) = client.challenge(&first, Login::Password(b"pencil")).unwrap();
        client.finish(last).unwrap_err()
    };
    let forged = format!("v={}", STANDARD.encode([0; 32]));
    assert_eq!(run(forged.as_bytes()), ScramError::WrongSignature);
    assert_eq!(
        run(b"e=invalid-proof"),
        ScramError::Refused("invalid-proof".into())
    );
    assert_eq!(run(b"v=AAAA"), ScramError::Malformed("key length"));
    assert_eq!(run(b""), ScramError::Malformed("attribute expected"));
}

#[test]
fn client_bounds_the_challenge() {
    let run = |message: &str| {
        let (client, _) = Client::start("cccc").unwrap();
        client
            .challenge(message.as_bytes(), Login::Password(b"x"))
            .unwrap_err()
    };
    assert_eq!(run("r=cccc,s=AAAA,i=1"), ScramError::Nonce);
    assert_eq!(run("r=dccc1,s=AAAA,i=1"), ScramError::Nonce);
    assert_eq!(run("r=cccc1,s=AAAA,i=0"), ScramError::Iterations(0));
    assert_eq!(run("r=cccc1,s=AAAA,i=1000001"), ScramError::Iterations(1_000_001));
    assert_eq!(
        run("r=cccc1,s=AAAA,i=+1"),
        ScramError::Malformed("iteration count")
    );
    assert_eq!(
        run("r=cccc1,s=AAAA,i=99999999999999999999"),
        ScramError::Malformed("iteration count")
    );
    assert_eq!(run("r=cccc1,s=,i=1"), ScramError::Malformed("salt length"));
    assert_eq!(
        run("m=x,r=cccc1,s=AAAA,i=1"),
        ScramError::Unsupported("mandatory extension")
    );
    assert_eq!(run(&"r".repeat(MESSAGE_MAX + 1)), ScramError::TooLong);
    assert!(Client::start("a,b").is_err());
}

#[test]
fn server_refuses_what_it_does_not_do() {
    let run = |message: &str| {
        Server::new(rfc_verifier(), "ssss")
            .unwrap()
            .first(MECHANISM, message.as_bytes())
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(
        run("p=tls-server-end-point,,n=,r=cccc"),
        ScramError::Unsupported("channel binding")
    );
    assert_eq!(
        run("n,a=admin,n=,r=cccc"),
        ScramError::Unsupported("authorization identity")
    );
    assert_eq!(
        run("n,,m=x,n=,r=cccc"),
        ScramError::Unsupported("mandatory extension")
    );
    assert_eq!(run("n,,n=,r="), ScramError::Malformed("nonce"));
    assert_eq!(run("n,,n="), ScramError::Malformed("another attribute expected"));
    assert_eq!(run("x,,n=,r=cccc"), ScramError::Malformed("channel binding flag"));
    assert_eq!(run(""), ScramError::Malformed("no GS2 header"));

    let finish = |message: &str| {
        let server = Server::new(rfc_verifier(), "ssss").unwrap();
        let (challenge, _) = server.first(MECHANISM, b"y,,n=,r=cccc").unwrap();
        challenge.proof(message.as_bytes()).map(|_| ()).unwrap_err()
    };
    let proof = STANDARD.encode([0; 32]);
    assert_eq!(
        finish(&format!("c=eSws,r=ccccssss,p={proof}")),
        ScramError::WrongProof
    );
    assert_eq!(
        finish(&format!("c=eSws,r=ccccssss,x=1,p={proof}")),
        ScramError::WrongProof
    );
    assert_eq!(finish(&format!("c=eSws,r=ccccsss,p={proof}")), ScramError::Nonce);
    let changed = ScramError::Malformed("channel binding changed");
    assert_eq!(finish(&format!("c=biws,r=ccccssss,p={proof}")), changed);
    assert_eq!(finish("c=eSws,r=ccccssss"), ScramError::Malformed("no proof"));
    let after = ScramError::Malformed("attribute after the proof");
    assert_eq!(finish(&format!("c=eSws,r=ccccssss,p={proof},x=1")), after);
}

#[test]
fn a_login_is_bound_to_the_certificate_both_sides_see() {
    // What the client says, over a connection whose certificate has this hash at either end, with this mechanism.
    let run = |binding: ClientBinding<'_>, mechanism: &[u8], offered: Option<&[u8]>| {
        let (client, first) = Client::start_bound("cccc", binding)?;
        let server = Server::new(rfc_verifier(), "ssss")?.with_channel_binding(offered);
        let (challenge, first) = server.first(mechanism, &first)?;
        let (client, proof) = client.challenge(&first, Login::Password(b"pencil"))?;
        client.finish(&challenge.proof(&proof)?.message).map(|_| ())
    };
    use ClientBinding::{EndPoint, No, NotOffered};
    let (ours, theirs) = (&[1; 32][..], &[2; 32][..]);
    let cases = [
        (EndPoint(ours), MECHANISM_PLUS, Some(ours), Ok(())),
        (
            EndPoint(theirs),
            MECHANISM_PLUS,
            Some(ours),
            Err(ScramError::Binding),
        ),
        (
            EndPoint(&ours[1..]),
            MECHANISM_PLUS,
            Some(ours),
            Err(ScramError::Binding),
        ),
        (No, MECHANISM, Some(ours), Ok(())),
        (No, MECHANISM, None, Ok(())),
        (NotOffered, MECHANISM, None, Ok(())),
        (NotOffered, MECHANISM, Some(ours), Err(ScramError::Downgrade)),
        (
            No,
            MECHANISM_PLUS,
            Some(ours),
            Err(ScramError::Malformed("no channel binding data")),
        ),
        (
            NotOffered,
            MECHANISM_PLUS,
            Some(ours),
            Err(ScramError::Malformed("no channel binding data")),
        ),
        (
            EndPoint(ours),
            MECHANISM,
            Some(ours),
            Err(ScramError::Unsupported("channel binding")),
        ),
        (
            EndPoint(ours),
            MECHANISM_PLUS,
            None,
            Err(ScramError::Unsupported("mechanism")),
        ),
    ];
    for (binding, mechanism, offered, expected) in cases {
        let mechanism_name = String::from_utf8_lossy(mechanism);
        assert_eq!(
            run(binding, mechanism, offered),
            expected,
            "{binding:?} {mechanism_name} {offered:?}"
        );
    }
    let other_kind = Server::new(rfc_verifier(), "ssss")
        .unwrap()
        .with_channel_binding(Some(ours));
    assert_eq!(
        other_kind
            .first(MECHANISM_PLUS, b"p=tls-unique,,n=,r=cccc")
            .unwrap_err(),
        ScramError::Unsupported("channel binding type")
    );
}

#[test]
fn passwords_are_prepared_like_postgresql_does() {
    let check = |password: &str, expect: &[u8]| {
        assert_eq!(&*password::prepare(password.as_bytes()), expect, "{password}");
    };
    check("pencil", b"pencil");
    check("a\u{a0}b", b"a b"); // a non-ASCII space
    check("I\u{ad}X", b"IX"); // mapped to nothing
    check("\u{2168}", b"IX"); // compatibility form
    check("tab\tinside", b"tab\tinside"); // prohibited: taken as it is
    check("\u{ad}", "\u{ad}".as_bytes()); // nothing left: taken as it is
    assert_eq!(&*password::prepare(b"\xff\xfe"), b"\xff\xfe");
}

#[test]
fn verifiers_from_outside_are_bounded() {
    let good = rfc_verifier().to_string();
    let check = |text: &str| assert_eq!(text.parse::<Verifier>(), Err(VerifierError), "{text}");
    check("");
    check("md5c6c9d33de4f3e8bd7d1dcd76d7d9ad3f");
    check(&good.replace("4096", "0"));
    check(&good.replace("4096", "1000001"));
    check(&good.replace(RFC_SALT, ""));
    check(&good.replace(RFC_SALT, &STANDARD.encode([0; SALT_MAX + 1])));
    check(&good[..good.len() - 1]);
    let text = format!(
        "{:?} {:?}",
        rfc_verifier(),
        Keys {
            client_key: [7; 32],
            server_key: [7; 32]
        }
    );
    assert_eq!(
        text, "Verifier { iterations: 4096, .. } Keys(..)",
        "secrets stay out of logs"
    );
}

#[test]
fn verifiers_are_those_postgresql_stores() {
    let recording = include_str!("tests/postgresql15.txt");
    for line in recording.lines().filter(|line| !line.starts_with('#')) {
        let (hex, stored) = line.split_once(' ').unwrap();
        let digits = hex.strip_prefix('x').unwrap();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let password: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        let stored: Verifier = stored.parse().unwrap();
        let made = Verifier::from_password(&password, stored.salt(), stored.iterations()).unwrap();
        assert_eq!(made, stored, "{:?}", String::from_utf8_lossy(&password));
    }
}

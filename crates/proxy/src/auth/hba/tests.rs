use super::*;

fn networks() -> Networks {
    let interface = |address: &str, mask: &str| Interface {
        address: address.parse().expect("an address"),
        mask: mask.parse().expect("a mask"),
    };
    Networks(vec![
        interface("127.0.0.1", "255.0.0.0"),
        interface("10.1.2.3", "255.255.0.0"),
        interface("fe80::1", "ffff:ffff::"),
    ])
}

fn hba(text: &str) -> Hba {
    Hba::parse(text, networks()).expect("a good file")
}

/// `client`: `database user address`, the address `local`, or an IP address with `+tls`.
fn line_for(hba: &Hba, client: &str) -> Option<usize> {
    let words: Vec<&str> = client.split(' ').collect();
    let (ip, tls) = match words[2].strip_suffix("+tls") {
        Some(ip) => (ip, true),
        None => (words[2], false),
    };
    let request = Request {
        database: words[0],
        user: words[1],
        ip: (ip != "local").then(|| ip.parse().expect("an address")),
        tls,
    };
    hba.find(&request).map(|rule| rule.line)
}

fn check(text: &str, clients: &[(&str, Option<usize>)]) {
    let hba = hba(text);
    for (client, line) in clients {
        assert_eq!(line_for(&hba, client), *line, "{client}");
    }
}

#[test]
fn the_first_match_decides() {
    check(
        "# TYPE DATABASE USER ADDRESS METHOD\n\
         local all all trust\n\
         host app alice 10.0.0.0/8 reject\n\
         \n\
         host app,\"my db\" alice,bob 10.0.0.0/8 scram-sha-256 # comment\n\
         hostssl all all 0.0.0.0/0 md5\n\
         hostnossl all carol 192.168.1.0 255.255.255.0 password\n\
         host sameuser all ::/0 scram-sha-256\n",
        &[
            ("x y local", Some(2)),
            ("app alice 10.9.9.9", Some(3)),
            ("app bob 10.9.9.9", Some(5)),
            ("app bob 11.9.9.9", None),
            ("app bob 11.9.9.9+tls", Some(6)),
            ("x carol 192.168.1.77", Some(7)),
            ("x carol 192.168.2.77", None),
            ("x carol 192.168.1.77+tls", Some(6)),
            ("dave dave ::1", Some(8)),
            ("app dave ::1", None),
        ],
    );
}

#[test]
fn quotes_take_away_special_meaning() {
    check(
        "host \"all\" alice all trust\nhost all \"all\" all trust\nhost \"replication\" \"+x\" all trust\n\
         host \"a\"\"b\" \"x y\",z all trust\nhost replication bob all trust\n",
        &[
            ("all alice 1.2.3.4", Some(1)),
            ("x alice 1.2.3.4", None),
            ("x all 1.2.3.4", Some(2)),
            ("replication +x 1.2.3.4", Some(3)),
            ("a\"b z 1.2.3.4", Some(4)),
            ("replication bob 1.2.3.4", None),
        ],
    );
}

#[test]
fn patterns_are_found_anywhere_unless_anchored() {
    check(
        "host /^db\\d+$ all all trust\nhost all \"/^[a,b] c$|tail$\" all trust\n",
        &[
            ("db12 x 1.1.1.1", Some(1)),
            ("db12x x 1.1.1.1", None),
            ("x longtail 1.1.1.1", Some(2)),
        ],
    );
}

#[test]
fn own_addresses_and_networks() {
    check(
        "host h all samehost trust\nhost n all samenet trust\nhost z all 0.0.0.0/0 trust\nhost z all ::/0 trust\n\
         host one all 1.2.3.4/32 trust\nhost six all 2001:db8::/32 trust\nhost bits all 10.1.2.3/8 trust\n",
        &[
            ("h x 10.1.2.3", Some(1)),
            ("h x 10.1.2.4", None),
            ("n x 10.1.200.4", Some(2)),
            ("n x 10.2.0.1", None),
            ("n x fe80:0:9::1", Some(2)),
            ("z x 255.255.255.255", Some(3)),
            ("z x ::", Some(4)),
            ("one x 1.2.3.4", Some(5)),
            ("one x 1.2.3.5", None),
            ("six x 2001:db8:1::1", Some(6)),
            ("six x 2001:db9::1", None),
            ("bits x 10.200.0.1", Some(7)),
            ("six x local", None),
        ],
    );
}

#[test]
fn lines_continue_and_lists_may_have_blanks_after_commas() {
    check(
        "host app, other \\\n  alice,bob \\\nall trust\nhost x x all trust\r\n",
        &[
            ("other bob 1.1.1.1", Some(1)),
            ("app alice 1.1.1.1", Some(1)),
            ("x x 1.1.1.1", Some(4)),
        ],
    );
}

#[test]
fn options() {
    let hba = hba("hostssl all all all cert map=m clientname=DN\n\
                   hostssl all all all scram-sha-256 clientcert=verify-ca\n\
                   hostssl all all all md5 clientcert=verify-full map=n\nlocal all all peer map=\"o p\"\n");
    let found: Vec<_> = hba
        .rules()
        .iter()
        .map(|rule| {
            (
                rule.method,
                rule.map.as_deref(),
                rule.client_cert,
                rule.client_name,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                Method::Cert,
                Some("m"),
                ClientCert::ForUser,
                ClientName::DistinguishedName
            ),
            (Method::Scram, None, ClientCert::Verified, ClientName::CommonName),
            (
                Method::Md5,
                Some("n"),
                ClientCert::ForUser,
                ClientName::CommonName
            ),
            (
                Method::Peer,
                Some("o p"),
                ClientCert::None,
                ClientName::CommonName
            ),
        ]
    );
}

#[test]
fn every_problem_is_named_with_its_line() {
    let cases = [
        ("hots all all all trust", "invalid connection type \"hots\""),
        ("host", "end-of-line before database specification"),
        ("host all", "end-of-line before role specification"),
        ("host all all", "end-of-line before IP address specification"),
        ("host all all 1.2.3.4", "end-of-line before netmask specification"),
        ("host all all 1.2.3.4 trust", "invalid IP mask \"trust\""),
        ("host all all 1.2.3.4 ffff::", "IP address and mask do not match"),
        (
            "host all all 1.2.3.4/33 trust",
            "invalid CIDR mask in address \"1.2.3.4/33\"",
        ),
        (
            "host all all ::/+1 trust",
            "invalid CIDR mask in address \"::/+1\"",
        ),
        ("host all all all", "end-of-line before authentication method"),
        (
            "host all all all ldap",
            "authentication method \"ldap\" is not supported",
        ),
        ("host all all all tust", "invalid authentication method \"tust\""),
        (
            "host all all all peer",
            "peer authentication is only supported on local sockets",
        ),
        (
            "host all all all cert",
            "cert authentication is only supported on hostssl connections",
        ),
        (
            "host all +g all trust",
            "\"+g\": membership in roles is not looked up; name the users, or quote it if it is a name",
        ),
        (
            "host samerole all all trust",
            "`samerole` is not supported: membership in roles is not looked up",
        ),
        (
            "host @f all all trust",
            "\"@f\": lists in files are not supported; write the names here",
        ),
        (
            "host all sameuser all trust",
            "`sameuser` is not a user; quote it if it is a name",
        ),
        (
            "host all all db.example.com trust",
            "\"db.example.com\" is not an IP address; host names are not supported",
        ),
        ("host /( all all trust", "invalid regular expression \"(\""),
        ("host \"all all all trust", "a quote is not closed"),
        (
            "host all all all trust x",
            "authentication option not in name=value format: x",
        ),
        (
            "host all all all trust x=1",
            "unrecognized authentication option name: \"x\"",
        ),
        (
            "host all all all md5 clientcert=verify-ca",
            "clientcert can only be configured for \"hostssl\" rows",
        ),
        (
            "hostssl all all all cert clientcert=verify-ca",
            "clientcert only accepts \"verify-full\" when using \"cert\" authentication",
        ),
        (
            "hostssl all all all md5 clientcert=1",
            "invalid value for clientcert: \"1\"",
        ),
        (
            "host all all all md5 map=x",
            "authentication option \"map\" is only valid for authentication methods peer and cert",
        ),
        (
            "include other.conf",
            "`include` is not supported: put the rules into this file",
        ),
        (
            "host,local all all all trust",
            "multiple values specified for connection type",
        ),
    ];
    let text: Vec<&str> = cases.iter().map(|(line, _)| *line).collect();
    let problems = Hba::parse(&text.join("\n"), Networks::default()).expect_err("all are wrong");
    for (at, ((line, message), problem)) in cases.iter().zip(&problems).enumerate() {
        assert_eq!(
            (problem.line, problem.message.as_str()),
            (at + 1, *message),
            "{line}"
        );
    }
    assert_eq!(problems.len(), cases.len());
}

#[test]
fn size_is_bounded() {
    let many = "host a b all trust\n".repeat(RULES_MAX + 1);
    assert!(Hba::parse(&many, Networks::default()).is_err());
    let long = "#".repeat(FILE_BYTES_MAX + 1);
    assert!(Hba::parse(&long, Networks::default()).is_err());
    // A pattern that would take much memory is refused, not built.
    assert!(Hba::parse("host /(a{1000}){1000} b all trust", Networks::default()).is_err());
}

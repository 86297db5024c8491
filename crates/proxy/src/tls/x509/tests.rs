use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::{BindingHash, Certificate, end_point};

fn made(change: impl FnOnce(&mut CertificateParams), key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.self_signed(key).expect("signed").der().to_vec()
}

#[test]
fn names_are_written_as_openssl_writes_them() {
    let key = KeyPair::generate().expect("a key");
    let der = made(
        |params| {
            params.distinguished_name.push(DnType::CountryName, "DE");
            params
                .distinguished_name
                .push(DnType::OrganizationName, "Acme, \"Inc\" ");
            params.distinguished_name.push(DnType::CommonName, "#bob");
        },
        &key,
    );
    let certificate = Certificate::parse(&der).expect("a certificate");
    assert_eq!(certificate.common_name(), Some("#bob"));
    assert_eq!(
        certificate.distinguished_name(),
        "CN=\\#bob,O=Acme\\, \\\"Inc\\\"\\ ,C=DE"
    );
    assert!(!certificate.has_alternative_names);
    assert!(certificate.not_before < certificate.not_after);
    let named = made(
        |params| params.subject_alt_names = vec![rcgen::SanType::DnsName("a".try_into().expect("a name"))],
        &key,
    );
    let named = Certificate::parse(&named).expect("a certificate");
    assert!(named.has_alternative_names && named.common_name().is_none());
}

#[test]
fn a_name_with_a_zero_byte_is_none() {
    let key = KeyPair::generate().expect("a key");
    let der = made(
        |params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "admin\0.example")
        },
        &key,
    );
    assert_eq!(
        Certificate::parse(&der).expect("a certificate").common_name(),
        None
    );
}

#[test]
fn the_signature_says_what_to_bind_to() {
    for (algorithm, hash) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Some(BindingHash::Sha256)),
        (&PKCS_ECDSA_P384_SHA384, Some(BindingHash::Sha384)),
        (&PKCS_ED25519, None),
    ] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let der = made(|_| {}, &key);
        assert_eq!(
            Certificate::parse(&der).expect("a certificate").binding_hash,
            hash
        );
        assert_eq!(end_point(&der).is_some(), hash.is_some());
    }
}

#[test]
fn times_are_read_in_both_forms() {
    let key = KeyPair::generate().expect("a key");
    let der = made(
        |params| {
            params.not_before = rcgen::date_time_ymd(2000, 2, 29);
            params.not_after = rcgen::date_time_ymd(2050, 3, 1);
        },
        &key,
    );
    let certificate = Certificate::parse(&der).expect("a certificate");
    assert_eq!(
        (certificate.not_before, certificate.not_after),
        (951_782_400, 2_529_705_600)
    );
}

#[test]
fn what_is_cut_is_no_certificate() {
    let key = KeyPair::generate().expect("a key");
    let der = made(
        |params| params.distinguished_name.push(DnType::CommonName, "x"),
        &key,
    );
    for length in 0..der.len() {
        // Nothing panics, whatever is missing; the outer length makes every prefix invalid.
        assert_eq!(Certificate::parse(&der[..length]), None);
    }
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0xff;
        let _ = Certificate::parse(&changed);
    }
}

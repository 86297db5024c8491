//! Section `[users]`, `auth_type` and the `auth_file`.

use super::ini::{Entry, Ini, pairs, userlist};
use super::options::{Fate, USER_OPTIONS};
use super::{Out, apply, text, translated};
use drover::config::has_option;

/// Writes `[[users]]` and `[auth]`.
pub(super) fn translate(ini: &Ini, open: &mut dyn FnMut(&str) -> Result<String, String>, out: &mut Out) {
    auth_type(ini, out);
    let mut users = listed(ini, open, out);
    auth_query(ini, &users, out);
    for entry in ini.section("users") {
        let Some(options) = pairs(&entry.value) else {
            out.lost(entry, "this list of options cannot be read");
            continue;
        };
        let Some((_, written)) = users.iter_mut().find(|(name, _)| *name == entry.key) else {
            out.lost(
                entry,
                "the user is not in the auth_file, so it gets no entry of its own",
            );
            continue;
        };
        for (key, value) in options {
            let part = Entry {
                key: format!("{}: {key}", entry.key),
                value,
                ..entry.clone()
            };
            match USER_OPTIONS.iter().find(|(known, _)| *known == key) {
                Some((_, Fate::Becomes(section, key, how))) => {
                    match translated(section, key, *how, &part.value) {
                        Ok(Some(value)) => written.push(((*key).to_owned(), value)),
                        Ok(None) => {}
                        Err(why) => out.lost(&part, &why),
                    }
                }
                Some((_, fate)) => apply(fate, &part, out),
                None => out.lost(&part, "PgBouncer 1.25 has no such option of a user"),
            }
        }
    }
    if users.is_empty() && ini.option("auth_user").is_none() {
        let note = "no user with a password is known: fill in [[users]]";
        out.lost.push(note.to_owned());
        users.push((
            "CHANGE_ME".to_owned(),
            vec![("password".to_owned(), text(super::FILL_IN))],
        ));
    }
    for (name, mut options) in users {
        options.insert(0, ("name".to_owned(), text(&name)));
        out.repeated.push(("users", options));
    }
}

type User = (String, Vec<(String, String)>);

/// The users of the auth_file that can log in here.
fn listed(ini: &Ini, open: &mut dyn FnMut(&str) -> Result<String, String>, out: &mut Out) -> Vec<User> {
    let Some(entry) = ini.option("auth_file").filter(|entry| !entry.value.is_empty()) else {
        return Vec::new();
    };
    let content = match open(&entry.value) {
        Ok(content) => content,
        Err(error) => {
            out.lost(entry, &format!("{}: {error}", entry.value));
            return Vec::new();
        }
    };
    let (listed, bad) = userlist(&content);
    for line in bad {
        out.lost(
            entry,
            &format!("{}:{line}: this line cannot be read", entry.value),
        );
    }
    let mut users: Vec<User> = Vec::new();
    for (name, secret) in listed {
        if users.iter().any(|(known, _)| *known == name) {
            out.lost(entry, &format!("user `{name}` is there twice; the first counts"));
        } else if is_md5(&secret) && !has_option("auth", "method") {
            out.lost(
                entry,
                &format!("user `{name}` has an md5 secret: give it a SCRAM verifier or the password"),
            );
        } else if secret.is_empty() {
            out.lost(entry, &format!("user `{name}` has no password"));
        } else {
            users.push((name, vec![("password".to_owned(), text(&secret))]));
        }
    }
    users
}

fn is_md5(secret: &str) -> bool {
    secret.len() == 35 && secret.starts_with("md5")
}

fn auth_type(ini: &Ini, out: &mut Out) {
    let Some(entry) = ini.option("auth_type") else {
        return;
    };
    match entry.value.as_str() {
        "hba" => out.needless(entry, "the HBA file decides when there is one"),
        "plain" => out.set("auth", "method", text("password")),
        "trust" | "md5" | "scram-sha-256" | "cert" => out.set("auth", "method", text(&entry.value)),
        other => out.lost(
            entry,
            &format!("`{other}` cannot be had; clients log in by SCRAM"),
        ),
    }
}

/// In PgBouncer `auth_user` turns `auth_query` on, and the query has a default.
fn auth_query(ini: &Ini, listed: &[User], out: &mut Out) {
    const DEFAULT: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END \
                           FROM pg_authid WHERE rolname = $1 AND rolcanlogin";
    let query = ini.option("auth_query");
    let Some(user) = ini.option("auth_user").filter(|entry| !entry.value.is_empty()) else {
        if let Some(query) = query {
            out.needless(query, "PgBouncer does not use it without auth_user");
        }
        return;
    };
    out.set(
        "auth",
        "auth_query",
        text(query.map_or(DEFAULT, |query| &query.value)),
    );
    out.set("auth", "auth_user", text(&user.value));
    let listed = listed.iter().find(|(name, _)| *name == user.value);
    let password = listed.and_then(|(_, options)| options.iter().find(|(key, _)| key == "password"));
    match password {
        // Not a verifier: Drover must log in with it.
        Some((_, quoted)) if !quoted.starts_with("\"SCRAM-SHA-256$") && !quoted.starts_with("\"md5") => {
            out.set("auth", "auth_password", quoted.clone());
        }
        _ => out.lost(
            user,
            "its password is not known: fill in `auth_password` in [auth]",
        ),
    }
}

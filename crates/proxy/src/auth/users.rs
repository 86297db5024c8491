//! Users and the stored form of their passwords.

use std::fmt;
use std::sync::{Arc, OnceLock};

use wire::scram::{self, Keys, Verifier};

use crate::config::{ClientAuth, UserConfig};

/// What a password is checked against.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The password itself.
    Clear(String),
    /// `md5` and 32 hexadecimal digits.
    Md5(String),
    /// A SCRAM verifier.
    Verifier(Verifier),
}

/// A user that may log in.
pub(crate) struct User {
    pub(super) name: Arc<str>,
    /// Needs to prove nothing, whatever the method.
    pub(super) trusted: bool,
    /// `None`: no password fits.
    pub(super) stored: Option<Stored>,
    /// What the configuration presents to the servers in the user's name.
    pub(super) server_password: Option<String>,
    /// The verifier of a password in clear, made at the first login.
    derived: OnceLock<Verifier>,
}

/// A stored secret that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored password is neither md5 nor a SCRAM verifier")]
pub(crate) struct StoredError;

/// What a method that compares passwords found.
pub(crate) enum Checked {
    /// It is the password; a verifier was compared, and these are its keys.
    Right(Option<Keys>),
    /// It is not.
    Wrong,
}

impl Stored {
    /// As `pg_authid` or a user list has it. Anything that is no known form is a password in clear.
    pub(super) fn parse(text: &str) -> Result<Self, StoredError> {
        if text.starts_with("SCRAM-SHA-256$") {
            return text.parse().map(Self::Verifier).map_err(|_| StoredError);
        }
        if wire::md5::response_from_hash(text, [0; 4]).is_some() {
            return Ok(Self::Md5(text.to_owned()));
        }
        Ok(Self::Clear(text.to_owned()))
    }
}

impl User {
    /// As configured.
    pub(super) fn configured(user: &UserConfig) -> Result<Self, StoredError> {
        let stored = match &user.auth {
            ClientAuth::Trust | ClientAuth::None => None,
            ClientAuth::Verifier(text) => Some(Stored::Verifier(text.parse().map_err(|_| StoredError)?)),
            ClientAuth::Md5(text) => Some(Stored::Md5(text.clone())),
            ClientAuth::Password(password) => Some(Stored::Clear(password.clone())),
        };
        Ok(Self {
            trusted: matches!(user.auth, ClientAuth::Trust),
            server_password: user.server_password.clone(),
            ..Self::new(&user.name, stored)
        })
    }

    /// As looked up.
    pub(super) fn new(name: &str, stored: Option<Stored>) -> Self {
        Self {
            name: name.into(),
            trusted: false,
            stored,
            server_password: None,
            derived: OnceLock::new(),
        }
    }

    /// The same in every respect; then its derived verifier can be kept too.
    pub(super) fn is_like(&self, other: &User) -> bool {
        self.name == other.name
            && self.trusted == other.trusted
            && self.stored == other.stored
            && self.server_password == other.server_password
    }

    /// Needs to prove nothing.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The stored form is the MD5 one.
    pub(crate) fn is_md5(&self) -> bool {
        matches!(self.stored, Some(Stored::Md5(_)))
    }

    /// An MD5 exchange can be checked: a SCRAM verifier cannot.
    pub(crate) fn knows_md5(&self) -> bool {
        matches!(self.stored, Some(Stored::Md5(_) | Stored::Clear(_)))
    }

    /// The stored verifier, if the servers get the client's own keys because nothing else is known.
    pub(crate) fn passed_through(&self) -> Option<&Verifier> {
        match (&self.stored, &self.server_password) {
            (Some(Stored::Verifier(verifier)), None) => Some(verifier),
            _ => None,
        }
    }

    /// The verifier, if it takes no hash rounds to have it.
    pub(crate) fn verifier(&self) -> Option<&Verifier> {
        match &self.stored {
            Some(Stored::Verifier(verifier)) => Some(verifier),
            Some(Stored::Clear(_)) => self.derived.get(),
            _ => None,
        }
    }

    /// Makes the verifier of a password in clear: takes the hash rounds, not for a worker's thread. `None` if SCRAM is
    /// impossible with what is stored.
    pub(crate) fn derive(&self, salt: &[u8]) -> Option<&Verifier> {
        if let Some(Stored::Clear(password)) = &self.stored
            && self.derived.get().is_none()
        {
            let made = Verifier::from_password(password.as_bytes(), salt, scram::ITERATIONS_DEFAULT);
            // Another login may have been first; both have made the same.
            let _ = made.map(|verifier| self.derived.set(verifier));
        }
        self.verifier()
    }

    /// Checks the answer to an MD5 request.
    pub(crate) fn answers_md5(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        match &self.stored {
            Some(Stored::Md5(stored)) => wire::md5::verify(stored, salt, answer),
            Some(Stored::Clear(password)) => {
                let stored = wire::md5::hash(&self.name, password.as_bytes());
                wire::md5::verify(&stored, salt, answer)
            }
            _ => false,
        }
    }

    /// Checks a password in clear. Takes hash rounds, not for a worker's thread; `mock` is what a password is compared
    /// with where there is no verifier, so that the time is always the same.
    pub(crate) fn check(&self, password: &[u8], mock: &Verifier) -> Checked {
        let verifier = self.derive(mock.salt()).unwrap_or(mock);
        let keys = verifier.keys_of(password);
        match (&self.stored, keys) {
            (Some(Stored::Md5(stored)), _) => {
                let given = wire::md5::hash(&self.name, password);
                // Both are digests: comparing them with any salt tells whether they are the same.
                match wire::md5::response_from_hash(&given, [0; 4]) {
                    Some(answer) if wire::md5::verify(stored, [0; 4], answer.as_bytes()) => {
                        Checked::Right(None)
                    }
                    _ => Checked::Wrong,
                }
            }
            (_, Some(keys)) => Checked::Right(Some(keys)),
            (_, None) => Checked::Wrong,
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Checks a password for a user that does not exist: takes as long, and is wrong.
pub(crate) fn check_nobody(password: &[u8], mock: &Verifier) -> Checked {
    let _ = mock.keys_of(password);
    Checked::Wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(stored: &str) -> User {
        User::new("alice", Some(Stored::parse(stored).expect("known form")))
    }

    fn right(user: &User, password: &str) -> bool {
        let mock = Verifier::mock(b"secret", "alice", 16);
        matches!(user.check(password.as_bytes(), &mock), Checked::Right(_))
    }

    #[test]
    fn each_stored_form_checks_passwords() {
        let verifier = Verifier::from_password(b"secret", b"salt", 16)
            .expect("made")
            .to_string();
        for stored in ["secret", "md54a0a68b43b6cd5cf266fa02f196e2371", &verifier] {
            let user = user(stored);
            assert!(right(&user, "secret"), "{stored}");
            assert!(!right(&user, "Secret") && !right(&user, ""), "{stored}");
        }
        assert!(!right(&User::new("alice", None), ""));
    }

    #[test]
    fn md5_needs_more_than_a_verifier() {
        let answer = wire::md5::response("alice", b"secret", [9; 4]);
        let clear = user("secret");
        let md5 = user("md54a0a68b43b6cd5cf266fa02f196e2371");
        for user in [&clear, &md5] {
            assert!(user.knows_md5() && user.answers_md5([9; 4], answer.as_bytes()));
            assert!(!user.answers_md5([8; 4], answer.as_bytes()));
        }
        let verifier = Verifier::from_password(b"secret", b"salt", 16)
            .expect("made")
            .to_string();
        let user = user(&verifier);
        assert!(!user.knows_md5() && !user.answers_md5([9; 4], answer.as_bytes()));
        assert!(user.passed_through().is_some() && clear.passed_through().is_none());
    }

    #[test]
    fn a_broken_verifier_is_not_a_password() {
        assert!(Stored::parse("SCRAM-SHA-256$x").is_err());
        assert!(matches!(Stored::parse("md5x"), Ok(Stored::Clear(_))));
    }

    #[test]
    fn a_clear_password_gets_its_verifier_once() {
        let user = user("secret");
        assert!(user.verifier().is_none());
        let salt = user.derive(&[1; 16]).map(|verifier| verifier.salt().to_vec());
        assert_eq!(salt.as_deref(), Some(&[1; 16][..]));
        assert_eq!(user.derive(&[2; 16]).map(Verifier::salt), Some(&[1; 16][..]));
    }
}

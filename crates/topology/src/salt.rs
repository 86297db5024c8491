//! The secret from which all proxies of a cluster make the salts of users that do not exist.
//!
//! Made by the first proxy, never changed: were the salts of made-up users to change where those of stored verifiers
//! stay, they would tell who exists. Like all of the store it is for the proxies' eyes only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{StoreError, TopologyStore, Write, WriteError};
use crate::{Key, KeyError};

/// Where it is kept.
const KEY: &str = "auth/salt";

/// Conflicts with proxies that start at the same moment: each loser finds the winner's.
const TRIES: usize = 3;

/// The stored form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version", deny_unknown_fields)]
enum Record {
    #[serde(rename = "1")]
    V1 {
        /// 64 hexadecimal digits.
        secret: String,
    },
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SaltError {
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What is stored is no secret of a known version.
    #[error("the stored salt secret cannot be read")]
    Unreadable,
    /// Never: the key is a good one.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The cluster's secret; `fresh` (random bytes) becomes it if there is none yet.
pub async fn salt_secret(store: &dyn TopologyStore, fresh: [u8; 32]) -> Result<[u8; 32], SaltError> {
    let key = Key::parse(KEY)?;
    for _ in 0..TRIES {
        if let Some(stored) = store.get(&key).await? {
            return decode(stored.value).ok_or(SaltError::Unreadable);
        }
        match store
            .compare_and_swap(Write::new(key.clone(), None, encode(fresh)))
            .await
        {
            Ok(_) => return Ok(fresh),
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(SaltError::Unreadable)
}

fn encode(secret: [u8; 32]) -> Value {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({ "version": "1", "secret": digits })
}

fn decode(value: Value) -> Option<[u8; 32]> {
    let Record::V1 { secret } = serde_json::from_value(value).ok()?;
    let digits = secret.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn the_stored_form_stays_readable() {
        let sample =
            r#"{"version":"1","secret":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}"#;
        let value: Value = serde_json::from_str(sample).unwrap();
        let secret = std::array::from_fn(|at| at as u8);
        assert_eq!(decode(value.clone()), Some(secret));
        assert_eq!(encode(secret), value);
        for bad in [
            "{}",
            r#"{"version":"2","secret":""}"#,
            r#"{"version":"1","secret":"zz"}"#,
        ] {
            assert_eq!(decode(serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_first_proxys_stays() {
        let store = MemoryStore::new();
        assert_eq!(salt_secret(&store, [1; 32]).await.unwrap(), [1; 32]);
        assert_eq!(salt_secret(&store, [2; 32]).await.unwrap(), [1; 32]);
    }
}

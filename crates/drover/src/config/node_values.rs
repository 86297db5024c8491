//! A server of a shard, as the configuration writes it.

use std::fmt;

use toml::de::DeValue;

use super::values::{FromToml, HostPort, Name};

/// The largest weight of a server.
const WEIGHT_MAX: usize = 1000;

/// A server of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub address: HostPort,
    /// Its share of reads compared with the shard's other servers; 0: none.
    pub weight: u32,
    /// Where it stands, in the operator's words.
    pub zone: Option<Name>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl FromToml for Node {
    const KIND: &'static str = "\"host:port\", or `{ address = \"host:port\", weight = 1, zone = \"a\" }`";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let Some(table) = value.as_table() else {
            return Ok(Self {
                address: HostPort::from_toml(value)?,
                weight: 1,
                zone: None,
            });
        };
        let mut address = None;
        let mut node = (1, None);
        for (key, value) in table {
            let value = value.get_ref();
            match key.get_ref().as_ref() {
                "address" => address = Some(HostPort::from_toml(value)?),
                "weight" => node.0 = weight(value)?,
                "zone" => node.1 = Some(Name::from_toml(value)?),
                _ => return Err("a server has `address`, `weight` and `zone`".to_owned()),
            }
        }
        Ok(Self {
            address: address.ok_or("a server needs its `address`")?,
            weight: node.0,
            zone: node.1,
        })
    }
}

fn weight(value: &DeValue<'_>) -> Result<u32, String> {
    let weight = usize::from_toml(value)?;
    match u32::try_from(weight) {
        Ok(weight) if weight as usize <= WEIGHT_MAX => Ok(weight),
        _ => Err(format!("a `weight` is at most {WEIGHT_MAX}")),
    }
}

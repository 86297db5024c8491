//! A connection that may be cut at a byte chosen beforehand.

use crate::client::{Answer, Client, ClientError, Pipeline, Target};
use crate::random::Random;
use std::collections::BTreeMap;
use std::time::Duration;

/// An answer may take this long; everything else is a hang.
const PATIENCE: Duration = Duration::from_secs(45);

/// Why a life is over.
#[derive(Debug)]
pub(super) enum End {
    /// Cut off, as planned.
    Killed,
    /// No room for it.
    TurnedDown,
    /// Something that must not happen.
    Violation(String),
}

/// The connection of one life.
pub(super) struct Wire {
    client: Option<Client>,
    /// Bytes that may still be sent; `None`: as many as wanted.
    budget: Option<u64>,
}

impl Wire {
    pub(super) fn open(target: &Target, patience: Duration, budget: Option<u64>) -> Result<Wire, End> {
        let mut client = Client::open(target).map_err(end_of)?;
        client.set_timeout(PATIENCE + patience);
        Ok(Wire {
            client: Some(client),
            budget,
        })
    }

    fn client(&mut self) -> Result<&mut Client, End> {
        self.client.as_mut().ok_or(End::Killed)
    }

    /// Sends bytes, or the part of them that the budget allows and then dies.
    pub(super) fn send(&mut self, bytes: &[u8], random: &mut Random) -> Result<(), End> {
        let Some(budget) = self.budget else {
            return self.client()?.send(bytes).map_err(end_of);
        };
        if budget >= bytes.len() as u64 {
            self.budget = Some(budget - bytes.len() as u64);
            return self.client()?.send(bytes).map_err(end_of);
        }
        let head = bytes.get(..budget as usize).unwrap_or_default();
        let sent = self.client()?.send(head);
        if random.below(2) == 0 {
            // Let it be read and begun before the cut.
            pause(random, 3_000);
        }
        if let Some(client) = self.client.take() {
            client.kill();
        }
        sent.map_err(end_of)?;
        Err(End::Killed)
    }

    pub(super) fn collect(&mut self, readies: usize) -> Result<Answer, End> {
        self.client()?.collect(readies).map_err(end_of)
    }

    /// Sends messages and reads until every Query and Sync among them has been answered.
    pub(super) fn run(&mut self, pipeline: &Pipeline, random: &mut Random) -> Result<Answer, End> {
        self.send(pipeline.bytes(), random)?;
        self.collect(pipeline.readies())
    }

    /// A COPY FROM STDIN by the simple protocol, data right behind the statement, as the protocol allows.
    pub(super) fn copy_in(&mut self, sql: &str, data: &[u8], random: &mut Random) -> Result<Answer, End> {
        let all = Pipeline::new().query(sql).copy(data);
        self.run(&all, random)
    }

    /// Asks for a cancel of what runs.
    pub(super) fn cancel(&mut self) -> Result<(), End> {
        self.client()?.cancel().map_err(end_of)
    }

    pub(super) fn notification(&mut self) -> Result<Option<(String, String)>, End> {
        let patience = Duration::from_secs(20);
        self.client()?.wait_notification(patience).map_err(end_of)
    }

    pub(super) fn status(&self) -> u8 {
        self.client.as_ref().map_or(b'I', Client::status)
    }

    pub(super) fn settings(&self) -> Option<&BTreeMap<String, String>> {
        self.client.as_ref().map(Client::settings)
    }

    /// The end of a life that was not cut: with a word or without.
    pub(super) fn leave(mut self, random: &mut Random) {
        if let Some(client) = self.client.take() {
            match random.below(3) {
                0 => client.kill(),
                _ => client.close(),
            }
        }
    }
}

/// Waits up to so many microseconds.
pub(super) fn pause(random: &mut Random, us_max: u64) {
    std::thread::sleep(Duration::from_micros(random.below(us_max)));
}

/// What a failing connection means for a life.
fn end_of(error: ClientError) -> End {
    match error {
        ClientError::Refused(fields) if matches!(fields.sqlstate(), "53300" | "57P03") => End::TurnedDown,
        ClientError::Closed(Some(fields)) if matches!(fields.sqlstate(), "53300" | "57P03") => {
            End::TurnedDown
        }
        // More clients than the kernel's queue of new connections takes at once.
        ClientError::Io(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut
            ) =>
        {
            End::TurnedDown
        }
        other => End::Violation(format!("the connection broke: {other}")),
    }
}

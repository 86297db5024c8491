//! Moves in the store: a record for each, and a key that says which proxy works on it.
//!
//! `movements/<id>` is the record, `movement-leaders/<id>` the key, bound to the lease of the proxy that leads. Every write of the
//! record by its leader requires that key, so that a proxy that was thought dead writes nothing any more. Operators may write
//! one thing without it: that the move is to be cancelled.

use std::sync::Arc;

use movement::workflow::{TooLate, Workflow};

use crate::records::Record;
use crate::{
    Key, KeyError, Membership, MembershipError, StoreError, TopologyStore, Version, Write, WriteError,
};

/// What moves and leaders have in common, to be watched.
pub const PREFIX: &str = "movement";

const RECORDS: &str = "movements/";
const LEADERS: &str = "movement-leaders/";

/// Attempts against somebody who writes the same record.
const ATTEMPTS_MAX: u32 = 16;

/// Moves that are over and still kept for people.
const OVER_MAX: usize = 32;

/// The proxy that works on a move. Dropped, it lets go; another one takes over.
#[derive(Debug)]
pub struct MovementLead {
    membership: Arc<Membership>,
    leader: (Key, Version),
    record: (Key, Version),
    workflow: Workflow,
}

/// Why a move cannot be led or recorded.
#[derive(Debug, thiserror::Error)]
pub enum MovementError {
    /// This proxy does not lead it any more.
    #[error("another proxy has taken the move over")]
    Lost,
    /// There is no such move.
    #[error("there is no such move")]
    Gone,
    /// It is too late to cancel it.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// The id cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// This proxy is cut off.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MovementLead {
    /// Records a new move, led by this proxy.
    pub async fn begin(membership: Arc<Membership>, workflow: Workflow) -> Result<Self, MovementError> {
        let leader = lead(&membership, &workflow.id)
            .await?
            .ok_or(MovementError::Lost)?;
        let key = Key::parse(&format!("{RECORDS}{}", workflow.id))?;
        let write = Write::new(key.clone(), None, workflow.clone().to_value()?);
        let written = membership
            .store()
            .compare_and_swap(write.require(leader.0.clone(), leader.1))
            .await;
        match written {
            Ok(version) => Ok(Self {
                membership,
                leader,
                record: (key, version),
                workflow,
            }),
            Err(error) => {
                membership.abandon(leader.0, leader.1);
                Err(lost(error))
            }
        }
    }

    /// Takes over a move that nobody leads. `None`: somebody does, or there is no such move.
    pub async fn take(membership: Arc<Membership>, id: &str) -> Result<Option<Self>, MovementError> {
        let Some(leader) = lead(&membership, id).await? else {
            return Ok(None);
        };
        let key = Key::parse(&format!("{RECORDS}{id}"))?;
        let read = match membership.store().get(&key).await {
            Ok(stored) => stored
                .map(|stored| Workflow::from_value(&stored.value).map(|workflow| (workflow, stored.version)))
                .transpose(),
            Err(error) => Err(error),
        };
        match read {
            Ok(Some((workflow, version))) => Ok(Some(Self {
                membership,
                leader,
                record: (key, version),
                workflow,
            })),
            Ok(None) => {
                membership.abandon(leader.0, leader.1);
                Ok(None)
            }
            Err(error) => {
                membership.abandon(leader.0, leader.1);
                Err(error.into())
            }
        }
    }

    /// The move as it was last read or written.
    pub fn workflow(&self) -> &Workflow {
        &self.workflow
    }

    /// Changes the record. `change` may be run several times, each time on what is stored.
    pub async fn save(&mut self, mut change: impl FnMut(&mut Workflow)) -> Result<(), MovementError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut workflow = self.workflow.clone();
            change(&mut workflow);
            let value = workflow.clone().to_value()?;
            let write = Write::new(self.record.0.clone(), Some(self.record.1), value.clone());
            let store = self.membership.store();
            let written = store
                .compare_and_swap(write.require(self.leader.0.clone(), self.leader.1))
                .await;
            match written {
                Ok(version) => {
                    self.record.1 = version;
                    self.workflow = workflow;
                    return Ok(());
                }
                Err(WriteError::Conflict { .. }) => {}
                // It may have been written.
                Err(WriteError::Store(error)) => {
                    if store
                        .get(&self.record.0)
                        .await?
                        .is_none_or(|stored| stored.value != value)
                    {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(lost(error)),
            }
            let stored = store.get(&self.record.0).await?.ok_or(MovementError::Gone)?;
            self.record.1 = stored.version;
            self.workflow = Workflow::from_value(&stored.value)?;
            if stored.value == value {
                return Ok(());
            }
        }
        Err(StoreError::Limit("the record of a move changes too often".to_owned()).into())
    }
}

impl Drop for MovementLead {
    fn drop(&mut self) {
        self.membership.abandon(self.leader.0.clone(), self.leader.1);
    }
}

/// All moves, with whether a proxy works on them.
pub async fn list(store: &dyn TopologyStore) -> Result<Vec<(Workflow, bool)>, StoreError> {
    let listing = store.list(PREFIX).await?;
    let mut moves = Vec::new();
    for (key, stored) in listing.iter() {
        let Some(id) = key.as_str().strip_prefix(RECORDS) else {
            continue;
        };
        let leader = format!("{LEADERS}{id}");
        let led = listing.keys().any(|key| key.as_str() == leader);
        moves.push((Workflow::from_value(&stored.value)?, led));
    }
    moves.sort_by_key(|(workflow, _)| workflow.progress.began_ms);
    Ok(moves)
}

/// Asks for the end of a move.
pub async fn cancel(store: &dyn TopologyStore, id: &str) -> Result<(), MovementError> {
    let key = Key::parse(&format!("{RECORDS}{id}"))?;
    for _ in 0..ATTEMPTS_MAX {
        let stored = store.get(&key).await?.ok_or(MovementError::Gone)?;
        let mut workflow = Workflow::from_value(&stored.value)?;
        workflow.cancel()?;
        let write = Write::new(key.clone(), Some(stored.version), workflow.to_value()?);
        match store.compare_and_swap(write).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Store(error)) => return Err(error.into()),
            // The leader was faster.
            Err(_) => {}
        }
    }
    Err(StoreError::Limit("the record of a move changes too often".to_owned()).into())
}

/// Forgets the oldest of the moves that are over, so that few are kept.
pub async fn forget_old(store: &dyn TopologyStore) -> Result<(), StoreError> {
    let moves = list(store).await?;
    let over: Vec<_> = moves
        .iter()
        .filter(|(workflow, _)| workflow.phase.is_over())
        .collect();
    let surplus = over.len().saturating_sub(OVER_MAX);
    for (workflow, _) in over.into_iter().take(surplus) {
        let Ok(key) = Key::parse(&format!("{RECORDS}{}", workflow.id)) else {
            continue;
        };
        if let Some(stored) = store.get(&key).await?
            && let Err(WriteError::Store(error)) = store.delete(&key, stored.version).await
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Takes the leader's key. `None`: somebody has it.
async fn lead(membership: &Membership, id: &str) -> Result<Option<(Key, Version)>, MovementError> {
    let key = Key::parse(&format!("{LEADERS}{id}"))?;
    let lease = membership.lease().await?;
    let write = Write::new(key.clone(), None, membership.id().as_str().into()).lease(&lease);
    match membership.store().compare_and_swap(write).await {
        Ok(version) => Ok(Some((key, version))),
        Err(WriteError::Conflict { .. }) => Ok(None),
        // A key that was written after all goes with the lease.
        Err(WriteError::Store(error)) => Err(error.into()),
        Err(_) => Err(MembershipError::Fenced.into()),
    }
}

fn lost(error: WriteError) -> MovementError {
    match error {
        WriteError::Store(error) => error.into(),
        _ => MovementError::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use movement::workflow::{Event, Phase};

    use super::*;
    use crate::{MemoryStore, ProxyId};

    async fn member(store: &Arc<MemoryStore>, id: &str) -> Arc<Membership> {
        let store: Arc<dyn TopologyStore> = Arc::clone(store) as _;
        let id = ProxyId::parse(id).unwrap();
        Arc::new(Membership::join(store, id, Duration::from_secs(5)).await.unwrap())
    }

    fn workflow(id: &str) -> Workflow {
        Workflow::new(id.to_owned(), ("app", "public", "t"), "SELECT 1".to_owned(), 1)
    }

    #[test]
    fn the_frozen_sample_is_read() {
        let text = include_str!("../samples/movement-v1.json");
        let value = serde_json::from_str(text).unwrap();
        let read = Workflow::from_value(&value).unwrap();
        assert_eq!(read.phase, Phase::Cutting);
        assert_eq!(read.to_value().unwrap(), value);
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_who_let_go_writes_nothing() {
        let store = Arc::new(MemoryStore::new());
        let (one, two) = (member(&store, "p1").await, member(&store, "p2").await);
        let mut lead = MovementLead::begin(Arc::clone(&one), workflow("m1"))
            .await
            .unwrap();
        assert!(
            MovementLead::take(Arc::clone(&two), "m1")
                .await
                .unwrap()
                .is_none()
        );
        let digest = "d".to_owned();
        lead.save(|workflow| {
            let _ = workflow.advance(
                &Event::Prepared {
                    digest: digest.clone(),
                },
                2,
            );
        })
        .await
        .unwrap();
        // As if the lease had ended.
        let (key, version) = lead.leader.clone();
        store.delete(&key, version).await.unwrap();
        let taken = MovementLead::take(Arc::clone(&two), "m1").await.unwrap().unwrap();
        assert_eq!(taken.workflow().phase, Phase::Streaming);
        assert!(matches!(
            lead.save(|workflow| workflow.attempt = 9).await,
            Err(MovementError::Lost)
        ));
        // Letting go of what another one has changes nothing.
        drop(lead);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(list(store.as_ref()).await.unwrap()[0].1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_sees_that_it_is_cancelled() {
        let store = Arc::new(MemoryStore::new());
        let one = member(&store, "p1").await;
        let mut lead = MovementLead::begin(one, workflow("m1")).await.unwrap();
        cancel(store.as_ref(), "m1").await.unwrap();
        lead.save(|workflow| workflow.progress.copied = 3).await.unwrap();
        assert!(lead.workflow().cancelled && lead.workflow().progress.copied == 3);
        assert!(matches!(
            cancel(store.as_ref(), "m2").await,
            Err(MovementError::Gone)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn few_that_are_over_are_kept() {
        let store = Arc::new(MemoryStore::new());
        let one = member(&store, "p1").await;
        for number in 0..=OVER_MAX + 1 {
            let mut workflow = workflow(&format!("m{number}"));
            workflow.progress.began_ms = number as u64;
            if number > 0 {
                workflow.phase = Phase::Done;
            }
            drop(MovementLead::begin(Arc::clone(&one), workflow).await.unwrap());
        }
        forget_old(store.as_ref()).await.unwrap();
        let left = list(store.as_ref()).await.unwrap();
        assert_eq!(left.len(), OVER_MAX + 1);
        assert!(left.iter().any(|(workflow, _)| workflow.id == "m0"), "not over");
        assert!(left.iter().all(|(workflow, _)| workflow.id != "m1"), "the oldest");
    }
}

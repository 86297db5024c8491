//! What a session needs while it works and not while it waits: lists and buffers with their room, and what it knows of the
//! request, the block and the pipeline at hand.
//!
//! A worker keeps a few of these for all its sessions. A session that is at rest puts its own away before it waits for its
//! client and takes one out when a request has come, so that thousands of idle sessions hold none. Whoever finds none
//! begins with empty ones: nothing depends on it but allocations.

use std::cell::RefCell;

use bytes::BytesMut;
use sql::NormalisedBuf;

use super::Session;
use super::block::{Block, Enlisted};
use super::extended::Extended;
use super::observe::Observation;
use crate::spare::{Blank, Spare};

/// Kept per worker; more are freed.
const KEPT_MAX: usize = 64;

/// A buffer that has grown beyond this many bytes, or a list beyond a hundredth of it, is freed instead of kept.
const ROOM_MAX: usize = 16 * 1024;

/// Those of one worker that no session uses.
#[derive(Debug, Default)]
pub(crate) struct Workspaces(RefCell<Vec<Workspace>>);

/// All empty.
#[derive(Debug)]
struct Workspace {
    servers: Vec<Enlisted>,
    message: BytesMut,
    scratch: Spare<NormalisedBuf>,
    observation: Spare<Observation>,
    block: Spare<Block>,
    extended: Spare<Extended>,
}

impl Blank for NormalisedBuf {
    const BLANK: &'static Self = &Self {
        key: Vec::new(),
        literals: Vec::new(),
    };

    /// What is in it is of no use to anybody.
    fn is_blank(&self) -> bool {
        true
    }
}

impl Session {
    /// Work begins: takes room for it out, unless the session has some.
    pub(super) fn take_workspace(&mut self) {
        if self.servers.capacity() == 0
            && let Some(workspace) = self.engine.workspaces.0.borrow_mut().pop()
        {
            self.servers = workspace.servers;
            self.message = workspace.message;
            self.scratch.take_up(workspace.scratch);
            self.observation.take_up(workspace.observation);
            self.block.take_up(workspace.block);
            self.extended.take_up(workspace.extended);
        }
    }

    /// The session waits, without a server: gives its room away.
    pub(super) fn put_workspace(&mut self) {
        if !self.servers.is_empty() {
            return;
        }
        let mut workspace = Workspace {
            servers: std::mem::take(&mut self.servers),
            message: std::mem::take(&mut self.message),
            scratch: self.scratch.put_away(),
            observation: self.observation.put_away(),
            block: self.block.put_away(),
            extended: self.extended.put_away(),
        };
        let mut kept = self.engine.workspaces.0.borrow_mut();
        if workspace.is_worth_keeping() && kept.len() < KEPT_MAX {
            kept.push(workspace);
        }
    }
}

impl Workspace {
    /// Empties it. False: it has no room, or too much.
    fn is_worth_keeping(&mut self) -> bool {
        self.message.clear();
        let room = self.message.capacity().max(self.scratch.key.capacity());
        let items = self.servers.capacity().max(self.scratch.literals.capacity());
        let portals = self.extended.room();
        self.servers.capacity() > 0 && room <= ROOM_MAX && items.max(portals) <= ROOM_MAX / 100
    }
}

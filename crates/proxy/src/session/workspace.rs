//! What a session needs while it works and not while it waits: lists and buffers with their room.
//!
//! A worker keeps a few of these for all its sessions. A session that is at rest puts its own away before it waits for its
//! client and takes one out when a request has come, so that thousands of idle sessions hold none. Whoever finds none
//! begins with empty ones: nothing depends on it but allocations.

use std::cell::RefCell;

use bytes::BytesMut;
use sql::NormalisedBuf;

use super::Session;
use super::block::Enlisted;

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
    scratch: NormalisedBuf,
    message: BytesMut,
}

impl Session {
    /// Work begins: takes room for it out, unless the session has some.
    pub(super) fn take_workspace(&mut self) {
        if self.servers.capacity() == 0
            && let Some(workspace) = self.engine.workspaces.0.borrow_mut().pop()
        {
            self.servers = workspace.servers;
            self.scratch = workspace.scratch;
            self.message = workspace.message;
        }
    }

    /// The session waits, without a server: gives its room away.
    pub(super) fn put_workspace(&mut self) {
        if !self.servers.is_empty() {
            return;
        }
        let mut workspace = Workspace {
            servers: std::mem::take(&mut self.servers),
            scratch: std::mem::take(&mut self.scratch),
            message: std::mem::take(&mut self.message),
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
        self.scratch.key.clear();
        self.scratch.literals.clear();
        let room = self.message.capacity().max(self.scratch.key.capacity());
        let items = self.servers.capacity().max(self.scratch.literals.capacity());
        self.servers.capacity() > 0 && room <= ROOM_MAX && items <= ROOM_MAX / 100
    }
}

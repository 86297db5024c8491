//! Parts of what belongs to a client that are there only while they are needed.
//!
//! Most clients of a pooler wait most of the time, and what one of them costs meanwhile is multiplied by all of them. So what
//! is empty whenever a session is at rest has its room outside of the session, is put away with the rest of its
//! [workspace](crate::session), and serves the next session of the worker that gets something to do.

use std::ops::{Deref, DerefMut};

/// What can be absent while nothing is in it.
pub(crate) trait Blank: Sized + 'static {
    /// How an absent one reads.
    const BLANK: &'static Self;

    /// Nothing is in it: it reads as [`Self::BLANK`] does, whatever room it keeps.
    fn is_blank(&self) -> bool;
}

/// A `T`, or nothing where it is blank. Reading takes an absent one for blank; whoever changes it makes it.
#[derive(Debug)]
pub(crate) struct Spare<T>(Option<Box<T>>);

impl<T: Blank> Spare<T> {
    /// An absent one.
    pub(crate) const fn absent() -> Self {
        Self(None)
    }

    /// Gives it away, with its room, if it is blank.
    #[inline]
    pub(crate) fn put_away(&mut self) -> Self {
        Self(self.0.take_if(|part| part.is_blank()))
    }

    /// Takes this one unless it has one.
    #[inline]
    pub(crate) fn take_up(&mut self, other: Self) {
        if self.0.is_none() {
            *self = other;
        }
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Blank> Deref for Spare<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank + Default> DerefMut for Spare<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

//! OFFSET and LIMIT over rows that arrive one by one.

/// `OFFSET` and `LIMIT` of a statement, already evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Rows to leave out at the front.
    pub offset: u64,
    /// Rows to return at most; `None` = all.
    pub limit: Option<u64>,
}

impl Bounds {
    /// Rows a single source can contribute at most, when the bounds are pushed down to it.
    pub fn per_source(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_add(self.offset))
    }
}

/// What to do with the next row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Before the offset: drop it.
    Skip,
    /// Return it.
    Take,
    /// The limit was reached before it; no further row is needed.
    Done,
}

/// Counts rows of a concatenated stream against [`Bounds`].
#[derive(Debug, Clone, Copy)]
pub struct OffsetLimit {
    skip: u64,
    left: Option<u64>,
}

impl OffsetLimit {
    /// Starts counting.
    pub fn new(bounds: Bounds) -> Self {
        OffsetLimit {
            skip: bounds.offset,
            left: bounds.limit,
        }
    }

    /// Decides about the next row and counts it.
    #[inline]
    pub fn admit(&mut self) -> Admit {
        if self.left == Some(0) {
            return Admit::Done;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Admit::Skip;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Admit::Take
    }

    /// No further row can be taken.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(offset: u64, limit: Option<u64>, rows: usize) -> Vec<usize> {
        let mut counter = OffsetLimit::new(Bounds { offset, limit });
        (0..rows).filter(|_| counter.admit() == Admit::Take).collect()
    }

    #[test]
    fn counts_like_a_slice() {
        assert_eq!(taken(0, None, 3), [0, 1, 2]);
        assert_eq!(taken(2, Some(2), 9), [2, 3]);
        assert_eq!(taken(2, Some(0), 9), [0; 0]);
        assert_eq!(taken(9, Some(1), 3), [0; 0]);
        let done = OffsetLimit::new(Bounds {
            offset: 5,
            limit: Some(0),
        });
        assert!(done.is_done());
        assert_eq!(
            Bounds {
                offset: u64::MAX,
                limit: Some(2)
            }
            .per_source(),
            Some(u64::MAX)
        );
    }
}

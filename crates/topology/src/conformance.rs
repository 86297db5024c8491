//! Every store must pass.

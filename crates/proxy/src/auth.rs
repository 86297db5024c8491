//! Who may log in, and how the proxy logs in to the servers in their name.
//!
//! Three kinds of state, from the most to the least durable:
//!
//! - [`Access`]: what the configuration says (users, rules, the lookup query, credentials per shard). Immutable; a
//!   reload puts a new one in its place, and a login that has begun goes on with the one it began with.
//! - *Looked-up users*: answers of `auth_query`, kept for a while ([`lookup`]).
//! - *Learnt secrets*: what a client's own login has shown and the servers will accept (SCRAM keys). In memory only.
//!
//! Invariants: nobody is let in whom neither the configuration nor the query knows; an unknown user goes through the
//! same exchange as one with a wrong password, with a salt that is the same at every attempt and at every proxy of the
//! cluster; a secret is learnt only after its proof; `Debug` of nothing here shows a secret.

mod access;
mod agreement;
mod config;
pub mod hba;
mod link;
mod lookup;
mod secrets;
mod thread;
pub mod userlist;
mod users;

pub use access::Access;
pub(crate) use access::Demand;
pub use config::{AuthConfig, AuthQuery, Credential};
pub use hba::Method;
pub(crate) use lookup::Source;
pub use secrets::{Reach, Secrets, ServerLogin};
pub(crate) use users::{Checked, User, check_nobody};

#[cfg(test)]
mod tests {
    /// What fuzzing has found once stays fixed.
    #[test]
    fn corpora_replay() {
        type Target = (&'static str, fn(&[u8]));
        let targets: [Target; 2] = [("hba", super::hba::fuzz), ("userlist", super::userlist::fuzz)];
        for (target, run) in targets {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../fuzz/corpus")
                .join(target);
            let mut files = 0;
            for entry in std::fs::read_dir(&folder).expect("the corpus is in the repository") {
                let data = std::fs::read(entry.expect("listed").path()).expect("readable");
                run(&data);
                files += 1;
            }
            assert!(files > 0, "no corpus for {target}");
        }
    }
}

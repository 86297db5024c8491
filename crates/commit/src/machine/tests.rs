//! Scenarios by hand here; every interleaving of failures in [`simulation`].

use super::*;

mod simulation;

const A: ShardId = ShardId(1);
const B: ShardId = ShardId(2);
const C: ShardId = ShardId(3);
const SECRET: Secret = Secret([9; 16]);
const MADE: u64 = 1_700_000_000;

fn start(list: &[(ShardId, Writes, bool)]) -> (Commit, Vec<Effect>) {
    let mut participants = Participants::new();
    for &(shard, writes, preparable) in list {
        participants.enlist(shard, writes, preparable).unwrap();
    }
    Commit::start(&participants, SECRET, MADE)
}

fn gid(decider: ShardId) -> Gid {
    Gid::made_at(decider, SECRET, MADE)
}

fn prepare(shard: ShardId, decider: ShardId) -> Effect {
    Effect::Prepare {
        shard,
        gid: gid(decider),
    }
}

#[test]
fn one_shard_is_a_plain_commit() {
    for (reply, answer) in [
        (Reply::Tag("COMMIT"), Answer::Committed),
        (
            Reply::Tag("ROLLBACK"),
            Answer::Aborted(AbortReason::AlreadyFailed(A)),
        ),
        (Reply::Error, Answer::Aborted(AbortReason::Error(A))),
        (Reply::Lost, Answer::Unknown),
        (Reply::NotReplicated, Answer::Unknown),
        (Reply::Tag("SELECT 1"), Answer::Unknown),
    ] {
        let (mut machine, effects) = start(&[(A, Writes::Unknown, false)]);
        assert_eq!(effects, [Effect::Commit(A)]);
        assert_eq!(machine.handle(A, reply), [Effect::Answer(answer)], "{reply:?}");
        assert!(machine.is_done());
    }
    assert_eq!(start(&[]).1, [Effect::Answer(Answer::Committed)]);
}

#[test]
fn readers_commit_before_the_only_writer() {
    let (mut machine, effects) = start(&[
        (A, Writes::Yes, false),
        (B, Writes::No, false),
        (C, Writes::No, true),
    ]);
    assert_eq!(effects, [Effect::CommitReadOnly(B), Effect::CommitReadOnly(C)]);
    assert_eq!(machine.handle(C, Reply::Tag("COMMIT")), []);
    let mut failing = machine.clone();
    assert_eq!(machine.handle(B, Reply::Tag("COMMIT")), [Effect::Commit(A)]);
    assert_eq!(
        machine.handle(A, Reply::Tag("COMMIT")),
        [Effect::Answer(Answer::Committed)]
    );
    assert_eq!(failing.handle(B, Reply::Error), [Effect::Rollback(A)]);
    let aborted = Effect::Answer(Answer::Aborted(AbortReason::Error(B)));
    assert_eq!(failing.handle(A, Reply::Lost), [aborted]);
}

#[test]
fn readers_alone_need_no_decision() {
    let (mut machine, effects) = start(&[(A, Writes::No, true), (B, Writes::No, true)]);
    assert_eq!(effects, [Effect::CommitReadOnly(A), Effect::CommitReadOnly(B)]);
    assert_eq!(machine.handle(A, Reply::Tag("COMMIT")), []);
    assert_eq!(
        machine.handle(B, Reply::Tag("COMMIT")),
        [Effect::Answer(Answer::Committed)]
    );
}

#[test]
fn several_writers_prepare_all_but_the_first() {
    let (mut machine, effects) = start(&[
        (A, Writes::Unknown, true),
        (B, Writes::Unknown, true),
        (C, Writes::Yes, true),
    ]);
    assert_eq!(effects, [Effect::AskXid(A), Effect::AskXid(B)]);
    assert_eq!(machine.handle(B, Reply::Xid(true)), []);
    assert_eq!(
        machine.handle(A, Reply::Xid(true)),
        [prepare(B, A), prepare(C, A)]
    );
    assert_eq!(machine.handle(C, Reply::Tag("PREPARE TRANSACTION")), []);
    let decide = Effect::CommitDecider {
        shard: A,
        gid: gid(A),
        participants: vec![B, C],
    };
    assert_eq!(machine.handle(B, Reply::Tag("PREPARE TRANSACTION")), [decide]);
    let commit = |shard| Effect::CommitPrepared { shard, gid: gid(A) };
    assert_eq!(machine.handle(A, Reply::Tag("COMMIT")), [commit(B), commit(C)]);
    assert_eq!(
        machine.handle(B, Reply::Lost),
        [Effect::LeaveToRecovery {
            shard: B,
            gid: gid(A)
        }]
    );
    assert_eq!(machine.handle(B, Reply::Lost), [], "a second reply is ignored");
    let last = machine.handle(C, Reply::Tag("COMMIT PREPARED"));
    assert_eq!(last, [Effect::Answer(Answer::Committed)]);
}

#[test]
fn the_unpreparable_writer_decides() {
    let (mut machine, effects) = start(&[(A, Writes::Yes, true), (B, Writes::Yes, false)]);
    assert_eq!(effects, [prepare(A, B)]);
    let expect = [
        Effect::Rollback(B),
        Effect::RollbackPrepared {
            shard: A,
            gid: gid(B),
        },
    ];
    // A lost PREPARE may have happened: it is rolled back by its name, and the rest is recovery's.
    assert_eq!(machine.handle(A, Reply::Lost), expect);
    let left = Effect::LeaveToRecovery {
        shard: A,
        gid: gid(B),
    };
    assert_eq!(machine.handle(A, Reply::Error), [left]);
    let aborted = Effect::Answer(Answer::Aborted(AbortReason::Lost(A)));
    assert_eq!(machine.handle(B, Reply::Tag("ROLLBACK")), [aborted]);
}

#[test]
fn a_name_makes_the_only_writer_record_its_commit() {
    let mut participants = Participants::new();
    participants.enlist(A, Writes::No, true).unwrap();
    participants.enlist(B, Writes::Yes, true).unwrap();
    participants.name(B).unwrap();
    let (mut machine, effects) = Commit::start(&participants, SECRET, MADE);
    assert_eq!(effects, [Effect::CommitReadOnly(A)]);
    let decide = Effect::CommitDecider {
        shard: B,
        gid: gid(B),
        participants: Vec::new(),
    };
    assert_eq!(machine.handle(A, Reply::Tag("COMMIT")), [decide]);
    let mut lost = machine.clone();
    let committed = [Effect::Answer(Answer::Committed)];
    assert_eq!(machine.handle(B, Reply::Tag("COMMIT")), committed);
    assert_eq!(lost.handle(B, Reply::Lost), [Effect::Answer(Answer::Unknown)]);
}

#[test]
fn the_named_shard_decides_whoever_came_first() {
    let mut participants = Participants::new();
    participants.enlist(A, Writes::Yes, true).unwrap();
    participants.name(B).unwrap();
    assert_eq!(Commit::start(&participants, SECRET, MADE).1, [prepare(A, B)]);
}

#[test]
fn two_unpreparable_writers_found_at_commit_abort() {
    // Made directly: `enlist` would refuse it.
    let participant = |shard| Participant {
        shard,
        writes: Writes::Unknown,
        preparable: false,
    };
    let mut machine = start(&[(A, Writes::Unknown, false), (B, Writes::Unknown, true)]).0;
    machine.members[1].participant = participant(B);
    assert_eq!(machine.handle(A, Reply::Xid(true)), []);
    assert_eq!(
        machine.handle(B, Reply::Xid(true)),
        [Effect::Rollback(A), Effect::Rollback(B)]
    );
    assert_eq!(machine.handle(A, Reply::Tag("ROLLBACK")), []);
    let aborted = Effect::Answer(Answer::Aborted(AbortReason::TwoUnpreparable(A, B)));
    assert_eq!(machine.handle(B, Reply::Tag("ROLLBACK")), [aborted]);
}

#[test]
fn only_the_right_tag_is_a_vote() {
    for reply in [
        Reply::Tag("ROLLBACK"),
        Reply::Tag("COMMIT"),
        Reply::Error,
        Reply::Xid(true),
    ] {
        let (mut machine, _) = start(&[(A, Writes::Yes, true), (B, Writes::Yes, true)]);
        assert_eq!(machine.handle(B, reply), [Effect::Rollback(A)], "{reply:?}");
    }
    let (mut machine, _) = start(&[(A, Writes::Yes, true), (B, Writes::Yes, true)]);
    let rollback = Effect::RollbackPrepared {
        shard: B,
        gid: gid(A),
    };
    assert_eq!(
        machine.handle(B, Reply::NotReplicated),
        [Effect::Rollback(A), rollback]
    );
}

#[test]
fn an_unknown_decision_leaves_the_prepared_alone() {
    for reply in [Reply::Lost, Reply::NotReplicated, Reply::from_error("FATAL")] {
        let (mut machine, _) = start(&[(A, Writes::Yes, true), (B, Writes::Yes, true)]);
        machine.handle(B, Reply::Tag("PREPARE TRANSACTION"));
        let left = Effect::LeaveToRecovery {
            shard: B,
            gid: gid(A),
        };
        assert_eq!(machine.handle(A, reply), [left, Effect::Answer(Answer::Unknown)]);
    }
}

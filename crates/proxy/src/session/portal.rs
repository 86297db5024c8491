//! Portals that do not live on one server: a statement over several shards runs to its end at the first Execute, into a
//! bounded buffer when the client limits its rows, and the client fetches the rest in slices.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use sql::StatementKind;
use wire::Target;
use wire::backend::{encode, tag};
use wire::frame;

use super::batch::already_told;
use super::block::Wrote;
use super::extended::{Portal, PortalPlace, Prepared, Step, no_portal};
use super::reads::ManyRead;
use super::{Fault, Session};
use crate::exec::statement::{Action, Literals, Shards};
use plan::Triage;

/// What a portal that has run still has to give.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// DataRow messages.
    rows: BytesMut,
    /// The command tag without its number of rows; the whole tag when it has none.
    word: Vec<u8>,
    /// The tag ends with a number of rows.
    counted: bool,
}

impl Rest {
    /// Takes an answer apart; what is neither row nor command tag (notices, parameter reports) comes back.
    fn of(mut answer: BytesMut) -> (BytesMut, Rest) {
        let mut aside = BytesMut::new();
        let mut rest = Rest::default();
        while let Ok(Some(found)) = frame::peek(&answer, usize::MAX)
            && found.len <= answer.len()
        {
            let message = answer.split_to(found.len);
            match found.tag {
                tag::DATA_ROW if rest.rows.is_empty() => rest.rows = message,
                // Neighbours in one buffer are put together without copying.
                tag::DATA_ROW => rest.rows.unsplit(message),
                tag::COMMAND_COMPLETE => rest.set_tag(message.get(5..message.len() - 1).unwrap_or_default()),
                _ => aside.extend_from_slice(&message),
            }
        }
        (aside, rest)
    }

    fn set_tag(&mut self, text: &[u8]) {
        let split = text.iter().rposition(|byte| *byte == b' ');
        let number = split.map_or(&[][..], |at| &text[at + 1..]);
        self.counted = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        self.word = match split {
            Some(at) if self.counted => text[..at].to_vec(),
            _ => text.to_vec(),
        };
    }

    /// Appends at most `max_rows` rows (0: all), then PortalSuspended if that many came, else the command tag with the
    /// number of rows of this slice, as PostgreSQL does.
    fn hand_out(&mut self, max_rows: i32, out: &mut BytesMut) -> Result<(), Fault> {
        let mut count = 0;
        while max_rows <= 0 || count < max_rows {
            let Ok(Some(found)) = frame::peek(&self.rows, usize::MAX) else {
                break;
            };
            out.extend_from_slice(self.rows.get(..found.len).unwrap_or_default());
            self.rows.advance(found.len.min(self.rows.len()));
            count += 1;
        }
        if max_rows > 0 && count == max_rows {
            encode::portal_suspended(out);
            return Ok(());
        }
        let mut text = self.word.clone();
        if self.counted {
            text.extend_from_slice(format!(" {count}").as_bytes());
        }
        encode::command_complete(out, &text).map_err(|_| Fault::error("54000", "command tag too long"))
    }
}

impl Session {
    /// Execute of a portal that is not on a server.
    pub(super) async fn execute_here(
        &mut self,
        name: &[u8],
        portal: &Portal,
        max_rows: i32,
    ) -> Result<(), Fault> {
        if let Some(rest) = self.extended.rests.get_mut(name) {
            if rest.word.is_empty() {
                let text = format!("portal \"{}\" cannot be run", String::from_utf8_lossy(name));
                return Err(Fault::error("55000", text));
            }
            let mut slice = BytesMut::new();
            rest.hand_out(max_rows, &mut slice)?;
            self.answer_bytes(slice);
            return Ok(());
        }
        let prepared = Rc::clone(&portal.prepared);
        if max_rows <= 0 || !returns_rows(&prepared) {
            self.run_here(portal).await?;
            self.extended.rests.insert(name.to_vec(), finished(&prepared));
            return Ok(());
        }
        self.settle_batch_for_block().await?;
        self.client.conn.hold();
        let result = self.run_here(portal).await;
        let (aside, mut rest) = Rest::of(self.client.conn.release_held());
        let out = self.client.conn.out();
        out.extend_from_slice(&aside);
        result?;
        rest.hand_out(max_rows, self.client.conn.out())?;
        self.extended.rests.insert(name.to_vec(), rest);
        Ok(())
    }

    async fn run_here(&mut self, portal: &Portal) -> Result<(), Fault> {
        let prepared = &portal.prepared;
        // What was bound since may belong elsewhere.
        self.place_read_in_pipeline(&prepared.statement).await?;
        let PortalPlace::Many { shards, args } = &portal.place else {
            return self.execute_local(prepared).await;
        };
        self.settle_batch_for_block().await?;
        self.look_after(prepared.statement.effects);
        match &prepared.statement.action {
            Action::Planned(planned) if !planned.plan.prelude.is_empty() => {
                let literals = Literals {
                    text: &prepared.text,
                    literals: &prepared.literals,
                };
                self.read_on_many(ManyRead::Deferred {
                    planned,
                    text: &prepared.text,
                    literals,
                    args: Some(args),
                })
                .await
            }
            Action::Planned(planned) => {
                let literals = Literals {
                    text: &prepared.text,
                    literals: &prepared.literals,
                };
                let all = Shards::Many(shards.clone());
                let found = self.look_up(planned, literals, |at| args.param(at), all).await?;
                let shards = &match found {
                    Shards::Many(shards) => shards,
                    Shards::One(shard) => vec![shard],
                    Shards::Any => vec![self.any_shard()],
                };
                self.read_on_many(ManyRead::Planned {
                    planned,
                    shards,
                    text: &prepared.text,
                    args: Some(args),
                })
                .await
            }
            Action::Other(triage) => {
                let Triage::Explain(plan) = &**triage else {
                    return Err(Fault::error("XX000", "a local portal has a place"));
                };
                let prepared = Rc::clone(prepared);
                self.announce_columns = false;
                let result = self
                    .explain_bound(plan, &prepared.statement, &prepared.text, (&prepared.types, args))
                    .await;
                self.announce_columns = true;
                result
            }
            _ => Err(Fault::error("XX000", "a portal over several shards has no plan")),
        }
    }

    /// Execute of what is answered here, or by servers through the session's own books.
    async fn execute_local(&mut self, prepared: &Rc<Prepared>) -> Result<(), Fault> {
        if matches!(prepared.statement.action, Action::Empty) {
            return self.answer(encode::empty_query);
        }
        self.settle_batch_for_block().await?;
        self.extended.relayed_error = false;
        match &prepared.statement.action {
            Action::Listen(command) => {
                self.begin_for_pipeline();
                Box::pin(self.listen(command, &prepared.text)).await
            }
            Action::Deallocate(name) => self.deallocate(name.as_deref(), &prepared.text).await,
            Action::Other(triage) => {
                if matches!(&**triage, Triage::Setting(command) if lasts_or_fails(command)) {
                    self.begin_for_pipeline();
                }
                self.announce_columns = false;
                let result = Box::pin(self.run_other(triage, &prepared.statement, &prepared.text)).await;
                self.announce_columns = true;
                result
            }
            _ => Err(Fault::error("XX000", "a local portal has a plan")),
        }?;
        if std::mem::take(&mut self.extended.relayed_error) {
            return Err(Fault::Statement(Box::new(already_told())));
        }
        Ok(())
    }

    /// PostgreSQL makes a pipeline one transaction, whose failure takes back what its statements set. One that is followed
    /// by nothing but Sync cannot fail any more and is spared the block.
    fn begin_for_pipeline(&mut self) {
        let ends = self.client.conn.unread().first() == Some(&wire::frontend::tag::SYNC);
        if !ends && !self.block.is_open() {
            self.block.open("BEGIN".to_owned(), true);
            self.settings.begin();
        }
    }

    /// A portal nobody made by Bind: a cursor that SQL declared on the home shard, in the open block.
    pub(super) async fn cursor_message(
        &mut self,
        message: &[u8],
        name: &[u8],
        step: Step,
    ) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let has_cursors = self
            .servers
            .iter()
            .any(|server| server.shard == home && (server.begun || !self.pinned.is_empty()));
        if !has_cursors {
            return Err(no_portal(name));
        }
        let index = self.open_server(home).await?;
        let server = &mut self.servers[index];
        server.wrote = server.wrote.max_with(Wrote::Unknown);
        server.lease.conn.out().extend_from_slice(message);
        self.extended.executed |= matches!(step, Step::Execute);
        self.extended.steps.push_back(step);
        Ok(())
    }

    /// Close of a portal.
    pub(super) async fn close_portal(&mut self, name: &[u8]) -> Result<(), Fault> {
        self.extended.rests.remove(name);
        let shard = match self.extended.portals.remove(name) {
            Some(Portal {
                place: PortalPlace::Server(shard),
                ..
            }) => shard,
            Some(_) => return self.answer(encode::close_complete),
            None if self.block.is_open() && !name.is_empty() => self.engine.cluster.home(),
            None => return self.answer(encode::close_complete),
        };
        let is_there = self
            .servers
            .iter()
            .any(|server| server.shard == shard && (server.begun || server.busy || !self.pinned.is_empty()));
        if !is_there {
            return self.answer(encode::close_complete);
        }
        let index = self.open_server(shard).await?;
        let out = self.servers[index].lease.conn.out();
        wire::frontend::encode::close(out, Target::Portal, name)
            .map_err(|_| Fault::error("54000", "the name is too long"))?;
        self.extended.steps.push_back(Step::Close { pass: true });
        Ok(())
    }
}

fn returns_rows(prepared: &Prepared) -> bool {
    match &prepared.statement.action {
        Action::Planned(planned) => planned.columns.is_some(),
        Action::Other(triage) => matches!(**triage, plan::Triage::Drover(_) | plan::Triage::Explain(_)),
        _ => false,
    }
}

/// What a portal gives that has given everything: no rows, or for a statement without rows an error.
fn finished(prepared: &Prepared) -> Rest {
    let word: &[u8] = match prepared.statement.kind {
        _ if !returns_rows(prepared) => b"",
        StatementKind::Insert => b"INSERT 0",
        StatementKind::Update => b"UPDATE",
        StatementKind::Delete => b"DELETE",
        StatementKind::Merge => b"MERGE",
        _ => b"SELECT",
    };
    Rest {
        rows: BytesMut::new(),
        word: word.to_vec(),
        counted: true,
    }
}

/// It sets something that the end of its transaction decides about.
fn lasts_or_fails(command: &sql::SettingCommand) -> bool {
    use sql::SettingCommand as Command;
    !matches!(command, Command::Show { .. } | Command::Discard(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::backend::ErrorFields;

    fn answer(rows: usize, text: &str) -> BytesMut {
        let mut answer = BytesMut::new();
        for row in 0..rows {
            if row == 1 {
                encode::notice(&mut answer, &ErrorFields::new("NOTICE", "00000", "between"));
            }
            encode::data_row(&mut answer, [Some(&b"x"[..])]).unwrap();
        }
        encode::command_complete(&mut answer, text.as_bytes()).unwrap();
        answer
    }

    fn tags(mut bytes: BytesMut) -> String {
        let mut tags = String::new();
        while let Ok(Some(found)) = frame::peek(&bytes, usize::MAX) {
            tags.push(char::from(found.tag));
            bytes.advance(found.len);
        }
        tags
    }

    fn slice(rest: &mut Rest, max_rows: i32) -> String {
        let mut out = BytesMut::new();
        rest.hand_out(max_rows, &mut out).unwrap();
        let text = String::from_utf8_lossy(&out).into_owned();
        let number = text
            .trim_end_matches('\0')
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let tags = tags(out);
        if tags.ends_with('C') { tags + &number } else { tags }
    }

    #[test]
    fn rows_come_in_slices_and_a_full_slice_suspends() {
        let (aside, mut rest) = Rest::of(answer(3, "SELECT 3"));
        assert_eq!(tags(aside), "N");
        assert_eq!(slice(&mut rest, 2), "DDs");
        assert_eq!(slice(&mut rest, 1), "Ds");
        assert_eq!(slice(&mut rest, 1), "C0");
        let (_, mut rest) = Rest::of(answer(3, "INSERT 0 3"));
        assert_eq!(slice(&mut rest, 2), "DDs");
        assert_eq!(slice(&mut rest, 0), "DC1");
        assert_eq!(rest.word, b"INSERT 0");
    }
}

//! Describe: what a statement or a portal takes and gives.

use std::rc::Rc;

use bytes::BytesMut;
use wire::backend::encode;
use wire::frame::Message;
use wire::{FormatCode, Target};

use super::extended::{Portal, PortalPlace, Prepared, Step};
use super::many::append_columns;
use super::told::Telling;
use super::{Fault, Session};
use crate::exec::statement::Action;

impl Session {
    /// Describe.
    pub(super) async fn describe(
        &mut self,
        whole: Message<'_>,
        target: Target,
        name: &[u8],
    ) -> Result<(), Fault> {
        match target {
            Target::Statement => {
                let prepared = self.current(name).await?;
                self.describe_statement(name, &prepared).await
            }
            Target::Portal => {
                let Some(portal) = self.extended.portals.get(name).cloned() else {
                    let step = Step::Describe {
                        columns: None,
                        told: None,
                    };
                    return self.cursor_message(whole.bytes, name, step).await;
                };
                self.describe_portal(name, &portal).await
            }
        }
    }

    async fn describe_statement(&mut self, name: &[u8], prepared: &Rc<Prepared>) -> Result<(), Fault> {
        match &prepared.statement.action {
            Action::Home => {
                self.place_read_in_pipeline(&prepared.statement).await?;
                let index = self.open_server(self.engine.cluster.home()).await?;
                if self.is_doubtful(index, prepared) {
                    return Box::pin(self.describe_surely(name, prepared)).await;
                }
                let name = self.prepare_on(index, prepared)?;
                let out = self.servers[index].lease.conn.out();
                wire::frontend::encode::describe(out, Target::Statement, name.as_bytes())
                    .map_err(|_| Fault::error("54000", "the name is too long"))?;
                let told = Some(Telling::of_statement(prepared));
                self.extended
                    .steps
                    .push_back(Step::Describe { columns: None, told });
                Ok(())
            }
            Action::Planned(planned) => {
                let mut answer = BytesMut::new();
                encode::parameter_description(&mut answer, planned.param_types.iter().copied())
                    .map_err(|_| Fault::error("54000", "too many parameters"))?;
                match &planned.columns {
                    Some(columns) => append_columns(&mut answer, columns),
                    None => encode::no_data(&mut answer),
                }
                self.answer_bytes(answer);
                Ok(())
            }
            Action::Empty
            | Action::Deallocate(_)
            | Action::Listen(_)
            | Action::Other(_)
            | Action::Ruled(_) => {
                let mut answer = BytesMut::new();
                let types = self.explained_types(prepared).await?;
                encode::parameter_description(&mut answer, types)
                    .map_err(|_| Fault::error("54000", "too many parameters"))?;
                self.describe_local(&prepared.statement, &mut answer)?;
                self.answer_bytes(answer);
                Ok(())
            }
        }
    }

    async fn describe_portal(&mut self, name: &[u8], portal: &Portal) -> Result<(), Fault> {
        match &portal.place {
            PortalPlace::Server(shard) => {
                let index = self.open_server(*shard).await?;
                let out = self.servers[index].lease.conn.out();
                wire::frontend::encode::describe(out, Target::Portal, name)
                    .map_err(|_| Fault::error("54000", "the name is too long"))?;
                let foreign = *shard != self.engine.cluster.home();
                let columns = foreign.then(|| Rc::clone(&portal.prepared));
                let told = self.telling_of_portal(index, &portal.prepared);
                self.extended.steps.push_back(Step::Describe { columns, told });
            }
            PortalPlace::Many { args, .. } => {
                let mut answer = BytesMut::new();
                match &portal.prepared.statement.action {
                    Action::Planned(planned) => match &planned.columns {
                        Some(columns) => {
                            append_columns(&mut answer, columns);
                            set_formats(&mut answer, &args.results);
                        }
                        None => encode::no_data(&mut answer),
                    },
                    // EXPLAIN, whose formats are the same in text and in binary.
                    _ => {
                        self.describe_local(&portal.prepared.statement, &mut answer)?;
                        set_formats(&mut answer, &args.results);
                    }
                }
                self.answer_bytes(answer);
            }
            PortalPlace::Local => {
                let mut answer = BytesMut::new();
                self.describe_local(&portal.prepared.statement, &mut answer)?;
                self.answer_bytes(answer);
            }
        }
        Ok(())
    }
}

/// Writes the client's result formats into a RowDescription message in text format.
fn set_formats(message: &mut BytesMut, formats: &[FormatCode]) {
    let mut at = 7;
    let mut column = 0;
    while at < message.len() {
        let Some(name) = message[at..].iter().position(|byte| *byte == 0) else {
            return;
        };
        let code_at = at + name + 1 + 16;
        let format = match formats {
            [] => FormatCode::Text,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(FormatCode::Text),
        };
        if let Some(code) = message.get_mut(code_at..code_at + 2) {
            code.copy_from_slice(&format.code().to_be_bytes());
        }
        at = code_at + 2;
        column += 1;
    }
}

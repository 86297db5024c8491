//! Progress on standard error: one line that changes on a terminal, a line per node elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use agent::{Phase, ProgressEvent};

use crate::terminal::say;

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Carriage return, then erase the line.
const CLEAR: &str = "\r\x1b[2K";

/// What the user sees while the cluster starts.
#[derive(Debug)]
pub struct Display {
    terminal: bool,
    began: Instant,
    turn: usize,
    line: String,
}

impl Display {
    /// Begins to count the time.
    pub fn new() -> Display {
        let terminal = std::io::stderr().is_terminal();
        Display {
            terminal,
            began: Instant::now(),
            turn: 0,
            line: "starting".to_owned(),
        }
    }

    /// The time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Shows an event.
    pub fn show(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::PlacedElsewhere { servers_dir, user } => self.say(&format!(
                "the servers run as {user}, who cannot enter the data directory: their files are in {}",
                servers_dir.display()
            )),
            ProgressEvent::CleanedUp { processes } => {
                self.say(&format!("stopped {processes} server processes of an earlier run"));
            }
            ProgressEvent::Node {
                node,
                phase,
                ready,
                total,
            } => {
                self.line = format!("{ready} of {total} servers ready; {node}: {}", phase_text(*phase));
                if !self.terminal && *phase == Phase::Ready {
                    self.say(&format!("{node} is ready ({ready} of {total})"));
                }
                self.turn();
            }
        }
    }

    /// Turns the spinner.
    pub fn turn(&mut self) {
        if self.terminal {
            self.turn = (self.turn + 1) % SPINNER.len();
            let elapsed = self.elapsed().as_secs_f64();
            show(&format!(
                "{CLEAR}{} {elapsed:4.1} s  {}",
                SPINNER[self.turn], self.line
            ));
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.terminal {
            show(CLEAR);
        }
    }

    /// A line that stays.
    fn say(&mut self, text: &str) {
        self.clear();
        say!("{text}");
    }
}

/// Progress that cannot be shown is no reason to fail.
fn show(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Initializing => "creating",
        Phase::Copying => "copying the primary",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
    }
}

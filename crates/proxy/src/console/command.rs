//! The console's language: a text becomes a [`Command`] or an error that says what would be understood.

/// Longest command, in bytes; also bounds what an error repeats.
const COMMAND_BYTES_MAX: usize = 8 * 1024;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// An empty text.
    Nothing,
    /// A table.
    Show(Show),
    /// A session setting, which the console knows and ignores, or an option of the configuration.
    Set {
        /// Option, in lower case.
        key: String,
        /// Value, unquoted.
        value: String,
    },
    /// Hold transactions back; of one database or all.
    Pause(Option<String>),
    /// End PAUSE, KILL and SUSPEND.
    Resume(Option<String>),
    /// Hold transactions on a shard back.
    PauseShard(String),
    /// End that.
    ResumeShard(String),
    /// Believe one of two servers that claim to be a shard's primary.
    ChoosePrimary {
        /// The shard.
        shard: String,
        /// The server, `host:port`.
        server: String,
    },
    /// Drop clients and servers at once.
    Kill(Option<String>),
    /// Replace server connections when they are released.
    Reconnect(Option<String>),
    /// Wait until replaced connections are gone.
    WaitClose(Option<String>),
    /// Let clients in.
    Enable(String),
    /// Keep clients out.
    Disable(String),
    /// End one client.
    KillClient(String),
    /// Read the configuration again.
    Reload,
    /// Stop accepting and serving.
    Suspend,
    /// End the proxy.
    Shutdown(Shutdown),
}

/// When SHUTDOWN ends the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once; open transactions are rolled back.
    Now,
    /// When no transaction is open any more.
    WaitForServers,
    /// When the last client has gone by itself.
    WaitForClients,
}

macro_rules! shows {
    ($( $name:ident = $word:literal, )*) => {
        /// What SHOW can show.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) enum Show {
            $( #[doc = $word] $name, )*
            /// A session setting drivers ask for.
            Setting(&'static str),
            /// `SELECT 1`, by which drivers find out whether a connection lives.
            One,
        }

        /// All the words, for HELP.
        pub(super) const SHOW_WORDS: &[&str] = &[$($word),*];

        fn show(word: &str) -> Option<Show> {
            match word {
                $( $word => Some(Show::$name), )*
                _ => None,
            }
        }
    };
}

shows! {
    Help = "HELP",
    Config = "CONFIG",
    Databases = "DATABASES",
    Pools = "POOLS",
    PeerPools = "PEER_POOLS",
    Peers = "PEERS",
    Clients = "CLIENTS",
    Servers = "SERVERS",
    Sockets = "SOCKETS",
    ActiveSockets = "ACTIVE_SOCKETS",
    Users = "USERS",
    Lists = "LISTS",
    State = "STATE",
    Version = "VERSION",
    Nodes = "NODES",
    Mem = "MEM",
    Fds = "FDS",
    DnsHosts = "DNS_HOSTS",
    DnsZones = "DNS_ZONES",
    Stats = "STATS",
    StatsTotals = "STATS_TOTALS",
    StatsAverages = "STATS_AVERAGES",
    Totals = "TOTALS",
    Rules = "RULES",
}

/// Session settings that drivers read and set; the console knows one value of each.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("timezone", "GMT"),
    // Not settings of PgBouncer's console; drivers set them all the same.
    ("application_name", ""),
    ("extra_float_digits", "1"),
    ("statement_timeout", "0"),
];

/// Reads one command. The error is ready for the client.
pub(crate) fn parse(text: &str) -> Result<Command, String> {
    if text.len() > COMMAND_BYTES_MAX {
        return Err(format!("a command has at most {COMMAND_BYTES_MAX} bytes"));
    }
    let words = words(text)?;
    let invalid = || format!("invalid command '{}', use SHOW HELP", text.trim());
    let Some((verb, rest)) = words.split_first() else {
        return Ok(Command::Nothing);
    };
    let verb = verb.to_ascii_uppercase();
    let names = |make: fn(Option<String>) -> Command| match rest {
        [] => Ok(make(None)),
        [name] => Ok(make(Some(name.clone()))),
        _ => Err(invalid()),
    };
    let name = |make: fn(String) -> Command, what: &str| match rest {
        [name] => Ok(make(name.clone())),
        _ => Err(format!("{verb} needs {what}")),
    };
    match verb.as_str() {
        "SHOW" | "SELECT" => match rest {
            [] if verb == "SHOW" => Ok(Command::Show(Show::Help)),
            [word] => shown(word).map(Command::Show).ok_or_else(invalid),
            [word, what] if word.eq_ignore_ascii_case("TIME") && what.eq_ignore_ascii_case("ZONE") => {
                Ok(Command::Show(Show::Setting("timezone")))
            }
            _ => Err(invalid()),
        },
        "SET" => set(rest).ok_or_else(invalid),
        "PAUSE" if is_shard(rest) => Ok(Command::PauseShard(rest[1].clone())),
        "RESUME" if is_shard(rest) => Ok(Command::ResumeShard(rest[1].clone())),
        "CHOOSE_PRIMARY" => match rest {
            [shard, server] => Ok(Command::ChoosePrimary {
                shard: shard.clone(),
                server: server.clone(),
            }),
            _ => Err(format!(
                "{verb} needs a shard and the address of one of its servers, see SHOW NODES"
            )),
        },
        "PAUSE" => names(Command::Pause),
        "RESUME" => names(Command::Resume),
        "KILL" => names(Command::Kill),
        "RECONNECT" => names(Command::Reconnect),
        "WAIT_CLOSE" => names(Command::WaitClose),
        "ENABLE" => name(Command::Enable, "a database"),
        "DISABLE" => name(Command::Disable, "a database"),
        "KILL_CLIENT" => name(Command::KillClient, "a client's id, see SHOW CLIENTS"),
        "RELOAD" if rest.is_empty() => Ok(Command::Reload),
        "SUSPEND" if rest.is_empty() => Ok(Command::Suspend),
        "SHUTDOWN" => match rest {
            [] => Ok(Command::Shutdown(Shutdown::Now)),
            [word] if word.eq_ignore_ascii_case("WAIT_FOR_SERVERS") => {
                Ok(Command::Shutdown(Shutdown::WaitForServers))
            }
            [word] if word.eq_ignore_ascii_case("WAIT_FOR_CLIENTS") => {
                Ok(Command::Shutdown(Shutdown::WaitForClients))
            }
            _ => Err(invalid()),
        },
        _ => Err(invalid()),
    }
}

/// `SHARD name`, behind PAUSE and RESUME.
fn is_shard(rest: &[String]) -> bool {
    matches!(rest, [word, _] if word.eq_ignore_ascii_case("SHARD"))
}

fn shown(word: &str) -> Option<Show> {
    if word == "1" {
        return Some(Show::One);
    }
    let setting = SETTINGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    match setting {
        Some((name, _)) => Some(Show::Setting(name)),
        None => show(&word.to_ascii_uppercase()),
    }
}

/// `SET k = v`, `SET k TO v`, `SET SESSION k = v`.
fn set(rest: &[String]) -> Option<Command> {
    let rest = match rest {
        [word, rest @ ..] if word.eq_ignore_ascii_case("SESSION") => rest,
        rest => rest,
    };
    let (key, value) = match rest {
        [key, sign, value] if sign == "=" || sign.eq_ignore_ascii_case("TO") => (key, value),
        _ => return None,
    };
    Some(Command::Set {
        key: key.to_ascii_lowercase(),
        value: value.clone(),
    })
}

/// Words, quoted names and `=`; semicolons at the end are dropped, a second command is not taken.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_matches(|c: char| c.is_whitespace() || c == ';');
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(words);
        };
        match first {
            '"' | '\'' => {
                let (word, after) = quoted(&rest[1..], first).ok_or("unterminated quoted string")?;
                words.push(word);
                rest = after;
            }
            '=' => {
                words.push("=".to_owned());
                rest = &rest[1..];
            }
            ';' => return Err("the console takes one command at a time".to_owned()),
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\'');
                let end = rest.find(ends).unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                rest = &rest[end..];
            }
        }
    }
}

/// Up to the closing quote; a doubled one stands for itself.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            word.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            chars.next();
            word.push(quote);
        } else {
            return Some((word, &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, command: &Command) {
        assert_eq!(parse(text).as_ref(), Ok(command), "{text}");
    }

    #[test]
    fn commands_are_read_as_people_write_them() {
        check("", &Command::Nothing);
        check(" ; ", &Command::Nothing);
        check("SHOW STATS", &Command::Show(Show::Stats));
        check("show stats_totals;", &Command::Show(Show::StatsTotals));
        check("select Pools ;;", &Command::Show(Show::Pools));
        check("SELECT 1", &Command::Show(Show::One));
        check("SHOW", &Command::Show(Show::Help));
        check(
            "show Client_Encoding",
            &Command::Show(Show::Setting("client_encoding")),
        );
        check("SHOW TIME ZONE", &Command::Show(Show::Setting("timezone")));
        check("pause", &Command::Pause(None));
        check("PAUSE \"a \"\"b\"\"\";", &Command::Pause(Some("a \"b\"".into())));
        check("resume App", &Command::Resume(Some("App".into())));
        check("pause shard s1", &Command::PauseShard("s1".into()));
        check("RESUME SHARD s1;", &Command::ResumeShard("s1".into()));
        let chosen = Command::ChoosePrimary {
            shard: "s1".into(),
            server: "db2:5432".into(),
        };
        check("CHOOSE_PRIMARY s1 db2:5432", &chosen);
        check("KILL_CLIENT 7", &Command::KillClient("7".into()));
        check("SHUTDOWN", &Command::Shutdown(Shutdown::Now));
        check(
            "shutdown wait_for_clients",
            &Command::Shutdown(Shutdown::WaitForClients),
        );
        for text in [
            "SET pool_size=5",
            "set POOL_SIZE = '5'",
            "SET pool_size TO 5;",
            "set session pool_size to 5",
        ] {
            let set = Command::Set {
                key: "pool_size".into(),
                value: "5".into(),
            };
            check(text, &set);
        }
    }

    #[test]
    fn what_is_not_understood_says_so() {
        for text in [
            "SHOW NOTHING",
            "SELECT 2",
            "SELECT",
            "PAUSE a b",
            "ENABLE",
            "KILL_CLIENT",
            "RELOAD now",
            "SHUTDOWN later",
            "SET a",
            "SHOW STATS; SHOW POOLS",
            "SHOW 'x",
            "DROP TABLE t",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"x".repeat(COMMAND_BYTES_MAX + 1)).is_err());
    }
}

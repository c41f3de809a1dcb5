//! Logs, on stderr: text for people at a terminal, JSON for everything else.

use std::env::{self, VarError};
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::metadata::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::nearest::distance;

/// What most programs log when `RUST_LOG` says nothing.
pub const DEFAULT_FILTER: &str = "info";

/// Why there are no logs; the operator is at fault, or a program that starts them twice.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is no filter.
    #[error(
        "RUST_LOG = {filter:?}: {reason}; expected a level (error, warn, info, debug, trace, off) or targets with levels, as in info,comet=debug"
    )]
    Filter {
        /// What it says.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This process logs already.
    #[error("logs were started twice: {0}")]
    Twice(String),
}

/// Starts the logs of this process, filtered by `RUST_LOG`, or by `default` when it is not set or empty. They are text when
/// stderr is a terminal, JSON otherwise.
pub fn init(default: &str) -> Result<(), TelemetryError> {
    let text = match env::var("RUST_LOG") {
        Ok(text) => text,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(raw)) => return Err(wrong(&raw.to_string_lossy(), "not UTF-8")),
    };
    let style = if io::stderr().is_terminal() {
        Style::Text { colours: true }
    } else {
        Style::Json
    };
    let subscriber = subscriber(style, filter(&text, default)?, io::stderr);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|e| TelemetryError::Twice(e.to_string()))
}

#[derive(Clone, Copy)]
enum Style {
    Json,
    Text { colours: bool },
}

fn subscriber<W>(style: Style, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written must not end whatever was to be logged: complaining on a closed stderr panics.
        .log_internal_errors(false)
        .with_writer(writer);
    match style {
        Style::Json => Box::new(builder.json().flatten_event(true).finish()),
        Style::Text { colours } => Box::new(builder.with_ansi(colours).finish()),
    }
}

fn filter(text: &str, default: &str) -> Result<EnvFilter, TelemetryError> {
    let text = if text.trim().is_empty() {
        default
    } else {
        text.trim()
    };
    if let Some((word, level)) = text.split(',').find_map(misspelt_level) {
        return Err(wrong(
            text,
            &format!("{word:?} is no level, did you mean {level:?}?"),
        ));
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| wrong(text, &error.to_string()))
}

/// A single word that is nearly a level. It would be taken as the name of a target, and everything else be silent.
fn misspelt_level(directive: &str) -> Option<(&str, &'static str)> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const FOREIGN: [(&str, &str); 5] = [
        ("warning", "warn"),
        ("err", "error"),
        ("fatal", "error"),
        ("verbose", "trace"),
        ("none", "off"),
    ];
    let word = directive.trim();
    let lower = word.to_lowercase();
    if lower.parse::<LevelFilter>().is_ok() {
        return None;
    }
    let foreign = FOREIGN
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, level)| *level);
    let near = || {
        LEVELS
            .into_iter()
            .find(|level| distance(&lower, level) <= level.len() / 3)
    };
    Some((word, foreign.or_else(near)?))
}

fn wrong(filter: &str, reason: &str) -> TelemetryError {
    TelemetryError::Filter {
        filter: filter.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that two events, at info and at debug, leave behind.
    fn lines(style: Style, rust_log: &str) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(
            style,
            filter(rust_log, DEFAULT_FILTER).unwrap(),
            move || writer.clone(),
        );
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "comet::door", port = 3101, "listening");
            tracing::debug!(target: "comet::door", "detail");
        });
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(Into::into)
            .collect()
    }

    #[test]
    fn the_default_holds_where_nothing_is_said() {
        let level = |text| filter(text, "debug").unwrap().to_string();
        assert_eq!([level(""), level("warn")], ["debug", "warn"]);
        for rust_log in ["", "  ", "info", "INFO"] {
            assert_eq!(lines(Style::Json, rust_log).len(), 1);
        }
    }

    #[test]
    fn targets_have_levels_of_their_own() {
        assert_eq!(lines(Style::Json, "info,comet=debug").len(), 2);
        assert_eq!(lines(Style::Json, "comet").len(), 2);
        assert_eq!(lines(Style::Json, "info,comet::door=warn").len(), 0);
        assert_eq!(lines(Style::Json, "off").len(), 0);
    }

    #[test]
    fn events_are_json_or_text() {
        let json = &lines(Style::Json, "")[0];
        assert!(json.starts_with('{') && json.ends_with('}'), "{json}");
        for part in [
            r#""level":"INFO""#,
            r#""message":"listening""#,
            r#""port":3101"#,
            r#""target":"comet::door""#,
        ] {
            assert!(json.contains(part), "{json}");
        }
        let text = &lines(Style::Text { colours: false }, "")[0];
        assert!(
            text.ends_with(" INFO comet::door: listening port=3101"),
            "{text}"
        );
        assert!(lines(Style::Text { colours: true }, "")[0].contains('\u{1b}'));
    }

    #[test]
    fn a_wrong_filter_is_an_error() {
        let text = |rust_log| filter(rust_log, DEFAULT_FILTER).unwrap_err().to_string();
        let expected = "expected a level (error, warn, info, debug, trace, off) or targets with levels, as in \
                        info,comet=debug";
        assert_eq!(
            text("inffo"),
            format!(
                "RUST_LOG = \"inffo\": \"inffo\" is no level, did you mean \"info\"?; {expected}"
            )
        );
        assert_eq!(
            text("comet=debug, warning"),
            format!(
                "RUST_LOG = \"comet=debug, warning\": \"warning\" is no level, did you mean \"warn\"?; {expected}"
            )
        );
        for rust_log in ["comet=loud", "comet=info=debug", "a[b", "verbose"] {
            let error = text(rust_log);
            assert!(
                error.starts_with(&format!("RUST_LOG = \"{rust_log}\": ")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_second_start_is_an_error() {
        // Whoever comes first in this process, the second fails.
        let results = [init(DEFAULT_FILTER), init(DEFAULT_FILTER)];
        assert!(
            matches!(results, [Ok(()), Err(TelemetryError::Twice(_))]),
            "{results:?}"
        );
    }
}

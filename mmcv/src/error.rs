//! The one error type of the core: each variant says which file, key or sample it is about.

use std::path::{Path, PathBuf};

use crate::config::Origin;

/// Result of everything outside `new` and `forward` of a component.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by whose fault it is: [`Error::is_usage`] tells configs and
/// arguments (exit code 2) from data and runs (exit code 1).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A config that can't be read, merged or understood.
    #[error("{origin}{}: {message}", if path.is_empty() { String::new() } else { format!(": {path}") })]
    Config {
        /// File and line that set the value, when known.
        origin: Origin,
        /// Dotted key, empty for the file as a whole.
        path: String,
        /// What was found, what is allowed, the nearest name.
        message: String,
    },
    /// Bad command line arguments.
    #[error("{0}")]
    Usage(String),
    /// A file that can't be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be (image, annotation, archive).
    #[error("{}: {message}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, naming the record when there is one.
        message: String,
    },
    /// A checkpoint that can't be read or doesn't fit the model.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The file or URL.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor operation that failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A run that can't go on (a loss that is not finite, an interrupted loop).
    #[error("{0}")]
    Run(String),
}

impl Error {
    /// An IO error of `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// A content error of `path`.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A checkpoint error of `path`.
    pub fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A config error without a place, for values made in code.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config { origin: Origin::default(), path: String::new(), message: message.into() }
    }

    /// Whether the user's config or arguments are at fault (exit code 2) rather than data or the run (1).
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config { .. } | Self::Usage(_))
    }

    /// Puts `key` in front of a config error's dotted path; other errors pass unchanged.
    #[must_use]
    pub fn under(self, key: &str) -> Self {
        match self {
            Self::Config { origin, path, message } => {
                let path = if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") };
                Self::Config { origin, path, message }
            }
            other => other,
        }
    }

    /// Gives a config error without a place that of `at`.
    #[must_use]
    pub fn at(self, at: &Origin) -> Self {
        match self {
            Self::Config { origin, path, message } if origin.file.is_none() => {
                Self::Config { origin: at.clone(), path, message }
            }
            other => other,
        }
    }
}

/// `"; did you mean 'x'?"` for the nearest of `known`, or nothing when none is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |n| format!("; did you mean '{n}'?"))
}

/// The nearest of `known` to `name`, if it is near enough to be a typo.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), k))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

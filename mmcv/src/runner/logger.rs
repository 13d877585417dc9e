//! A run's log: on the terminal, coloured and under a progress bar where it is one, and in `<timestamp>.log`.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;

use super::clock::asctime;
use crate::{Error, Result};

/// Writes lines as mmcv's logger does: `2024-01-31 23:59:59,123 - mmdet - INFO - text`.
#[derive(Debug)]
pub struct RunLogger {
    name: String,
    console: bool,
    terminal: bool,
    file: Option<(PathBuf, File)>,
    bar: Option<ProgressBar>,
}

impl RunLogger {
    /// A logger called `name` that writes to standard error if `console`.
    pub fn new(name: &str, console: bool) -> Self {
        let terminal = console && std::io::stderr().is_terminal();
        Self { name: name.to_owned(), console, terminal, file: None, bar: None }
    }

    /// Writes to `path` too, behind what is there.
    pub fn open(&mut self, path: &Path) -> Result<()> {
        let file = File::options().create(true).append(true).open(path).map_err(|e| Error::io(path, e))?;
        self.file = Some((path.to_owned(), file));
        Ok(())
    }

    /// A line of information.
    pub fn info(&mut self, text: &str) -> Result<()> {
        self.line("INFO", text)
    }

    /// A warning.
    pub fn warn(&mut self, text: &str) -> Result<()> {
        self.line("WARNING", text)
    }

    fn line(&mut self, level: &str, text: &str) -> Result<()> {
        let time = asctime(SystemTime::now());
        if self.console {
            let name = &self.name;
            let line = match (self.terminal, level) {
                (false, _) => format!("{time} - {name} - {level} - {text}"),
                (true, "INFO") => match text.split_once('\t') {
                    // `Epoch [1][50/100]` stands out.
                    Some((head, rest)) => format!("{} {}  {rest}", time.dimmed(), head.cyan().bold()),
                    None => format!("{} {text}", time.dimmed()),
                },
                (true, _) => format!("{} {} {text}", time.dimmed(), level.yellow().bold()),
            };
            // A terminal that is gone doesn't end the run.
            let write = || {
                let _ = writeln!(std::io::stderr(), "{line}");
            };
            match &self.bar {
                Some(bar) => bar.suspend(write),
                None => write(),
            }
        }
        if let Some((path, file)) = &mut self.file {
            writeln!(file, "{time} - {} - {level} - {text}", self.name).map_err(|e| Error::io(path, e))?;
        }
        Ok(())
    }

    /// Starts a progress bar of `len` steps at `position`, if the output is a terminal.
    pub fn start_bar(&mut self, label: &str, len: usize, position: usize) {
        self.end_bar();
        if !self.terminal {
            return;
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {per_sec} eta {eta} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = ProgressBar::new(len as u64).with_style(style).with_position(position as u64);
        bar.set_prefix(label.to_owned());
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Starts a bar unless there is one (evaluation takes it away).
    pub fn ensure_bar(&mut self, label: &str, len: usize, position: usize) {
        if self.bar.is_none() {
            self.start_bar(label, len, position);
        }
    }

    /// Moves the bar on, with a message behind it.
    pub fn step_bar(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            bar.inc(1);
        }
    }

    /// Takes the bar away.
    pub fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for RunLogger {
    fn drop(&mut self) {
        self.end_bar();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_in_mmcvs_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for text in ["one", "two"] {
            let mut log = RunLogger::new("mmdet", false);
            log.open(&path).unwrap();
            log.warn(text).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|l| &l[23..]).collect();
        assert_eq!(lines, [" - mmdet - WARNING - one", " - mmdet - WARNING - two"]);
        assert!(RunLogger::new("a", false).open(&dir.path().join("no/b.log")).is_err());
    }
}

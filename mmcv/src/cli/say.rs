//! Writing what a command was asked for to standard output.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

use crate::error::{Error, Result};

/// Writes a line to standard output. A reader that has enough (`| head`) is no error; a full disk is one.
pub fn say(line: Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}

/// As `println!`, but output that can't be written is an error in place of a panic; see [`cli::say`](crate::cli::say()).
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::say(::std::format_args!($($arg)*)) };
}

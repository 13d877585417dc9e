//! What a case is.

use std::time::{Duration, Instant};

use anyhow::Result;

/// One run of a case, giving the time that counts.
pub type Run = Box<dyn FnMut() -> Result<Duration>>;

/// A case whose whole run counts.
pub fn whole(mut f: impl FnMut() -> Result<()> + 'static) -> Run {
    Box::new(move || {
        let start = Instant::now();
        f()?;
        Ok(start.elapsed())
    })
}

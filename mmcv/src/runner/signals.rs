//! Ending a run from outside.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a run to end after the iteration that is going on. Clones are one flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag that SIGINT and SIGTERM set, from the first call on. The second signal ends the process at once.
    pub fn on_signal() -> Self {
        static FLAG: OnceLock<StopFlag> = OnceLock::new();
        FLAG.get_or_init(|| {
            let flag = StopFlag::default();
            let seen = flag.clone();
            let set = ctrlc::set_handler(move || {
                if seen.requested() {
                    std::process::exit(130);
                }
                seen.request();
                let _ = writeln!(std::io::stderr(), "stopping after this iteration (once more to stop at once)");
            });
            if let Err(e) = set {
                // The program has a handler of its own: it may use the flag in the run's state.
                tracing::debug!("signals are handled elsewhere: {e}");
            }
            flag
        })
        .clone()
    }
}

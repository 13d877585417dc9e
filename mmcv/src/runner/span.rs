//! Named parts of a training step, timed when a profiler asks for it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// One part that was timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanTime {
    /// Its name behind those of the parts around it: `backbone.layer1`.
    pub name: String,
    /// When it began.
    pub start: Instant,
    /// How long it took, parts in it included.
    pub length: Duration,
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static PATH: RefCell<String> = const { RefCell::new(String::new()) };
    static SEEN: RefCell<Vec<SpanTime>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` as the part called `name`. It costs nothing but a look at a flag unless [`record_spans`] is on.
///
/// ```
/// use mmcv::runner::{record_spans, span, take_spans};
///
/// record_spans(true);
/// let y = span("backbone", || span("layer1", || 1) + 1);
/// record_spans(false);
/// let names: Vec<_> = take_spans().into_iter().map(|s| s.name).collect();
/// assert_eq!((y, names), (2, vec!["backbone".to_owned(), "backbone.layer1".to_owned()]));
/// ```
pub fn span<T>(name: &str, f: impl FnOnce() -> T) -> T {
    if !ON.get() {
        return f();
    }
    /// Leaves the part, also when `f` panics.
    struct Leave {
        outer: usize,
        at: usize,
    }
    impl Drop for Leave {
        fn drop(&mut self) {
            PATH.with_borrow_mut(|path| path.truncate(self.outer));
            SEEN.with_borrow_mut(|seen| {
                // It is gone when the list was taken in between.
                if let Some(s) = seen.get_mut(self.at) {
                    s.length = s.start.elapsed();
                }
            });
        }
    }
    let (outer, full) = PATH.with_borrow_mut(|path| {
        let outer = path.len();
        if outer > 0 {
            path.push('.');
        }
        path.push_str(name);
        (outer, path.clone())
    });
    let at = SEEN.with_borrow_mut(|seen| {
        seen.push(SpanTime { name: full, start: Instant::now(), length: Duration::ZERO });
        seen.len() - 1
    });
    let _leave = Leave { outer, at };
    f()
}

/// Whether [`span`] times its parts, on this thread.
pub fn record_spans(on: bool) {
    ON.set(on);
}

/// The parts that were timed on this thread since the last call, in the order in which they began.
pub fn take_spans() -> Vec<SpanTime> {
    SEEN.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_timed_only_when_asked_and_survive_a_panic() {
        span("off", || ());
        assert!(take_spans().is_empty());
        record_spans(true);
        let panic = std::panic::catch_unwind(|| span("a", || span("b", || panic!("x"))));
        assert!(panic.is_err());
        span("c", || std::thread::sleep(Duration::from_millis(2)));
        record_spans(false);
        let seen = take_spans();
        assert_eq!(seen.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "a.b", "c"]);
        assert!(seen[2].length >= Duration::from_millis(2) && seen[0].length >= seen[1].length);
        assert!(take_spans().is_empty());
    }
}

//! When logs are written, and numbers as Python writes them.

use super::super::{Mode, RunState};

/// mmcv's `LoggerHook`: averages the log buffer at intervals.
#[derive(Debug, Clone)]
pub struct LogEvery {
    /// Iterations between two logs.
    pub interval: usize,
    /// Whether the iterations behind an epoch's last full interval are not logged.
    pub ignore_last: bool,
    /// Whether the buffer's output is emptied after logging.
    pub reset: bool,
    /// Whether iterations are counted within their epoch.
    pub by_epoch: bool,
}

impl LogEvery {
    /// Averages if it is time to; whether there is something to be logged.
    pub fn after_train_iter(&self, state: &mut RunState) -> bool {
        let full =
            if self.by_epoch { state.every_n_inner_iters(self.interval) } else { state.every_n_iters(self.interval) };
        if full || (state.end_of_epoch() && !self.ignore_last) {
            state.log_buffer.average(self.interval);
        }
        state.log_buffer.ready
    }

    /// After a log: empties the output if that is this logger's task.
    pub fn logged(&self, state: &mut RunState) {
        if self.reset {
            state.log_buffer.clear_output();
        }
    }

    /// `train` or `val`: what the buffer's output is of.
    pub fn mode(state: &RunState) -> &'static str {
        match state.mode {
            Mode::Train if state.log_buffer.output.contains_key("time") => "train",
            _ => "val",
        }
    }

    /// The epoch that a log is of, from 1 on.
    pub fn epoch(state: &RunState) -> usize {
        match state.mode {
            Mode::Train => state.epoch + 1,
            Mode::Val => state.epoch,
        }
    }
}

/// Python's `repr` of a float: the shortest digits that read back, `1e-05` for small and large ones.
pub fn python_float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let exponent = if v == 0.0 { 0 } else { v.abs().log10().floor() as i32 };
    // Near a power of ten the logarithm may be off by one; the digits decide.
    let text = format!("{v:e}");
    let exponent = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(exponent);
    if v != 0.0 && !(-4..16).contains(&exponent) {
        let mantissa = text.split_once('e').map_or(text.as_str(), |(m, _)| m);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{v}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

/// `1.000e-03`: Python's `{:.3e}`.
pub(super) fn exp3(v: f64) -> String {
    let text = format!("{v:.3e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// Python's `round(v, 5)`.
pub(super) fn round5(v: f64) -> f64 {
    if v.is_finite() { format!("{v:.5}").parse().unwrap_or(v) } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [repr(v) for v in (...)], [f'{v:.3e}' for v in (...)], [round(v, 5) for v in (...)]
    #[test]
    fn numbers_are_written_as_python_does() {
        for (v, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-1.5e-7, "-1.5e-07"),
            (1e16, "1e+16"),
            (123456789012345.0, "123456789012345.0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(python_float(v), text);
        }
        assert_eq!(
            [exp3(0.001), exp3(0.02), exp3(12345.678), exp3(0.0)],
            ["1.000e-03", "2.000e-02", "1.235e+04", "0.000e+00"]
        );
        assert_eq!([round5(0.123456), round5(1.000005), round5(2.675e-3)], [0.12346, 1.00001, 0.00267]);
    }
}

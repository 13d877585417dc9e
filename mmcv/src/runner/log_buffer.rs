//! Values since the last log, and their averages.

use indexmap::IndexMap;

/// A logged value.
#[derive(Debug, Clone, PartialEq)]
pub enum LogValue {
    /// A number.
    Number(f64),
    /// Text (`bbox_mAP_copypaste`).
    Text(String),
}

impl LogValue {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(v) = self { Some(*v) } else { None }
    }
}

impl From<f64> for LogValue {
    fn from(v: f64) -> Self {
        Self::Number(v)
    }
}
impl From<String> for LogValue {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<&str> for LogValue {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}

/// mmcv's `LogBuffer`: hooks put values in, loggers take averages out.
#[derive(Debug, Clone, Default)]
pub struct LogBuffer {
    history: IndexMap<String, Vec<(f64, usize)>>,
    /// What is to be logged.
    pub output: IndexMap<String, LogValue>,
    /// Whether `output` is new.
    pub ready: bool,
    /// Number of batches of the evaluation that `output` is of.
    pub eval_iter_num: Option<usize>,
}

impl LogBuffer {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.history.clear();
        self.clear_output();
    }

    /// Forgets the output; the history stays.
    pub fn clear_output(&mut self) {
        self.output.clear();
        self.ready = false;
    }

    /// Adds a value that stands for `count` samples.
    pub fn update(&mut self, name: &str, value: f64, count: usize) {
        match self.history.get_mut(name) {
            Some(values) => values.push((value, count)),
            None => {
                self.history.insert(name.to_owned(), vec![(value, count)]);
            }
        }
    }

    /// Puts the means of the last `n` values (0: all), weighted by their counts, into the output.
    pub fn average(&mut self, n: usize) {
        for (name, values) in &self.history {
            let last = &values[if n == 0 { 0 } else { values.len().saturating_sub(n) }..];
            let total: usize = last.iter().map(|v| v.1).sum();
            let sum: f64 = last.iter().map(|(v, count)| v * *count as f64).sum();
            self.output.insert(name.clone(), (sum / total as f64).into());
        }
        self.ready = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // b = LogBuffer(); [b.update(dict(a=v), n) for v, n in ((1., 1), (2., 3), (4., 1))]
    // b.average(2); b.output == {'a': 2.5}; b.average(); b.output == {'a': 2.2}
    #[test]
    fn averages_are_weighted() {
        let mut b = LogBuffer::default();
        for (v, n) in [(1.0, 1), (2.0, 3), (4.0, 1)] {
            b.update("a", v, n);
        }
        b.average(2);
        assert_eq!(b.output["a"], LogValue::Number(2.5));
        b.average(0);
        assert_eq!(b.output["a"], LogValue::Number(2.2));
        assert!(b.ready);
        b.clear();
        assert!(b.output.is_empty() && !b.ready);
    }
}

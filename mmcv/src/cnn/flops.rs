//! Counting what a forward pass costs, in mmcv's convention (`get_model_complexity_info`): one multiply-add is one FLOP,
//! a bias one more per output; batch norm costs two per value, an activation or a pool one per input value.

use std::cell::RefCell;

/// One layer's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its path in the model.
    pub path: String,
    /// Its type.
    pub kind: &'static str,
    /// Multiply-adds.
    pub flops: u64,
}

thread_local!(static COUNT: RefCell<Option<Vec<Layer>>> = const { RefCell::new(None) });

/// Runs `f` and tells what the layers in it cost, in order. Counts on this thread only; not to be nested.
pub fn count<T>(f: impl FnOnce() -> T) -> (T, Vec<Layer>) {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            COUNT.take();
        }
    }
    COUNT.set(Some(Vec::new()));
    let _guard = Guard;
    let value = f();
    (value, COUNT.take().unwrap_or_default())
}

/// Adds a layer's cost when someone counts.
pub fn record(path: &str, kind: &'static str, flops: impl FnOnce() -> u64) {
    COUNT.with_borrow_mut(|layers| {
        if let Some(layers) = layers {
            layers.push(Layer { path: path.to_owned(), kind, flops: flops() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_counted_pass_is_counted() {
        record("a", "Conv2d", || 1);
        let (value, layers) = count(|| {
            record("b", "Conv2d", || 2);
            7
        });
        assert_eq!((value, layers.len(), layers[0].flops), (7, 1, 2));
        assert!(count(|| ()).1.is_empty());
    }
}

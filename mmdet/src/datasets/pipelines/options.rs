//! Shapes that several steps' options take.

use mmcv::config::Node;
pub use mmcv::config::OneOrMany;
use mmcv::{Error, Result};

/// Reads `(a, b)` or `[(a, b), ...]`; the name is for messages.
pub(super) fn pairs(node: &Node, what: &str) -> Result<Vec<[f64; 2]>> {
    let wrong = || node.error(format!("{what}: found {}, expected (a, b) or a list of such pairs", node.kind()));
    let items = node.as_list().ok_or_else(wrong)?;
    if let Some(pair) = pair(node) {
        return Ok(vec![pair]);
    }
    if items.is_empty() {
        return Err(node.error(format!("{what}: the list is empty")));
    }
    items.iter().map(|n| pair(n).ok_or_else(|| n.error(format!("{what}: expected pairs of numbers")))).collect()
}

/// Two numbers.
pub(super) fn pair(node: &Node) -> Option<[f64; 2]> {
    match node.as_list()? {
        [a, b] => Some([a.as_f64()?, b.as_f64()?]),
        _ => None,
    }
}

/// Refuses a condition that does not hold.
pub(super) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(message())) }
}

/// `true`, for `serde(default)`.
pub(crate) fn yes() -> bool {
    true
}

//! Whether convolutions may round more than sums of products do.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const EXACT: u8 = 1;
const FAST: u8 = 2;

static CHOICE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Leaves out (or lets in again) the kernels whose rounding errors are larger than those of sums of products: Winograd's, about
/// 2e-5 of the largest output instead of 1e-6. Without a call the variable `MMCV_EXACT=1` decides.
pub fn set_exact(exact: bool) {
    CHOICE.store(if exact { EXACT } else { FAST }, Ordering::Relaxed);
}

/// Whether they are left out.
pub(super) fn is_exact() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let exact = std::env::var("MMCV_EXACT").as_deref() == Ok("1");
            set_exact(exact);
            exact
        }
        choice => choice == EXACT,
    }
}

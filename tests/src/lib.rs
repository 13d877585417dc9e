//! End-to-end, golden and cross-crate tests (see `tests/`).

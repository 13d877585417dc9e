//! The `mmcls` binary: one thin front over the shared command line.

use std::process::ExitCode;

// Keeps large buffers instead of handing them back to the kernel after each op.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mmcv::cli::main("mmcls", "Image classification: MMClassification in Rust", &mmcls::tools::COMMANDS)
}

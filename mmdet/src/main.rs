//! The `mmdet` binary: one thin front over the shared command line.

use std::process::ExitCode;

// Keeps large buffers instead of handing them back to the kernel after each op.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mmcv::cli::main("mmdet", "Object detection: MMDetection in Rust", &mmdet::tools::COMMANDS)
}

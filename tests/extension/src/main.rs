//! `mmdet` with this crate's components: the same commands over one registry more.

use std::process::ExitCode;

// Linking it registers them; without this line the linker would leave them out.
use extension as _;

// Keeps large buffers instead of handing them back to the kernel after each op.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mmcv::cli::main("extension", "Object detection with the extension's components", &mmdet::tools::COMMANDS)
}

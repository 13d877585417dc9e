//! `mmcls` with this crate's network and command.

use std::process::ExitCode;

// Keeps large buffers instead of handing them back to the kernel after each op.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Naming the crate links it, which registers its network.
    let mut commands = vec![cifar_resnet::import::COMMAND];
    commands.extend(mmcls::tools::COMMANDS);
    mmcv::cli::main("cifar-resnet", "Image classification with the CIFAR ResNets of the original paper", &commands)
}

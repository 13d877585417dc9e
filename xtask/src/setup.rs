//! What a build needs, what it could use, and how to get it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Something that a build can use.
struct Tool {
    name: &'static str,
    /// What it gives.
    gives: &'static str,
    /// A command that succeeds where it is there.
    probe: &'static [&'static str],
    /// Debian's packages.
    packages: &'static [&'static str],
    /// Whether a build fails without it.
    needed: bool,
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "cmake",
        gives: "builds the vendored libjpeg-turbo",
        probe: &["cmake", "--version"],
        packages: &["cmake"],
        needed: true,
    },
    Tool {
        name: "nasm",
        gives: "libjpeg-turbo's SIMD",
        probe: &["nasm", "--version"],
        packages: &["nasm"],
        needed: true,
    },
    Tool {
        name: "OpenCV",
        gives: "nothing yet: images are read by libjpeg-turbo and pure Rust",
        probe: &["pkg-config", "--exists", "opencv4"],
        packages: &["libopencv-dev", "clang", "libclang-dev"],
        needed: false,
    },
    Tool {
        name: "FFmpeg",
        gives: "nothing yet: no framework here reads video",
        probe: &["pkg-config", "--exists", "libavcodec"],
        packages: &["libavcodec-dev", "libavformat-dev", "libswscale-dev", "libavutil-dev"],
        needed: false,
    },
    Tool {
        name: "MPI",
        gives: "nothing yet: training runs on one rank",
        probe: &["mpicc", "--version"],
        packages: &["libopenmpi-dev", "openmpi-bin"],
        needed: false,
    },
    Tool {
        name: "CUDA",
        gives: "nothing yet: every op runs on the CPU",
        probe: &["nvcc", "--version"],
        packages: &[],
        needed: false,
    },
];

fn there(tool: &Tool) -> bool {
    tool.probe
        .split_first()
        .is_some_and(|(program, args)| Command::new(program).args(args).output().is_ok_and(|o| o.status.success()))
}

/// Installs what a build needs and lacks; says what is missing where it may not.
pub fn needed() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|t| t.needed && !there(t)).collect();
    install(&missing)
}

/// `cargo xtask setup`: a line for each tool. Installs the needed ones, and with `--all` the optional ones.
pub fn report(all: bool) -> Result<()> {
    let mut wanted = Vec::new();
    for tool in &TOOLS {
        let here = there(tool);
        let word = if here { "there  " } else { "missing" };
        let need = if tool.needed { "needed" } else { "optional" };
        println!("{word}  {:<7} {need:<9} {}", tool.name, tool.gives);
        if !here && (tool.needed || all) {
            wanted.push(tool);
        }
    }
    install(&wanted)
}

fn install(tools: &[&Tool]) -> Result<()> {
    let packages: Vec<&str> = tools.iter().flat_map(|t| t.packages.iter().copied()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = tools.iter().map(|t| t.name).collect();
    eprintln!("missing: {}", names.join(", "));
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if !root {
        bail!("install them first: sudo apt-get install -y {}", packages.join(" "));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get").args(["install", "-y", "-qq"]).args(&packages))
}

/// Whether `cargo <name>` is there.
pub fn cargo_has(name: &str) -> bool {
    Command::new(crate::cargo_path()).args([name, "--version"]).output().is_ok_and(|o| o.status.success())
}

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
    /// The cargo feature that uses it.
    feature: Option<&'static str>,
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "cmake",
        gives: "builds the vendored libjpeg-turbo",
        probe: &["cmake", "--version"],
        packages: &["cmake"],
        needed: true,
        feature: None,
    },
    Tool {
        name: "nasm",
        gives: "libjpeg-turbo's SIMD",
        probe: &["nasm", "--version"],
        packages: &["nasm"],
        needed: true,
        feature: None,
    },
    Tool {
        name: "OpenCV",
        gives: "the image backend `opencv`",
        probe: &["sh", "-c", "pkg-config --exists opencv4 && clang --version"],
        packages: &["libopencv-dev", "clang", "libclang-dev"],
        needed: false,
        feature: Some("opencv"),
    },
    Tool {
        name: "FFmpeg",
        gives: "nothing yet: no framework here reads video",
        probe: &["pkg-config", "--exists", "libavcodec"],
        packages: &["libavcodec-dev", "libavformat-dev", "libswscale-dev", "libavutil-dev"],
        needed: false,
        feature: None,
    },
    Tool {
        name: "MPI",
        gives: "nothing yet: training runs on one rank",
        probe: &["mpicc", "--version"],
        packages: &["libopenmpi-dev", "openmpi-bin"],
        needed: false,
        feature: None,
    },
    Tool {
        name: "CUDA",
        gives: "nothing yet: every op runs on the CPU",
        probe: &["nvcc", "--version"],
        packages: &[],
        needed: false,
        feature: None,
    },
];

fn there(tool: &Tool) -> bool {
    tool.probe
        .split_first()
        .is_some_and(|(program, args)| Command::new(program).args(args).output().is_ok_and(|o| o.status.success()))
}

/// The cargo features that `MMRS_FEATURES` asks for (`MMRS_FEATURES=opencv`), once what they need is there.
pub fn features() -> Result<String> {
    let asked = std::env::var("MMRS_FEATURES").unwrap_or_default();
    for feature in asked.split(',').map(str::trim).filter(|f| !f.is_empty()) {
        let Some(tool) = TOOLS.iter().find(|t| t.feature == Some(feature)) else {
            let known: Vec<&str> = TOOLS.iter().filter_map(|t| t.feature).collect();
            bail!("MMRS_FEATURES: '{feature}' is no feature (known: {})", known.join(", "));
        };
        if !there(tool) {
            install(&[tool])?;
        }
    }
    Ok(asked)
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
        let how = tool.feature.map_or_else(String::new, |f| format!(" (off; MMRS_FEATURES={f} builds it in)"));
        println!("{word}  {:<7} {need:<9} {}{how}", tool.name, tool.gives);
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
    crate::cargo_command().args([name, "--version"]).output().is_ok_and(|o| o.status.success())
}

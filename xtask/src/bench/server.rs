//! The two sides of a benchmark: what starts them, and what they run in.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{cargo_command, run};

/// One side: a process that answers a line with a line.
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it with `threads` threads and a folder for its files.
    pub fn start(program: &Path, script: Option<&Path>, threads: usize, scratch: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // glibc would give large buffers back to the kernel after each op.
        command.env("MALLOC_MMAP_THRESHOLD_", "4294967296").env("MALLOC_TRIM_THRESHOLD_", "8589934592");
        command.env("OMP_NUM_THREADS", threads.to_string()).env("RAYON_NUM_THREADS", threads.to_string());
        let mut child = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
        let mut server = Self { child, input, output: BufReader::new(output) };
        server.ask(&format!("prepare {}", scratch.display()))?;
        Ok(server)
    }

    /// Its answer to a line.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        // A library may print lines of its own.
        loop {
            answer.clear();
            if self.output.read_line(&mut answer)? == 0 {
                bail!("the process ended at '{line}'");
            }
            match answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), "")) {
                ("ok", value) => return Ok(value.to_owned()),
                ("error", text) => bail!("{text}"),
                _ => {}
            }
        }
    }

    /// Its answer as a number.
    pub fn number(&mut self, line: &str) -> Result<f64> {
        let text = self.ask(line)?;
        text.parse().with_context(|| format!("'{text}' is not a number"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder that cargo builds into.
pub fn target_dir() -> Result<PathBuf> {
    let out = cargo_command().args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let text = String::from_utf8(out.stdout)?;
    let (_, rest) = text.split_once("\"target_directory\":\"").context("cargo metadata has no target_directory")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// Builds our side; gives its path.
pub fn build() -> Result<PathBuf> {
    let args = ["bench", "--package", "mmdet", "--bench", "torch", "--no-run", "--message-format", "json"];
    let out = cargo_command().args(args).stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        bail!("the benchmark could not be built");
    }
    let text = String::from_utf8(out.stdout)?;
    let line = text.lines().rfind(|l| l.contains("\"executable\":\"")).context("cargo named no executable")?;
    let (_, rest) = line.split_once("\"executable\":\"").context("just found")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// A Python with the newest torch, made the first time.
pub fn python(target: &Path) -> Result<PathBuf> {
    let venv = target.join("torch");
    let python = venv.join("bin/python");
    let works = |p: &Path| {
        let mut import = Command::new(p);
        import.args(["-c", "import torch, torchvision"]).stderr(Stdio::null());
        import.status().is_ok_and(|s| s.success())
    };
    if !works(&python) {
        println!("installing torch and torchvision into {}", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-cache-dir",
            "torch",
            "torchvision",
            "numpy",
        ]))?;
    }
    Ok(python)
}

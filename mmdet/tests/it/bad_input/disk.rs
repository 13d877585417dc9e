//! Folders that can't be written to, and disks that are full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::site::{Site, partial};

/// A small file system in memory, where this may be mounted.
struct Small(PathBuf);

impl Small {
    /// Of so many KiB at `at`; nothing, with a word on it, without the right to mount.
    fn mount(at: &Path, kib: usize) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={kib}k");
        let made =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        if made.is_ok_and(|s| s.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: can't mount a tmpfs");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_work_folder_that_cant_be_made_is_one_error() {
    // The superuser may write anywhere but below a file.
    let site = Site::new();
    std::fs::write(site.path("file"), "").unwrap();
    for dir in ["file", "file/work", "/dev/full/work", "/proc/work"] {
        site.train(&["--work-dir", dir]).fails(1, &[dir]);
    }
    site.train(&["--no-validate"]).succeeds(&[]);
    let checkpoint = "work/epoch_1.safetensors";
    for args in [
        &["test", "config.toml", checkpoint, "--out", "file/results.json"][..],
        &["test", "config.toml", checkpoint, "--show-dir", "file/shown"],
        &["test", "config.toml", checkpoint, "--eval", "bbox", "--work-dir", "file/metrics"],
        &["infer", "config.toml", checkpoint, "images/0.png", "--out", "file/out"],
        &["checkpoint", "convert", checkpoint, "file/new.pth"],
        &["shapes", "file/shapes", "--train", "1", "--val", "1"],
    ] {
        let ran = site.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
        ran.says(&["file/"]);
    }
}

#[test]
fn a_full_disk_ends_the_run_and_leaves_what_was_whole() {
    let site = Site::new();
    let full = site.path("small");
    // Too small for a checkpoint (1.4 MB); then big enough for one and not for two.
    let Some(small) = Small::mount(&full, 700) else { return };
    let epochs = ["--work-dir", "small", "--no-validate", "--cfg-options", "runner.max_epochs=3"];
    site.train(&epochs).fails(1, &["small/epoch_1.safetensors", "No space left on device"]);
    assert!(!full.join("epoch_1.safetensors").exists());
    drop(small);

    let Some(_small) = Small::mount(&full, 2300) else { return };
    site.train(&epochs).fails(1, &["small/epoch_2.safetensors", "No space left on device"]);
    assert_eq!(partial(&full), Vec::<PathBuf>::new());
    assert!(!full.join("epoch_2.safetensors").exists());
    site.test("small/epoch_1.safetensors").succeeds(&[]);
    // It goes on from there when there is room: here, in another folder.
    std::fs::create_dir(site.path("work")).unwrap();
    std::fs::copy(full.join("epoch_1.safetensors"), site.path("work/epoch_1.safetensors")).unwrap();
    let rest = site.train(&["--auto-resume", "--no-validate", "--cfg-options", "runner.max_epochs=3"]);
    rest.succeeds(&["resumed epoch 1"]);
}

#[test]
fn a_full_disk_leaves_an_older_file_of_results() {
    let site = Site::new();
    site.train(&["--no-validate"]).succeeds(&[]);
    let Some(_small) = Small::mount(&site.path("small"), 64) else { return };
    let out = site.path("small/results.json");
    std::fs::write(&out, "[]").unwrap();
    std::fs::write(site.path("small/ballast"), vec![7; 60 << 10]).unwrap();
    let checkpoint = "work/epoch_1.safetensors";
    let ran = site.run(&[
        "test",
        "config.toml",
        checkpoint,
        "--out",
        "small/results.json",
        "--cfg-options",
        "model.test_cfg.score_thr=0",
    ]);
    ran.fails(1, &["small/results.json", "No space left on device"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"[]");
    let ran = site.run(&["checkpoint", "convert", checkpoint, "small/new.pth"]);
    ran.fails(1, &["small/new.pth", "No space left on device"]);
    let ran = site.run(&["infer", "config.toml", checkpoint, "images/0.png", "--out", "small/out"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    ran.says(&["small/out", "No space left on device"]);
}

/// Output that can't be written is an error where it is what was asked for; a reader that has enough (`| head`) is none.
#[test]
fn output_to_a_full_or_closed_pipe_never_panics() {
    let site = Site::new();
    site.train(&["--no-validate"]).succeeds(&[]);
    let commands: [&[&str]; 5] = [
        &["modules"],
        &["config", "dump", "config.toml"],
        &["checkpoint", "list", "work/epoch_1.safetensors"],
        &["test", "config.toml", "work/epoch_1.safetensors", "--eval", "bbox"],
        &["flops", "config.toml"],
    ];
    for args in commands {
        let run = |out: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mmdet"));
            command.current_dir(site.path("")).args(args).stdout(out).stderr(Stdio::piped()).output().unwrap()
        };
        let full = run(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
        let stderr = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked") && stderr.contains("No space left on device"), "{args:?}: {stderr}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = run(writer.into());
        let stderr = String::from_utf8_lossy(&closed.stderr);
        assert_eq!(closed.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

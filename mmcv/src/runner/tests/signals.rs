//! Runs that are ended from outside: this test binary starts itself as the run and sends it signals.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::super::testing::run_dir;
use super::*;

const DIR: &str = "MMCV_TEST_RUN_DIR";
const CFG: &str = r#"{
    "lr_config": {"policy": "poly", "by_epoch": false}, "checkpoint_config": {"interval": 1},
    "custom_hooks": [{"type": "EMAHook", "momentum": 0.1, "priority": 49}]
}"#;

/// The run: 6 epochs of 10 iterations, 20 ms each in the child. It does nothing unless it was started as one.
#[test]
fn run_of_the_child_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let line = Line::new();
    let mut r = runner(&line, RunLength::Epochs(6), Path::new(&dir), CFG);
    r.state.stop = crate::runner::StopFlag::on_signal();
    let slow = |_: &mut RunState| {
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    r.register_hook("Slow", Box::new(After(slow)), Priority::LOWEST);
    r.auto_resume().unwrap();
    if let Err(e) = r.run(&line, &loader(10, 5)) {
        println!("{e}");
        std::process::exit(1);
    }
}

fn start(dir: &Path) -> Child {
    let name = "runner::tests::signals::run_of_the_child_process";
    let me = std::env::current_exe().unwrap();
    Command::new(me).args(["--exact", name, "--nocapture"]).env(DIR, dir).spawn().unwrap()
}

/// Waits for `file`, then sends `signal`.
fn end(child: &mut Child, signal: &str, file: &Path) -> ExitStatus {
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} was not written", file.display());
        assert!(child.try_wait().unwrap().is_none(), "the run is over");
        std::thread::sleep(Duration::from_millis(5));
    }
    // In the middle of the epoch that follows.
    std::thread::sleep(Duration::from_millis(90));
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap()
}

fn whole() -> Vec<u32> {
    let (dir, line) = (run_dir(), Line::new());
    runner(&line, RunLength::Epochs(6), dir.path(), CFG).run(&line, &loader(10, 5)).unwrap();
    line.bits()
}

#[test]
#[cfg(unix)]
fn a_run_that_is_interrupted_terminated_and_killed_ends_as_if_it_never_was() {
    let dir = run_dir();
    let d = dir.path();
    for (signal, file, code) in [("-INT", "epoch_1.safetensors", Some(1)), ("-TERM", "epoch_2.safetensors", Some(1))] {
        let status = end(&mut start(d), signal, &d.join(file));
        assert_eq!(status.code(), code, "{signal}");
        // It was in the middle of an epoch, and left a checkpoint there.
        assert!(files(d).iter().any(|f| f.starts_with("iter_")), "{:?}", files(d));
    }
    let status = end(&mut start(d), "-KILL", &d.join("epoch_4.safetensors"));
    assert_eq!(status.code(), None);
    assert!(start(d).wait().unwrap().success());
    let line = Line::new();
    let mut r = runner(&line, RunLength::Epochs(6), d, CFG);
    r.resume(&d.join("epoch_6.safetensors")).unwrap();
    assert_eq!(line.bits(), whole());
    assert!(!files(d).iter().any(|f| f.starts_with(".tmp-")));
}

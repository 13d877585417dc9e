//! Runs that are ended from outside and go on with `--auto-resume`: their weights are those of a run never stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mmcv::checkpoint;

use super::site::{IMAGES, Ran, Site, partial};

const EPOCHS: usize = 3;

/// Three epochs of one image a batch, with a checkpoint after each `every` iterations, or each epoch.
fn site(every: Option<usize>) -> Site {
    let site = Site::new().edit("samples_per_gpu = 2", "samples_per_gpu = 1").edit("max_epochs = 1", "max_epochs = 3");
    match every {
        // A checkpoint of 22 MB: so large that a look every 100 us finds it half written.
        Some(n) => site
            .edit("{ interval = 1 }", &format!("{{ interval = {n}, by_epoch = false }}"))
            .edit("base_channels = 8", "base_channels = 32")
            .edit("[8, 16, 32, 64]", "[32, 64, 128, 256]"),
        None => site,
    }
}

/// Weights, buffers and the optimizer's state, to the bit.
fn bits(path: &Path) -> Vec<(String, Vec<u8>)> {
    let found = checkpoint::load(path).unwrap();
    let state = found.optimizer.unwrap();
    let optimizer = state.tensors.into_iter().map(|(k, v)| (format!("optimizer {k}"), v));
    let all = found.state_dict.into_iter().chain(optimizer);
    all.map(|(name, t)| {
        let values = t.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1::<f32>().unwrap();
        (name, values.into_iter().flat_map(f32::to_le_bytes).collect())
    })
    .collect()
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Looks every now and then until `found` gives something; `None` when the run is over before.
fn wait<T>(child: &mut Child, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "the run hangs");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn log(site: &Site) -> String {
    std::fs::read_to_string(site.path("log")).unwrap()
}

/// Resumes to the end and compares with a run that nothing stopped.
fn finishes_as(site: &Site, whole: &Site, last: &str) {
    site.train(&["--auto-resume", "--no-validate"]).succeeds(&["resumed epoch"]);
    let work = site.path("work");
    assert_eq!(partial(&work), Vec::<PathBuf>::new());
    assert!(bits(&work.join(last)) == bits(&whole.path("work").join(last)), "the weights differ");
}

#[test]
fn a_run_interrupted_in_an_epoch_goes_on_as_if_it_never_was() {
    let whole = site(None);
    whole.train(&["--no-validate"]).succeeds(&[]);
    let site = site(None);
    for (signal, after) in [("-INT", "Epoch [1][2/6]"), ("-TERM", "Epoch [2][3/6]")] {
        let mut child = site.start(&["--auto-resume", "--no-validate"], "log");
        wait(&mut child, || log(&site).contains(after).then_some(())).expect("the run is over before it is stopped");
        send(&child, signal);
        let ran = Ran::of(&child.wait_with_output().unwrap());
        let ran = Ran { stderr: log(&site), ..ran };
        ran.fails(1, &["stopped after iteration", &format!("of {}", EPOCHS * IMAGES), "--auto-resume"]);
        assert_eq!(partial(&site.path("work")), Vec::<PathBuf>::new());
    }
    let mut child = site.start(&["--auto-resume", "--no-validate"], "log");
    wait(&mut child, || log(&site).contains("Epoch [3][2/6]").then_some(()))
        .expect("the run is over before it is killed");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    finishes_as(&site, &whole, "epoch_3.safetensors");
}

#[test]
fn a_run_killed_while_it_writes_a_checkpoint_goes_on_as_if_it_never_was() {
    let whole = site(Some(1));
    whole.train(&["--no-validate"]).succeeds(&[]);
    let site = site(Some(1));
    let work = site.path("work");
    std::fs::create_dir(&work).unwrap();
    for kill in 1..=3 {
        let mut child = site.start(&["--auto-resume", "--no-validate"], "log");
        let before = work.join(format!("iter_{}.safetensors", 4 * kill));
        wait(&mut child, || before.exists().then_some(())).expect("the run is over before it is killed");
        loop {
            // The folder's first temporary file is the test of whether it can be written to.
            let seen = wait(&mut child, || {
                let found = partial(&work);
                found.into_iter().find(|f| std::fs::metadata(f).is_ok_and(|m| m.len() > 0))
            });
            let half = seen.unwrap_or_else(|| panic!("the run is over before kill {kill}: {}", log(&site)));
            send(&child, "-STOP");
            // It may have been renamed in between.
            if half.exists() && checkpoint::load(&half).is_err() {
                break;
            }
            send(&child, "-CONT");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(partial(&work).len(), 1);
    }
    finishes_as(&site, &whole, "iter_18.safetensors");
}

#[test]
fn an_interrupt_while_a_checkpoint_is_written_lets_it_be_finished() {
    let whole = site(Some(1));
    whole.train(&["--no-validate"]).succeeds(&[]);
    let site = site(Some(1));
    let mut child = site.start(&["--no-validate"], "log");
    let work = site.path("work");
    let found =
        || work.exists().then(|| partial(&work)).filter(|f| !f.is_empty() && work.join("iter_3.safetensors").exists());
    wait(&mut child, found).expect("the run is over before it is stopped");
    send(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(1), "{}", log(&site));
    assert_eq!(partial(&work), Vec::<PathBuf>::new());
    finishes_as(&site, &whole, "iter_18.safetensors");
}

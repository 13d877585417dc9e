use super::super::find_latest_checkpoint;
use super::super::testing::run_dir;
use super::*;

const HOOKS: &str = r#"{
    "lr_config": {"policy": "step", "step": [2, 3], "warmup": "linear", "warmup_iters": 6, "warmup_ratio": 0.01},
    "momentum_config": {"policy": "cyclic", "cyclic_times": 2},
    "optimizer_config": {"grad_clip": {"max_norm": 1.0}},
    "checkpoint_config": {"interval": 1},
    "custom_hooks": [{"type": "EMAHook", "momentum": 0.1, "warm_up": 3, "priority": 49}],
    "log_config": {"interval": 2, "hooks": [{"type": "TextLoggerHook"}]}
}"#;

/// Everything that a run ends with, to the bit: weights, averages, optimizer.
fn end(runner: &Runner, line: &Line) -> (Vec<u32>, Vec<Vec<u32>>, String) {
    let bits = |t: &candle_core::Tensor| -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let state = runner.state.optimizer.state();
    let tensors = runner.state.buffers.values().chain(state.tensors.values()).map(bits).collect();
    (line.bits(), tensors, format!("{:?} {:?}", state.groups, state.steps))
}

fn whole(length: RunLength, cfg: &str) -> (Vec<u32>, Vec<Vec<u32>>, String) {
    let (dir, line) = (run_dir(), Line::new());
    let mut r = runner(&line, length, dir.path(), cfg);
    r.run(&line, &loader(5, 5)).unwrap();
    assert!(r.state.iter == 20);
    end(&r, &line)
}

/// Stops after iteration `k`, and goes on in another process's stead.
fn in_two(length: RunLength, cfg: &str, k: usize) -> (Vec<u32>, Vec<Vec<u32>>, String) {
    let dir = run_dir();
    let line = Line::new();
    let mut first = runner(&line, length, dir.path(), cfg);
    let stop = first.state.stop.clone();
    let ask = move |state: &mut RunState| {
        if state.iter + 1 == k {
            stop.request();
        }
        Ok(())
    };
    first.register_hook("Stop", Box::new(After(ask)), Priority::NORMAL);
    let e = first.run(&line, &loader(5, 5)).unwrap_err().to_string();
    assert!(e.contains(&format!("after iteration {k} of 20")) && e.contains(&format!("iter_{k}.safetensors")), "{e}");
    drop(first);

    let line = Line::new();
    let mut second = runner(&line, length, dir.path(), cfg);
    // The seed is the checkpoint's, whatever the new run was told.
    second.state.seed = 77;
    let path = second.auto_resume().unwrap().unwrap();
    assert!(path.ends_with(format!("iter_{k}.safetensors")), "{}", path.display());
    assert_eq!(second.state.iter, k);
    second.run(&line, &loader(5, second.state.seed)).unwrap();
    end(&second, &line)
}

#[test]
fn the_same_run_twice_is_bit_equal() {
    assert_eq!(whole(RunLength::Epochs(4), HOOKS), whole(RunLength::Epochs(4), HOOKS));
    assert_eq!(whole(RunLength::Iters(20), HOOKS), whole(RunLength::Iters(20), HOOKS));
}

#[test]
fn stopped_and_resumed_is_bit_equal_to_never_stopped() {
    for length in [RunLength::Epochs(4), RunLength::Iters(20)] {
        let want = whole(length, HOOKS);
        // In the warm-up, at an epoch's end, in the middle of a later epoch.
        for k in [2, 5, 13] {
            assert_eq!(in_two(length, HOOKS, k), want, "{length:?} {k}");
        }
    }
}

#[test]
fn a_resume_between_two_steps_of_accumulated_gradients_is_exact() {
    let cfg = r#"{
        "lr_config": {"policy": "poly"},
        "optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 3}
    }"#;
    let want = whole(RunLength::Epochs(4), cfg);
    for k in [7, 8, 9, 19] {
        assert_eq!(in_two(RunLength::Epochs(4), cfg, k), want, "{k}");
    }
}

#[test]
fn a_checkpoint_of_an_epochs_end_or_of_an_iteration_is_enough() {
    for (length, cfg, name) in [
        (RunLength::Epochs(4), HOOKS.to_owned(), "epoch_2.safetensors"),
        (RunLength::Iters(20), HOOKS.replace(r#"{"interval": 1}"#, r#"{"interval": 7}"#), "iter_7.safetensors"),
    ] {
        let want = whole(length, &cfg);
        let (dir, line) = (run_dir(), Line::new());
        runner(&line, length, dir.path(), &cfg).run(&line, &loader(5, 5)).unwrap();
        let line = Line::new();
        let mut r = runner(&line, length, dir.path(), &cfg);
        r.resume(&dir.path().join(name)).unwrap();
        r.run(&line, &loader(5, 5)).unwrap();
        assert_eq!(end(&r, &line), want, "{name}");
    }
}

#[test]
fn auto_resume_skips_what_cant_be_read() {
    let (dir, line) = (run_dir(), Line::new());
    let d = dir.path();
    runner(&line, RunLength::Epochs(3), d, HOOKS).run(&line, &loader(5, 5)).unwrap();
    assert_eq!(find_latest_checkpoint(d).unwrap(), d.join("epoch_3.safetensors"));
    // As a kill in the middle of a plain write would leave it.
    std::fs::write(d.join("epoch_3.safetensors"), [7; 100]).unwrap();
    std::fs::write(d.join("epoch_4.safetensors"), b"").unwrap();
    let mut r = runner(&line, RunLength::Epochs(3), d, HOOKS);
    assert_eq!(r.auto_resume().unwrap().unwrap(), d.join("epoch_2.safetensors"));
    assert_eq!((r.state.epoch, r.state.iter), (2, 10));
    let log = std::fs::read_to_string(d.join("20240131_235959.log")).unwrap();
    assert!(log.contains("epoch_3.safetensors") && log.contains("an older checkpoint is taken"));
    let empty = run_dir();
    assert!(runner(&line, RunLength::Epochs(3), empty.path(), HOOKS).auto_resume().unwrap().is_none());
}

#[test]
fn a_checkpoint_of_another_model_is_refused_by_name() {
    let (dir, line) = (run_dir(), Line::new());
    runner(&line, RunLength::Epochs(1), dir.path(), HOOKS).run(&line, &loader(2, 5)).unwrap();
    let other = Line::new();
    crate::nn::VarBuilder::new(&other.store).pp("line").param("aa", 1, crate::nn::Init::Const(0.0)).unwrap();
    let mut r = runner(&other, RunLength::Epochs(1), dir.path(), HOOKS);
    let e = r.resume(&dir.path().join("epoch_1.safetensors")).err().unwrap().to_string();
    assert!(e.contains("no 'line.aa' in it"), "{e}");
}

#[test]
fn old_checkpoints_go_and_latest_points_to_the_newest() {
    let (dir, line) = (run_dir(), Line::new());
    let cfg = r#"{"checkpoint_config": {"interval": 1, "max_keep_ckpts": 2}}"#;
    runner(&line, RunLength::Epochs(5), dir.path(), cfg).run(&line, &loader(2, 5)).unwrap();
    let names: Vec<_> = files(dir.path()).into_iter().filter(|f| f.ends_with(".safetensors")).collect();
    assert_eq!(names, ["epoch_4.safetensors", "epoch_5.safetensors", "latest.safetensors"]);
    let latest = std::fs::read_link(dir.path().join("latest.safetensors")).unwrap();
    assert_eq!(latest.to_str(), Some("epoch_5.safetensors"));

    // interval 2 of 5 iterations: 2, 4 and, as the last, 5; into a folder of the work folder's name.
    let out = run_dir();
    let cfg = format!(r#"{{"checkpoint_config": {{"interval": 2, "out_dir": "{}"}}}}"#, out.path().display());
    runner(&line, RunLength::Iters(5), dir.path(), &cfg).run(&line, &loader(2, 5)).unwrap();
    let names = files(&out.path().join(dir.path().file_name().unwrap()));
    assert_eq!(names, ["iter_2.safetensors", "iter_4.safetensors", "iter_5.safetensors", "latest.safetensors"]);
}

#[test]
fn a_work_folder_that_cant_be_made_is_one_error() {
    let dir = run_dir();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let line = Line::new();
    let optimizer = Node::from_json(r#"{"type": "SGD", "lr": 0.1}"#).unwrap();
    let optimizer = build_optimizer(&optimizer, &line.store).unwrap();
    let options = options(RunLength::Epochs(1), &dir.path().join("file/work"));
    let e = Runner::new(options, line.store.clone(), optimizer).err().unwrap();
    assert!(!e.is_usage() && e.to_string().contains("file/work"), "{e}");
}

#[test]
fn a_checkpoint_that_cant_be_written_ends_the_run_and_leaves_the_older_ones() {
    let (dir, line) = (run_dir(), Line::new());
    let mut r = runner(&line, RunLength::Epochs(2), dir.path(), HOOKS);
    let d = dir.path().to_owned();
    let block = move |state: &mut RunState| {
        if state.epoch == 1 {
            // A folder where the file should go.
            let _ = std::fs::create_dir_all(d.join("epoch_2.safetensors/x"));
        }
        Ok(())
    };
    r.register_hook("Block", Box::new(After(block)), Priority::NORMAL);
    let e = r.run(&line, &loader(2, 5)).unwrap_err().to_string();
    assert!(e.contains("epoch_2.safetensors"), "{e}");
    assert_eq!(find_latest_checkpoint(dir.path()).unwrap(), dir.path().join("epoch_1.safetensors"));
}

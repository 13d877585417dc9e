use std::sync::{Arc, Mutex};

use super::super::hooks::{EvalConfig, EvalResults};
use super::super::testing::run_dir;
use super::*;

const LOG: &str = r#"{"log_config": {"interval": 50, "hooks": [{"type": "TextLoggerHook"}]}}"#;

/// Runs with an evaluation that gives `scores` in turn; when it was called, what it saved.
fn run(length: RunLength, evaluation: &str, scores: &[f64]) -> (Vec<usize>, Vec<String>, tempfile::TempDir) {
    let (dir, line) = (run_dir(), Line::new());
    let mut r = runner(&line, length, dir.path(), LOG);
    let called = Arc::new(Mutex::new(Vec::new()));
    let (seen, scores, mut next) = (called.clone(), scores.to_vec(), 0);
    let evaluate = move |state: &mut RunState| {
        seen.lock().unwrap().push(if state.max_epochs.is_some() { state.epoch + 1 } else { state.iter + 1 });
        let score = scores[next % scores.len()];
        next += 1;
        Ok(EvalResults::from([
            ("bbox_mAP".to_owned(), score.into()),
            ("bbox_mAP_copypaste".to_owned(), "0.1 0.2".into()),
            ("val_loss".to_owned(), (1.0 - score).into()),
        ]))
    };
    r.register_evaluation(&Node::from_json(evaluation).unwrap(), 7, evaluate).unwrap();
    r.run(&line, &loader(3, 0)).unwrap();
    let best = files(dir.path()).into_iter().filter(|f| f.starts_with("best")).collect();
    let called = called.lock().unwrap().clone();
    (called, best, dir)
}

#[test]
fn the_best_checkpoint_is_kept_by_the_metrics_rule() {
    let scores = [0.2, 0.4, 0.3, 0.4];
    let best = |e: &str| run(RunLength::Epochs(4), e, &scores).1;
    assert_eq!(best(r#"{"save_best": "bbox_mAP", "metric": "bbox"}"#), ["best_bbox_mAP_epoch_2.safetensors"]);
    assert_eq!(best(r#"{"save_best": "auto"}"#), ["best_bbox_mAP_epoch_2.safetensors"]);
    assert_eq!(best(r#"{"save_best": "val_loss"}"#), ["best_val_loss_epoch_2.safetensors"]);
    assert_eq!(best(r#"{"save_best": "bbox_mAP", "rule": "less"}"#), ["best_bbox_mAP_epoch_1.safetensors"]);
    assert!(best("{}").is_empty());
    // mmcv takes a score of 0 for none.
    assert!(run(RunLength::Epochs(1), r#"{"save_best": "bbox_mAP"}"#, &[0.0]).1.is_empty());
}

#[test]
fn metrics_are_logged_as_mmcv_does() {
    let (_, _, dir) = run(RunLength::Epochs(1), r#"{"save_best": "auto"}"#, &[0.25]);
    let log = std::fs::read_to_string(dir.path().join("20240131_235959.log")).unwrap();
    assert!(
        log.contains("Epoch(val) [1][7]\tbbox_mAP: 0.2500, bbox_mAP_copypaste: 0.1 0.2, val_loss: 0.7500"),
        "{log}"
    );
    assert!(log.contains("Best bbox_mAP is 0.2500 at 1 epoch."));
    let json = std::fs::read_to_string(dir.path().join("20240131_235959.log.json")).unwrap();
    let last = json.lines().last().unwrap();
    assert_eq!(
        last,
        r#"{"mode": "val", "epoch": 1, "iter": 7, "lr": 0.1, "bbox_mAP": 0.25, "bbox_mAP_copypaste": "0.1 0.2", "val_loss": 0.75}"#
    );
}

#[test]
fn evaluation_is_at_its_intervals() {
    let at = |length, e: &str| run(length, e, &[0.5]).0;
    assert_eq!(at(RunLength::Epochs(5), r#"{"interval": 2}"#), [2, 4]);
    assert_eq!(at(RunLength::Epochs(7), r#"{"interval": 2, "start": 3}"#), [3, 5, 7]);
    // Before training: at epoch 0 when start is 0, as mmcv does.
    assert_eq!(at(RunLength::Epochs(2), r#"{"start": 0}"#), [1, 1, 2]);
    assert_eq!(at(RunLength::Epochs(6), r#"{"interval": 3, "dynamic_intervals": [[4, 1]]}"#), [3, 4, 5, 6]);
    assert_eq!(at(RunLength::Iters(7), r#"{"interval": 3}"#), [3, 6]);
}

#[test]
fn an_evaluation_in_the_middle_logs_the_training_first() {
    let (dir, line) = (run_dir(), Line::new());
    let cfg = r#"{"log_config": {"interval": 2, "hooks": [{"type": "TextLoggerHook"}]}}"#;
    let mut r = runner(&line, RunLength::Iters(4), dir.path(), cfg);
    let evaluate = |_: &mut RunState| Ok(EvalResults::from([("mAP".to_owned(), 0.5.into())]));
    r.register_evaluation(&Node::from_json(r#"{"interval": 2}"#).unwrap(), 1, evaluate).unwrap();
    r.run(&line, &loader(3, 0)).unwrap();
    let json = std::fs::read_to_string(dir.path().join("20240131_235959.log.json")).unwrap();
    let modes: Vec<String> = json.lines().skip(1).map(|l| l[..22].to_owned()).collect();
    assert_eq!(modes, [r#"{"mode": "train", "epo"#, r#"{"mode": "val", "epoch"#].repeat(2));
}

#[test]
fn mistakes_are_told_at_the_start() {
    let (dir, line) = (run_dir(), Line::new());
    let mut r = runner(&line, RunLength::Epochs(1), dir.path(), LOG);
    let never = |_: &mut RunState| Ok(EvalResults::new());
    for (json, words) in [
        (r#"{"interval": 0}"#, "evaluation"),
        (r#"{"save_best": "speed"}"#, "rule="),
        (r#"{"rule": "greatest"}"#, "greater"),
    ] {
        let e = r.register_evaluation(&Node::from_json(json).unwrap(), 1, never).err().expect(json);
        assert!(e.is_usage() && e.to_string().contains(words), "{e}");
    }
    let evaluate = |_: &mut RunState| Ok(EvalResults::from([("mAP".to_owned(), 0.5.into())]));
    r.register_evaluation(&Node::from_json(r#"{"save_best": "mAPP"}"#).unwrap(), 1, evaluate).unwrap();
    let e = r.run(&line, &loader(1, 0)).unwrap_err();
    assert!(e.is_usage() && e.to_string().contains("did you mean 'mAP'?"), "{e}");
    let (own, rest) = EvalConfig::split(&Node::from_json(r#"{"interval": 3, "metric": ["bbox"]}"#).unwrap()).unwrap();
    assert_eq!((own.interval, rest.get("metric").is_some(), rest.get("interval").is_some()), (3, true, false));
}

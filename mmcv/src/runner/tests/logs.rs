use super::super::testing::run_dir;
use super::*;

/// The log without times of day, which change.
fn log(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("20240131_235959.log")).unwrap();
    text.lines().map(|l| l.rsplit_once(" - INFO - ").map_or(l, |(_, t)| t).to_owned()).collect()
}

fn json(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("20240131_235959.log.json")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The keys of a JSON line, in order.
fn keys(v: &serde_json::Value) -> Vec<&str> {
    v.as_object().unwrap().keys().map(String::as_str).collect()
}

// mmcv, for a model that logs loss_fit and loss, interval 2 and 5 iterations an epoch:
// Epoch [1][2/5]	lr: 1.250e-01, eta: 0:00:00, time: 0.003, data_time: 0.000, loss_fit: 0.9375, loss: 0.9375, grad_norm: 1.0000
// {"mode": "train", "epoch": 1, "iter": 2, "lr": 0.125, "data_time": 2e-05, "loss_fit": 0.9375, "loss": 0.9375, "grad_norm": 1.0, "time": 0.00338}
#[test]
fn lines_have_mmcvs_form() {
    let (dir, line) = (run_dir(), Line::new());
    let cfg = r#"{
        "lr_config": {"policy": "fixed"}, "optimizer_config": {"grad_clip": {"max_norm": 35, "norm_type": 2}},
        "log_config": {"interval": 2, "hooks": [{"type": "TextLoggerHook"}]}
    }"#;
    let mut r = runner(&line, RunLength::Epochs(2), dir.path(), cfg);
    r.state.meta.insert("exp_name".into(), "t".into());
    r.run(&line, &loader(5, 0)).unwrap();
    let log = log(dir.path());
    let lines: Vec<_> = log.iter().filter(|l| l.starts_with("Epoch [")).collect();
    assert_eq!(lines.len(), 4, "{log:?}");
    let (head, rest) = lines[0].split_once('\t').unwrap();
    assert_eq!(head, "Epoch [1][2/5]");
    let names: Vec<_> = rest.split(", ").map(|p| p.split_once(": ").unwrap().0).collect();
    assert_eq!(names, ["lr", "eta", "time", "data_time", "memory", "loss_fit", "abs", "loss", "grad_norm"]);
    assert!(rest.starts_with("lr: 1.000e-01, eta: 0:00:0"));
    let json = json(dir.path());
    assert_eq!(json[0]["exp_name"], "t");
    assert_eq!(
        keys(&json[1]),
        ["mode", "epoch", "iter", "lr", "memory", "data_time", "loss_fit", "abs", "loss", "grad_norm", "time"]
    );
    let at: Vec<_> = json[1..].iter().map(|l| (l["epoch"].as_u64().unwrap(), l["iter"].as_u64().unwrap())).collect();
    assert_eq!(at, [(1, 2), (1, 4), (2, 2), (2, 4)]);
    let plot = std::fs::read(dir.path().join("20240131_235959_loss.png")).unwrap();
    assert!(plot.starts_with(b"\x89PNG"));
}

#[test]
fn an_iteration_based_run_counts_iterations() {
    let (dir, line) = (run_dir(), Line::new());
    let cfg = r#"{
        "lr_config": {"policy": "poly"},
        "log_config": {"interval": 3, "hooks": [{"type": "TextLoggerHook"}]}
    }"#;
    runner(&line, RunLength::Iters(7), dir.path(), cfg).run(&line, &loader(5, 0)).unwrap();
    let heads: Vec<_> =
        log(dir.path()).into_iter().filter_map(|l| l.split_once('\t').map(|(h, _)| h.to_owned())).collect();
    assert_eq!(heads, ["Iter [3/7]", "Iter [6/7]"]);
    let json = json(dir.path());
    // The schedule goes by iteration without being told: (1 - 5 / 7) * 0.1
    assert_eq!(json[2]["lr"], 0.02857);
}

#[test]
fn logs_are_copied_to_out_dir() {
    let (dir, out, line) = (run_dir(), run_dir(), Line::new());
    let cfg = format!(
        r#"{{"log_config": {{"interval": 1, "hooks": [
            {{"type": "TextLoggerHook", "out_dir": "{}", "keep_local": false}}]}}}}"#,
        out.path().display()
    );
    runner(&line, RunLength::Epochs(1), dir.path(), &cfg).run(&line, &loader(2, 0)).unwrap();
    let copies = files(&out.path().join(dir.path().file_name().unwrap()));
    assert_eq!(copies, ["20240131_235959.log", "20240131_235959.log.json"]);
    assert_eq!(files(dir.path()), ["20240131_235959_loss.png"]);
}

//! `mmdet analyze-logs`: what training logs say; mmdet's `tools/analysis_tools/analyze_logs.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indexmap::IndexMap;
use mmcv::cli::TaskCommand;
use mmcv::error::did_you_mean;
use mmcv::visualization::{Series, plot_curves};
use mmcv::{Error, Result, say};
use serde_json::{Map, Value};

/// Arguments of `mmdet analyze-logs`.
#[derive(clap::Args)]
struct AnalyzeLogsArgs {
    /// Training logs (.log.json).
    #[arg(required = true)]
    json_logs: Vec<PathBuf>,
    /// What to plot. Names with "mAP" in them are of evaluations, one value an epoch; others are of iterations.
    #[arg(long, num_args = 1.., default_values_t = ["bbox_mAP".to_owned()])]
    keys: Vec<String>,
    /// Name of each curve: all keys of the first log, then those of the next. `LOG_KEY` when not given.
    #[arg(long, num_args = 1..)]
    legend: Option<Vec<String>>,
    /// Title of the plot.
    #[arg(long, default_value = "")]
    title: String,
    /// The plot to write. Without it the time that iterations took is told.
    #[arg(long, value_name = "FILE.png")]
    out: Option<PathBuf>,
    /// Counts the first value of each epoch, which has the loaders' start in it, into the time.
    #[arg(long)]
    include_outliers: bool,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        AnalyzeLogsArgs::augment_args(Command::new("analyze-logs"))
            .about("Plot losses and metrics of training logs, or tell how long iterations took")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = AnalyzeLogsArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let logs: Vec<Log> = args.json_logs.iter().map(|p| Log::read(p)).collect::<Result<_>>()?;
    let Some(out) = &args.out else {
        for log in &logs {
            say!("{}", log.train_time(args.include_outliers)?.trim_end())?;
        }
        return Ok(());
    };
    let curves = curves(&logs, &args.keys, args.legend.as_deref())?;
    let x = if args.keys.iter().all(|k| per_epoch(k)) { "epoch" } else { "iter" };
    plot_curves(out, &args.title, &curves, x, "")?;
    say!("{}", out.display())?;
    Ok(())
}

fn per_epoch(key: &str) -> bool {
    key.contains("mAP")
}

fn curves(logs: &[Log], keys: &[String], legend: Option<&[String]>) -> Result<Vec<Series>> {
    let wanted = logs.len() * keys.len();
    if let Some(legend) = legend.filter(|l| l.len() != wanted) {
        let message = format!("--legend has {} names, there are {wanted} curves", legend.len());
        return Err(Error::Usage(message));
    }
    let mut curves = Vec::new();
    for log in logs {
        for key in keys {
            let name = legend.and_then(|l| l.get(curves.len()).cloned());
            let name = name.unwrap_or_else(|| format!("{}_{key}", log.path.display()));
            curves.push(Series { name, points: log.points(key)? });
        }
    }
    Ok(curves)
}

/// The lines of a log by epoch.
struct Log {
    path: PathBuf,
    epochs: BTreeMap<u64, Vec<Map<String, Value>>>,
}

impl Log {
    /// Lines without an epoch (the first, which describes the run) are left out.
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut epochs: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let line: Map<String, Value> =
                serde_json::from_str(line).map_err(|e| Error::data(path, format!("line {}: {e}", i + 1)))?;
            if let Some(epoch) = line.get("epoch").and_then(Value::as_u64) {
                epochs.entry(epoch).or_default().push(line);
            }
        }
        if epochs.is_empty() {
            return Err(Error::data(path, "no line has an epoch, this is no training log"));
        }
        Ok(Self { path: path.to_owned(), epochs })
    }

    fn points(&self, key: &str) -> Result<Vec<(f64, f64)>> {
        let points = if per_epoch(key) { self.by_epoch(key) } else { self.by_iter(key) };
        if !points.is_empty() {
            return Ok(points);
        }
        let known: IndexMap<&str, ()> =
            self.epochs.values().flatten().flat_map(|l| l.keys().map(|k| (k.as_str(), ()))).collect();
        let hint = did_you_mean(key, known.keys().copied());
        let all: Vec<&str> = known.keys().copied().collect();
        let why = if per_epoch(key) { " (was the model trained with --no-validate?)" } else { "" };
        Err(Error::data(&self.path, format!("no '{key}' in the log{why}{hint}; it has {}", all.join(", "))))
    }

    fn by_epoch(&self, key: &str) -> Vec<(f64, f64)> {
        let of = |(epoch, lines): (&u64, &Vec<Map<String, Value>>)| {
            let value = lines.iter().rev().find_map(|l| l.get(key).and_then(Value::as_f64))?;
            Some((*epoch as f64, value))
        };
        self.epochs.iter().filter_map(of).collect()
    }

    /// Iterations count on from epoch to epoch: as in mmdet an epoch has as many as its last logged training line says.
    fn by_iter(&self, key: &str) -> Vec<(f64, f64)> {
        let train = |l: &&Map<String, Value>| l.get("mode").and_then(Value::as_str) != Some("val");
        let iter = |l: &Map<String, Value>| l.get("iter").and_then(Value::as_f64);
        let first = self.epochs.values().next().into_iter().flatten().filter(train).filter_map(iter).next_back();
        let per_epoch = first.unwrap_or(0.0);
        let mut points = Vec::new();
        for (epoch, lines) in &self.epochs {
            for line in lines.iter().filter(train) {
                if let (Some(iter), Some(value)) = (iter(line), line.get(key).and_then(Value::as_f64)) {
                    points.push((iter + (*epoch as f64 - 1.0) * per_epoch, value));
                }
            }
        }
        points
    }

    fn train_time(&self, include_outliers: bool) -> Result<String> {
        let skip = usize::from(!include_outliers);
        let times = |lines: &Vec<Map<String, Value>>| -> Vec<f64> {
            lines.iter().filter_map(|l| l.get("time").and_then(Value::as_f64)).skip(skip).collect()
        };
        let epochs: Vec<(u64, Vec<f64>)> =
            self.epochs.iter().map(|(e, l)| (*e, times(l))).filter(|(_, t)| !t.is_empty()).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let means: Vec<(u64, f64)> = epochs.iter().map(|(e, t)| (*e, mean(t))).collect();
        let by_time = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
        let (Some(slowest), Some(fastest)) = (means.iter().rev().max_by(by_time), means.iter().min_by(by_time)) else {
            let message = "no epoch has more than one line with a time; log more often, or use --include-outliers";
            return Err(Error::data(&self.path, message));
        };
        let average = mean(&means.iter().map(|m| m.1).collect::<Vec<_>>());
        let std = mean(&means.iter().map(|m| (m.1 - average).powi(2)).collect::<Vec<_>>()).sqrt();
        let all: Vec<f64> = epochs.iter().flat_map(|(_, t)| t.iter().copied()).collect();
        let line = "-".repeat(5);
        Ok(format!(
            "{line}Analyze train time of {}{line}\nslowest epoch {}, average time is {:.4}\n\
             fastest epoch {}, average time is {:.4}\ntime std over epochs is {std:.4}\n\
             average iter time: {:.4} s/iter\n\n",
            self.path.display(),
            slowest.0,
            slowest.1,
            fastest.0,
            fastest.1,
            mean(&all)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"seed": 0, "env_info": "x"}
{"mode": "train", "epoch": 1, "iter": 10, "lr": 0.1, "loss": 3.0, "time": 9.0}
{"mode": "train", "epoch": 1, "iter": 20, "lr": 0.1, "loss": 2.0, "time": 1.0}
{"mode": "val", "epoch": 1, "iter": 7, "lr": 0.1, "bbox_mAP": 0.25}
{"mode": "train", "epoch": 2, "iter": 10, "lr": 0.1, "loss": 1.5, "time": 5.0}
{"mode": "train", "epoch": 2, "iter": 20, "lr": 0.1, "loss": 1.0, "time": 2.0}
{"mode": "val", "epoch": 2, "iter": 7, "lr": 0.1, "bbox_mAP": 0.5}
"#;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log.json");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn strings(v: &[&str]) -> Vec<String> {
        v.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn losses_go_by_iteration_and_metrics_by_epoch() {
        let (_dir, path) = log(LOG);
        let log = Log::read(&path).unwrap();
        let names = strings(&["the loss", "the mAP"]);
        let curves = curves(std::slice::from_ref(&log), &strings(&["loss", "bbox_mAP"]), Some(&names)).unwrap();
        assert_eq!(curves[0].points, [(10.0, 3.0), (20.0, 2.0), (30.0, 1.5), (40.0, 1.0)]);
        assert_eq!(curves[1].points, [(1.0, 0.25), (2.0, 0.5)]);
        assert_eq!((curves[0].name.as_str(), curves[1].name.as_str()), ("the loss", "the mAP"));
        assert!(super::curves(&[log], &strings(&["loss"]), Some(&names)).is_err());
    }

    #[test]
    fn the_time_reads_as_in_mmdet() {
        let (_dir, path) = log(LOG);
        let text = Log::read(&path).unwrap().train_time(false).unwrap();
        let expected = format!(
            "-----Analyze train time of {}-----\nslowest epoch 2, average time is 2.0000\nfastest epoch 1, average \
             time is 1.0000\ntime std over epochs is 0.5000\naverage iter time: 1.5000 s/iter\n\n",
            path.display()
        );
        assert_eq!(text, expected);
        let text = Log::read(&path).unwrap().train_time(true).unwrap();
        assert!(text.contains("slowest epoch 1, average time is 5.0000\n"), "{text}");
    }

    #[test]
    fn what_is_no_log_or_not_in_it_is_an_error() {
        let (_dir, path) = log(LOG);
        let e = Log::read(&path).unwrap().points("lss").unwrap_err().to_string();
        assert!(e.contains("no 'lss' in the log; did you mean 'loss'?; it has mode, epoch, iter, lr, loss"), "{e}");
        let (_dir, path) = log("{\"a\": 1}\n{\"epoch\":");
        assert!(Log::read(&path).err().unwrap().to_string().contains("a.log.json: line 2: "));
        let (_dir, path) = log("{\"a\": 1}\n");
        assert!(Log::read(&path).err().unwrap().to_string().contains("no training log"));
    }
}

//! A run's checkpoints: what is in them, how one is resumed, and which is the newest.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hook::Stage;
use super::state::Cursor;
use super::{RunLength, RunState, Runner, clock};
use crate::checkpoint::{self, Checkpoint};
use crate::error::did_you_mean;
use crate::fileio::TEMPORARY;
use crate::{Error, Result};

/// The link to the newest checkpoint, without its ending (which is the checkpoint's).
pub const LATEST: &str = "latest";

/// How far a run is, exactly: mmcv's `epoch` and `iter` in `meta` can't tell the middle of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    epoch: usize,
    iter: usize,
    loader_epoch: u64,
    loader_batch: usize,
    seed: u64,
}

impl RunState {
    /// Where the run goes on after the stage it is in.
    fn position(&self) -> Position {
        let Cursor { epoch: loader_epoch, batch: loader_batch } = self.cursor;
        let mut at = Position { epoch: self.epoch, iter: self.iter, loader_epoch, loader_batch, seed: self.seed };
        match self.stage {
            Stage::AfterTrainIter | Stage::EndTrainIter => {
                at.iter += 1;
                at.loader_batch += 1;
            }
            Stage::AfterTrainEpoch => {
                at.epoch += 1;
                at.loader_epoch = at.epoch as u64;
                at.loader_batch = 0;
            }
            _ => {}
        }
        at
    }

    /// Writes everything that a resumed run needs to `dir/name` (the ending chooses the format), through a temporary
    /// file, and points `latest` to it if `link`. `meta` says `epoch` and `iter` as mmcv does.
    pub fn save_checkpoint(&mut self, dir: &Path, name: &str, optimizer: bool, link: bool) -> Result<PathBuf> {
        let path = dir.join(name);
        let mut saved = Checkpoint { meta: self.meta.clone(), ..Checkpoint::default() };
        let inside = matches!(self.stage, Stage::AfterTrainIter | Stage::EndTrainIter | Stage::AfterTrainEpoch);
        saved.meta.insert("epoch".into(), (self.epoch + usize::from(inside)).into());
        saved.meta.insert("iter".into(), self.iter.into());
        saved.meta.insert("time".into(), clock::asctime(SystemTime::now()).into());
        let position = serde_json::to_value(self.position()).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        saved.extra.insert("position".into(), position);
        saved.state_dict = checkpoint::state_dict(&self.store)?;
        saved.state_dict.extend(self.buffers.iter().map(|(k, v)| (k.clone(), v.clone())));
        saved.extra_tensors = self.carried.clone();
        saved.optimizer = optimizer.then(|| self.optimizer.state());
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        checkpoint::save(&path, &saved)?;
        if link && let Err(e) = point(dir, name) {
            self.logger.warn(&format!("can't point {LATEST} to {name}: {e}"))?;
        }
        Ok(path)
    }

    /// Goes on where the checkpoint at `path` was written: weights, averages, optimizer, epoch, iteration, position in
    /// the data, seed, hooks' messages.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let loaded = checkpoint::load(path)?;
        self.take_up(path, loaded)
    }

    fn take_up(&mut self, path: &Path, mut loaded: Checkpoint) -> Result<()> {
        let fail = |m: String| Error::checkpoint(path, m);
        let params = self.store.all();
        for p in &params {
            let Some(value) = loaded.state_dict.shift_remove(p.name()) else {
                let hint = did_you_mean(p.name(), loaded.state_dict.keys().map(String::as_str));
                return Err(fail(format!("no '{}' in it{hint}", p.name())));
            };
            let value = if value.elem_count() == p.shape().elem_count() && value.rank() == 0 {
                value.reshape(p.shape())?
            } else {
                value
            };
            p.set(&value).map_err(|e| fail(e.to_string()))?;
        }
        self.buffers.clear();
        let device = self.store.device().clone();
        for (name, value) in loaded.state_dict {
            if name.starts_with("ema_") {
                self.buffers.insert(name, value.to_dtype(candle_core::DType::F32)?.to_device(&device)?);
            } else if !name.ends_with("num_batches_tracked") {
                self.logger.warn(&format!("{}: '{name}' is not in the model", path.display()))?;
            }
        }
        self.carried = loaded.extra_tensors;
        match &loaded.optimizer {
            Some(state) => self.optimizer.load_state(state).map_err(|e| fail(e.to_string()))?,
            None => self.logger.warn(&format!("{}: it has no optimizer state", path.display()))?,
        }
        let number = |key: &str| loaded.meta.get(key).and_then(Value::as_u64).unwrap_or_default() as usize;
        let position = loaded.extra.get("position").map(Position::deserialize);
        let at = position.transpose().map_err(|e| fail(format!("its position: {e}")))?.unwrap_or(Position {
            // A checkpoint of mmcv, written at an epoch's end or at an iteration whose place in its epoch is unknown.
            epoch: number("epoch"),
            iter: number("iter"),
            loader_epoch: number("epoch") as u64,
            loader_batch: 0,
            seed: self.seed,
        });
        if at.seed != self.seed {
            self.logger.warn(&format!("the seed is {}, as in {}", at.seed, path.display()))?;
        }
        self.epoch = at.epoch;
        self.iter = at.iter;
        self.seed = at.seed;
        self.cursor = Cursor { epoch: at.loader_epoch, batch: at.loader_batch };
        // What the checkpoint says about the run stays, with what this run says anew in front.
        if let Some(messages) = loaded.meta.get("hook_msgs") {
            self.meta.insert("hook_msgs".into(), messages.clone());
        }
        for (key, value) in loaded.meta {
            self.meta.entry(key).or_insert(value);
        }
        let text = format!("resumed epoch {}, iter {} from {}", self.epoch, self.iter, path.display());
        self.logger.info(&text)
    }
}

impl Runner {
    /// Goes on where the checkpoint at `path` was written. Build the loaders after it, with `state.seed`.
    pub fn resume(&mut self, path: &Path) -> Result<&mut Self> {
        self.state.resume(path)?;
        self.check_resumed(path)
    }

    fn check_resumed(&mut self, path: &Path) -> Result<&mut Self> {
        let (done, all) = match self.options.length {
            RunLength::Epochs(n) => (self.state.epoch, n),
            RunLength::Iters(n) => (self.state.iter, n),
        };
        if done >= all {
            self.state
                .logger
                .warn(&format!("{} is the end of the run: there is nothing left to do", path.display()))?;
        }
        Ok(self)
    }

    /// Goes on from the newest checkpoint in the work folder that can be read, if there is one, and says which.
    /// Half-written files that a killed run left there are removed.
    pub fn auto_resume(&mut self) -> Result<Option<PathBuf>> {
        for left in unfinished(&self.state.work_dir) {
            let text = match std::fs::remove_file(&left) {
                Ok(()) => format!("removed {}, which a killed run left unfinished", left.display()),
                Err(e) => format!("can't remove the unfinished {}: {e}", left.display()),
            };
            self.state.logger.warn(&text)?;
        }
        for path in find_checkpoints(&self.state.work_dir) {
            match checkpoint::load(&path) {
                Ok(loaded) => {
                    self.state.take_up(&path, loaded)?;
                    self.check_resumed(&path)?;
                    return Ok(Some(path));
                }
                Err(e) => self.state.logger.warn(&format!("{e}; an older checkpoint is taken"))?,
            }
        }
        Ok(None)
    }
}

/// The newest checkpoint in `dir` that can be read.
pub fn find_latest_checkpoint(dir: &Path) -> Option<PathBuf> {
    find_checkpoints(dir).into_iter().find(|path| match checkpoint::load(path) {
        Ok(_) => true,
        Err(e) => {
            tracing::warn!("{e}; an older checkpoint is taken");
            false
        }
    })
}

/// `epoch_N` and `iter_N` in `dir`, and what `latest` points to, the newest first.
fn find_checkpoints(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|e| e.ok()).map(|e| e.path()) {
        let is = |ext: &str| path.extension().is_some_and(|e| e == ext);
        let Some(stem) = path.file_stem().and_then(|s| s.to_str()).filter(|_| is("safetensors") || is("pth")) else {
            continue;
        };
        let path = if stem == LATEST {
            match std::fs::read_link(&path) {
                Ok(target) => dir.join(target),
                Err(_) => path,
            }
        } else if stem.starts_with("epoch_") || stem.starts_with("iter_") {
            path
        } else {
            continue;
        };
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.rsplit('_').next()?.parse::<u64>().ok());
        let Ok(time) = std::fs::metadata(&path).and_then(|m| m.modified()) else { continue };
        found.push((time, number, path));
    }
    found.sort_by(|a, b| b.cmp(a));
    found.dedup();
    found.into_iter().map(|(_, _, path)| path).collect()
}

/// Files in `dir` that were being written under their temporary names ([`write_atomic`](crate::fileio::write_atomic)).
fn unfinished(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let temporary = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with(TEMPORARY);
    let file = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| !t.is_dir());
    entries.filter_map(|e| e.ok()).filter(|e| temporary(e) && file(e)).map(|e| e.path()).collect()
}

/// Makes `latest` in `dir` a link to `name`, replacing an older one at once.
fn point(dir: &Path, name: &str) -> std::io::Result<()> {
    let extension = Path::new(name).extension().unwrap_or_default();
    let link = dir.join(LATEST).with_extension(extension);
    #[cfg(unix)]
    {
        let new = dir.join(format!("{TEMPORARY}{LATEST}-{}", std::process::id()));
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(name, &new)?;
        std::fs::rename(&new, &link).inspect_err(|_| {
            let _ = std::fs::remove_file(&new);
        })
    }
    #[cfg(not(unix))]
    {
        std::fs::copy(dir.join(name), &link).map(|_| ())
    }
}

//! From names of published checkpoints to files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;

use super::sha256_of;
use crate::error::{Error, Result, did_you_mean};
use crate::fileio::{Backend, HttpBackend, write_atomic};

/// mmcv 1.7.2's `model_zoo/*.json`, and torchvision's names.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Zoo {
    torchvision: HashMap<String, String>,
    open_mmlab: HashMap<String, String>,
    mmcls: HashMap<String, String>,
    /// Old names of `open-mmlab`.
    deprecated: HashMap<String, String>,
}

static ZOO: LazyLock<Zoo> =
    LazyLock::new(|| serde_json::from_str(include_str!("model_zoo.json")).expect("a test reads the same text"));

/// Where the files behind names and URLs may be.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Folders that are searched first, for the URL's file name, or `resnet50.pth` and its like for a name.
    pub folders: Vec<PathBuf>,
    /// Where downloads go and are found again.
    pub cache: PathBuf,
    /// Whether to download what is nowhere on this machine.
    pub download: bool,
}

impl Default for Sources {
    /// From the environment: folders in `MMRS_PRETRAINED` (separated as in `PATH`), the cache as the settings say (`MMRS_CACHE`) or where
    /// PyTorch keeps its own (`$TORCH_HOME/hub/checkpoints`, `~/.cache/torch/hub/checkpoints`); downloads unless
    /// `MMRS_OFFLINE` is set.
    fn default() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let home = || var("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let torch = || {
            let base = var("TORCH_HOME").map(PathBuf::from).unwrap_or_else(|| {
                var("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from).join("torch")
            });
            base.join("hub/checkpoints")
        };
        Self {
            folders: var("MMRS_PRETRAINED").map(|v| std::env::split_paths(&v).collect()).unwrap_or_default(),
            cache: crate::cli::settings().ok().and_then(|s| s.cache.clone()).unwrap_or_else(torch),
            download: var("MMRS_OFFLINE").is_none(),
        }
    }
}

impl Sources {
    /// The file that `name` means: a path, a URL, or `torchvision://`, `open-mmlab://`, `mmcls://` with a model's name.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        let Some(url) = url_of(name)? else {
            let path = expand(name);
            return if path.is_file() { Ok(path) } else { Err(Error::checkpoint(name, "there is no such file")) };
        };
        let file = url.rsplit('/').next().and_then(|f| f.split('?').next()).unwrap_or(&url);
        let model = name.split_once("://").map_or(name, |(_, m)| m).replace('/', "_");
        for folder in &self.folders {
            let names = [file.to_owned(), format!("{model}.pth"), format!("{model}.safetensors")];
            if let Some(path) = names.iter().map(|n| folder.join(n)).find(|p| p.is_file()) {
                return Ok(path);
            }
        }
        let cached = self.cache.join(file);
        if cached.is_file() {
            return Ok(cached);
        }
        if !self.download {
            return Err(Error::checkpoint(name, format!("{file} is not in {} and MMRS_OFFLINE is set", self.places())));
        }
        tracing::info!("downloading {url} to {}", cached.display());
        let bytes = HttpBackend::default().get(&url).map_err(|e| {
            Error::checkpoint(name, format!("{file} is not in {}, and downloading failed: {e}", self.places()))
        })?;
        self.keep(&cached, &bytes)?;
        Ok(cached)
    }

    fn places(&self) -> String {
        let places = self.folders.iter().chain([&self.cache]).map(|p| p.display().to_string());
        places.collect::<Vec<_>>().join(", ")
    }

    /// Stores a download, once it has the digest that its name gives.
    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        std::fs::create_dir_all(&self.cache).map_err(|e| Error::io(&self.cache, e))?;
        let mut draft = tempfile::NamedTempFile::new_in(&self.cache).map_err(|e| Error::io(&self.cache, e))?;
        draft.write_all(bytes).map_err(|e| Error::io(path, e))?;
        if let Some(want) = digest_in(path) {
            let found = sha256_of(draft.path())?;
            if !found.starts_with(want) {
                return Err(Error::checkpoint(path, format!("its SHA-256 is {found}, {want}... expected")));
            }
        }
        write_atomic(path, |out| out.write_all(bytes))
    }
}

/// The 8 or more hex digits behind the last dash of a published file's name.
fn digest_in(path: &Path) -> Option<&str> {
    let (_, digest) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    (digest.len() >= 8 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(digest)
}

/// The URL that a name means; `None` for a path.
fn url_of(name: &str) -> Result<Option<String>> {
    let Some((scheme, model)) = name.split_once("://") else { return Ok(None) };
    let zoo = &*ZOO;
    let models = match scheme {
        "http" | "https" => return Ok(Some(name.to_owned())),
        "torchvision" | "modelzoo" => &zoo.torchvision,
        "open-mmlab" | "openmmlab" => &zoo.open_mmlab,
        "mmcls" => &zoo.mmcls,
        other => {
            let known = "http, https, torchvision, open-mmlab, mmcls";
            return Err(Error::config(format!("checkpoint '{name}': '{other}://' is not known (known: {known})")));
        }
    };
    // torchvision 0.13 names its weights `ResNet50_Weights.IMAGENET1K_V1`.
    let lower = model.to_lowercase().replace("_weights", "");
    let model = if scheme.ends_with("mmlab") { zoo.deprecated.get(model).map_or(model, String::as_str) } else { model };
    match models.get(model).or_else(|| models.get(&lower)) {
        Some(url) => Ok(Some(url.clone())),
        None => {
            let hint = did_you_mean(model, models.keys().map(String::as_str));
            Err(Error::config(format!("checkpoint '{name}': there is no model '{model}'{hint}")))
        }
    }
}

fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mmcvs() {
        let url = |n: &str| url_of(n).unwrap().unwrap();
        assert_eq!(url("torchvision://resnet50"), "https://download.pytorch.org/models/resnet50-0676ba61.pth");
        assert_eq!(url("torchvision://ResNet50_Weights.IMAGENET1K_V1"), url("torchvision://resnet50"));
        let caffe = "https://download.openmmlab.com/pretrain/third_party/resnet50_caffe-788b5fa3.pth";
        assert_eq!(url("open-mmlab://detectron/resnet50_caffe"), caffe);
        assert_eq!(url("open-mmlab://resnet50_caffe"), caffe);
        assert_eq!(url_of("a/b.pth").unwrap(), None);
        let e = url_of("torchvision://resnet5").unwrap_err().to_string();
        assert!(e.contains("did you mean 'resnet5") || e.contains("did you mean 'resnet50'"), "{e}");
        assert!(url_of("s4://x").unwrap_err().to_string().contains("'s4://' is not known"));
    }

    #[test]
    fn a_given_folder_and_the_cache_come_before_the_network() {
        let dir = tempfile::tempdir().unwrap();
        let (given, cache) = (dir.path().join("given"), dir.path().join("cache"));
        let sources = Sources { folders: vec![given.clone()], cache: cache.clone(), download: false };
        let e = sources.find("torchvision://resnet50").unwrap_err().to_string();
        assert!(e.contains("resnet50-0676ba61.pth is not in"), "{e}");
        sources.keep(&cache.join("x.pth"), b"x").unwrap();
        std::fs::write(cache.join("resnet50-0676ba61.pth"), b"").unwrap();
        assert_eq!(sources.find("torchvision://resnet50").unwrap(), cache.join("resnet50-0676ba61.pth"));
        std::fs::create_dir(&given).unwrap();
        std::fs::write(given.join("resnet50.pth"), b"").unwrap();
        assert_eq!(sources.find("torchvision://resnet50").unwrap(), given.join("resnet50.pth"));
        assert!(sources.find("nowhere.pth").unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn a_broken_download_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources { folders: vec![], cache: dir.path().to_owned(), download: false };
        let path = dir.path().join("resnet50-0676ba61.pth");
        assert!(sources.keep(&path, b"half of it").unwrap_err().to_string().contains("0676ba61... expected"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! What a user sets once for every run: `mmrs.toml` and `MMRS_*` variables.
//!
//! Later ones go over earlier ones: `$XDG_CONFIG_HOME/mmrs.toml` (`~/.config/mmrs.toml`), `mmrs.toml` in the folder that the
//! command runs in, the environment (`MMRS_THREADS=4`), the command line.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::ImageBackend;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of downloaded weights (`MMRS_CACHE`); default PyTorch's own.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Threads of the ops (`MMRS_THREADS`); default one for each core.
    #[serde(default)]
    pub threads: Option<usize>,
    /// `--device` where it is not given (`MMRS_DEVICE`); default `cpu`.
    #[serde(default)]
    pub device: Option<String>,
    /// Whose decoder reads images (`MMRS_IMAGE_BACKEND`); default `cv2`.
    #[serde(default)]
    pub image_backend: Option<ImageBackend>,
}

const KEYS: [&str; 4] = ["cache", "threads", "device", "image_backend"];

impl Settings {
    /// Reads them from `files` (those that are there, later over earlier) and the variables that `var` gives.
    pub fn read(files: &[PathBuf], var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut figment = Figment::new();
        for file in files.iter().filter(|f| f.is_file()) {
            figment = figment.merge(Config::from_file(file)?.figment());
        }
        for key in KEYS {
            let name = format!("MMRS_{}", key.to_uppercase());
            if let Some(value) = var(&name).filter(|v| !v.is_empty()) {
                figment = figment.merge(Variable { name, key, value });
            }
        }
        figment.extract().map_err(|e| {
            // The first of several is enough; the place is the file's line or the variable.
            Error::config(e.into_iter().next().map_or_else(String::new, |e| e.to_string()))
        })
    }

    fn of_this_process() -> Result<Self> {
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".config")));
        let files: Vec<PathBuf> =
            folder.into_iter().map(|f| f.join("mmrs.toml")).chain([PathBuf::from("mmrs.toml")]).collect();
        Self::read(&files, |name| std::env::var(name).ok())
    }
}

/// An environment variable: a number where it reads as one, else text.
struct Variable {
    name: String,
    key: &'static str,
    value: String,
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::from("environment variable", self.name.as_str())
    }

    fn data(&self) -> std::result::Result<Map<Profile, Dict>, figment::Error> {
        let value = match self.value.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => self.value.as_str().into(),
        };
        Ok(Profile::Default.collect(Dict::from([(self.key.to_owned(), value)])))
    }
}

static SETTINGS: OnceLock<std::result::Result<Settings, String>> = OnceLock::new();

/// The settings of this process, read when first asked for.
pub fn settings() -> Result<&'static Settings> {
    let read = SETTINGS.get_or_init(|| Settings::of_this_process().map_err(|e| e.to_string()));
    read.as_ref().map_err(|e| Error::config(format!("settings: {e}")))
}

/// `--device` where it is not given.
pub fn default_device() -> String {
    settings().ok().and_then(|s| s.device.clone()).unwrap_or_else(|| "cpu".into())
}

/// Puts what is of the whole process into effect: threads, the image backend.
pub(super) fn apply() -> Result<()> {
    let settings = settings()?;
    if let Some(threads) = settings.threads {
        // It fails where a pool is there already, whose maker's choice stands.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    settings.image_backend.map_or(Ok(()), crate::image::use_backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_over_files_and_later_files_over_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let home = write("home.toml", "cache = \"/c\"\nthreads = 2\ndevice = \"cuda:1\"\n");
        let here = write("here.toml", "threads = 3\nimage_backend = \"pillow\"\n");
        let files = [home, dir.path().join("none.toml"), here];
        let var = |name: &str| (name == "MMRS_DEVICE").then(|| "cpu".to_owned());
        let read = Settings::read(&files, var).unwrap();
        let want = Settings {
            cache: Some("/c".into()),
            threads: Some(3),
            device: Some("cpu".into()),
            image_backend: Some(ImageBackend::Pillow),
        };
        assert_eq!(read, want);
        assert_eq!(Settings::read(&[], |_| None).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mmrs.toml");
        let fails = |text: &str, var: Option<&str>| {
            std::fs::write(&file, text).unwrap();
            let var = |name: &str| (name == "MMRS_THREADS").then(|| var.map(str::to_owned)).flatten();
            Settings::read(std::slice::from_ref(&file), var).unwrap_err().to_string()
        };
        let e = fails("\nthreads = \"many\"", None);
        assert!(e.contains("threads") && e.contains("mmrs.toml:2"), "{e}");
        let e = fails("", Some("many"));
        assert!(e.contains("threads") && e.contains("MMRS_THREADS"), "{e}");
        let e = fails("thread = 3", None);
        assert!(e.contains("thread") && e.contains("image_backend"), "{e}");
        let e = fails("threads = = 3", None);
        assert!(e.contains("mmrs.toml:1"), "{e}");
    }
}

//! Reading images; mmcls's `loading.py`.

use mmcv::fileio::{FileClient, FileClientConfig};
use mmcv::image::{ChannelOrder, ColorFlag, imfrombytes_of};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform};

/// `type = "LoadImageFromFile"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadImageFromFileConfig {
    /// Gives f32 values instead of bytes.
    #[serde(default)]
    pub to_float32: bool,
    /// What to make of the file's channels.
    #[serde(default)]
    pub color_type: ColorFlag,
    /// Where files are read from.
    #[serde(default)]
    pub file_client_args: FileClientConfig,
}

/// Reads `img_prefix/filename`, BGR.
pub struct LoadImageFromFile(LoadImageFromFileConfig, FileClient);

impl LoadImageFromFile {
    /// Opens the file client.
    pub fn new(cfg: &LoadImageFromFileConfig) -> Result<Self> {
        Ok(Self(cfg.clone(), FileClient::new(&cfg.file_client_args)?))
    }
}

/// `prefix/name` as Python's `os.path.join` has it.
fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() || name.starts_with('/') {
        return name.to_owned();
    }
    format!("{prefix}{}{name}", if prefix.ends_with('/') { "" } else { "/" })
}

impl Transform for LoadImageFromFile {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let path = join(&results.img_prefix, &results.filename);
        let bytes = self.1.get(&path)?;
        let image = imfrombytes_of(&path, &bytes, self.0.color_type, ChannelOrder::Bgr, None)?;
        results.img = Some(if self.0.to_float32 { image.into_f32() } else { image });
        results.filename = path;
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "LoadImageFromFile" => LoadImageFromFile(LoadImageFromFileConfig));

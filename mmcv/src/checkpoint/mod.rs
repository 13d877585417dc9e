//! Reading and writing checkpoints.
//!
//! [`load`] reads PyTorch's `.pth` (the zip of 1.6 and later, and the older stream of pickles; nothing in them is
//! executed) and `.safetensors`; [`save`] writes either, atomically. [`load_state_dict`] puts weights into a model and
//! reports what fitted; [`publish`] leaves the weights alone in a file named by its digest; [`Sources`] finds the files
//! behind `torchvision://resnet50` and its like; [`from_torchvision`] gives torchvision's weights the names of mmcls.

mod elem;
mod load;
mod model_zoo;
mod pretrained;
mod publish;
mod python;
mod safetensors_file;
#[cfg(test)]
mod tests;
mod torch_file;
mod torch_write;
mod torchvision;

use std::io::Read;
use std::path::Path;

use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::nn::ParamStore;
use crate::optim::OptimState;

pub use load::{LoadReport, LoadRules, Mismatch, load_state_dict};
pub use model_zoo::Sources;
pub use pretrained::{Pretrained, init_model, load_checkpoint, load_pretrained, load_whole_checkpoint, start_model};
pub use publish::{publish, sha256_of};
pub use torchvision::{Renamed, TorchvisionNet, from_torchvision};

/// Names in a `.safetensors` file under which the optimizer's tensors are.
pub const OPTIMIZER_PREFIX: &str = "__optimizer__/";
/// Names in a `.safetensors` file under which [`Checkpoint::extra_tensors`] are.
pub const EXTRA_PREFIX: &str = "__extra__/";

/// What a checkpoint file holds.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// mmcv's `meta`: `config` (text), `CLASSES`, `epoch`, `iter`, versions, ...
    pub meta: Map<String, Json>,
    /// Weights and buffers by name, in the types of the file.
    pub state_dict: IndexMap<String, Tensor>,
    /// State of the optimizer, in checkpoints written here. PyTorch's own numbers its parameters and is not read.
    pub optimizer: Option<OptimState>,
    /// What else a resumed run needs: schedules, random streams, the sampler's position.
    pub extra: Map<String, Json>,
    /// Tensors that go with `extra`.
    pub extra_tensors: IndexMap<String, Tensor>,
}

/// Reads a checkpoint; the content decides the format, not the name.
pub fn load(path: impl AsRef<Path>) -> Result<Checkpoint> {
    let path = path.as_ref();
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut head = Vec::new();
    (&mut file).take(600).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    drop(file);
    match kind(&head, path) {
        Kind::Torch => torch_file::read(path),
        Kind::Safetensors => safetensors_file::read(path),
        Kind::Other(what) => Err(Error::checkpoint(path, what)),
    }
}

/// Writes a checkpoint as its name's extension says: `.safetensors`, or `.pth` (`.pt`, `.th`, `.bin`) for PyTorch.
pub fn save(path: impl AsRef<Path>, checkpoint: &Checkpoint) -> Result<()> {
    let path = path.as_ref();
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => safetensors_file::write(path, checkpoint),
        Some("pth" | "pt" | "th" | "bin") => torch_write::write(path, checkpoint),
        _ => Err(Error::Usage(format!("{}: a checkpoint is written as .safetensors or .pth", path.display()))),
    }
}

/// A model's weights and buffers by name, sharing memory with it. Counters (`num_batches_tracked`) are `i64`, as in PyTorch.
pub fn state_dict(store: &ParamStore) -> Result<IndexMap<String, Tensor>> {
    let one = |(name, p): (String, crate::nn::Param)| {
        let counter = name.ends_with("num_batches_tracked");
        let value = if counter { p.value().to_dtype(DType::I64)? } else { p.value().clone() };
        Ok((name, value))
    };
    store.entries().into_iter().map(one).collect()
}

enum Kind {
    Torch,
    Safetensors,
    Other(String),
}

/// What a file is by its first bytes.
fn kind(head: &[u8], path: &Path) -> Kind {
    let other = |what: &str| Kind::Other(format!("{what}, not a checkpoint (.pth and .safetensors are)"));
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
    match head {
        [] => Kind::Other("the file is empty".into()),
        [b'P', b'K', 3, 4, ..] => Kind::Torch,
        _ if head.starts_with(torch_file::LEGACY_MAGIC) => Kind::Torch,
        _ if extension == "onnx" => other("an ONNX model"),
        [0x89, b'H', b'D', b'F', ..] => other("an HDF5 file"),
        [b'G', b'G', b'U', b'F', ..] => other("a GGUF file"),
        [0x1f, 0x8b, ..] => other("a gzip archive"),
        [0x93, b'N', b'U', b'M', ..] => other("a numpy array"),
        [b'<', ..] => other("a web page or XML"),
        _ if head.get(257..262) == Some(b"ustar") => other("a tar archive (PyTorch before 0.1.10 wrote such)"),
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Kind::Safetensors,
        [0x80, 2..=5, ..] => other("a pickle, but none that PyTorch wrote"),
        _ => other("none of the known formats"),
    }
}

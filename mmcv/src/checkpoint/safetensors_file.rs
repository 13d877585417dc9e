//! `.safetensors` files: tensors, and everything else of a checkpoint as JSON texts in the metadata.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::elem::{self, Elem};
use super::{Checkpoint, EXTRA_PREFIX, OPTIMIZER_PREFIX};
use crate::error::{Error, Result};
use crate::fileio::write_atomic;
use crate::optim::OptimState;

/// What safetensors itself allows for a header.
const MAX_HEADER: u64 = 100_000_000;

/// Reads one.
pub(super) fn read(path: &Path) -> Result<Checkpoint> {
    let fail = |m: String| Error::checkpoint(path, m);
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut head = [0; 8];
    file.read_exact(&mut head).map_err(io)?;
    let n = u64::from_le_bytes(head);
    if n > MAX_HEADER || n > len.saturating_sub(8) {
        return Err(fail(format!("a header of {n} bytes in a file of {len} (truncated?)")));
    }
    let mut header = vec![0; n as usize];
    file.read_exact(&mut header).map_err(io)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|e| fail(format!("its header is none of safetensors: {e}")))?;
    if header.data_len() as u64 > len - 8 - n {
        return Err(fail(format!("{} bytes of tensors, {} in the file (truncated?)", header.data_len(), len - 8 - n)));
    }
    let mut made = Checkpoint::default();
    let mut slots = indexmap::IndexMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let elem = Elem::safetensors(info.dtype)
            .ok_or_else(|| fail(format!("{name}: tensors of type {:?} are not known", info.dtype)))?;
        file.seek(SeekFrom::Start(8 + n + info.data_offsets.0 as u64)).map_err(io)?;
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        file.read_exact(&mut bytes).map_err(io)?;
        let tensor = elem.tensor(&bytes, &info.shape).map_err(|e| fail(format!("{name}: {e}")))?;
        if let Some(slot) = name.strip_prefix(OPTIMIZER_PREFIX) {
            slots.insert(slot.to_owned(), tensor);
        } else if let Some(extra) = name.strip_prefix(EXTRA_PREFIX) {
            made.extra_tensors.insert(extra.to_owned(), tensor);
        } else {
            made.state_dict.insert(name, tensor);
        }
    }
    let Some(texts) = header.metadata() else { return Ok(made) };
    made.meta = json(path, texts, "meta")?.unwrap_or_default();
    made.extra = json(path, texts, "extra")?.unwrap_or_default();
    if let Some(state) = json::<OptimState>(path, texts, "optimizer")? {
        made.optimizer = Some(OptimState { tensors: slots, ..state });
    }
    // Other people's metadata.
    let mut others: Vec<_> = texts.iter().filter(|(k, _)| !matches!(&***k, "meta" | "extra" | "optimizer")).collect();
    others.sort();
    for (key, text) in others {
        if !(key == "format" && text == "pt") {
            made.meta.entry(key.as_str()).or_insert_with(|| Json::String(text.clone()));
        }
    }
    Ok(made)
}

fn json<T: DeserializeOwned>(path: &Path, texts: &HashMap<String, String>, key: &str) -> Result<Option<T>> {
    let Some(text) = texts.get(key) else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(value) => Ok(Some(value)),
        // Someone else's `meta` may be any text.
        Err(_) if !texts.contains_key("mmcv_version") => Ok(None),
        Err(e) => Err(Error::checkpoint(path, format!("its '{key}': {e}"))),
    }
}

/// Writes one, atomically.
pub(super) fn write(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let fail = |m: String| Error::checkpoint(path, m);
    let mut tensors: Vec<(String, &Tensor)> = Vec::new();
    for (name, t) in &checkpoint.state_dict {
        if name.starts_with(OPTIMIZER_PREFIX) || name.starts_with(EXTRA_PREFIX) {
            return Err(fail(format!("'{name}' is a reserved name")));
        }
        tensors.push((name.clone(), t));
    }
    let slots = checkpoint.optimizer.iter().flat_map(|o| &o.tensors);
    tensors.extend(slots.map(|(name, t)| (format!("{OPTIMIZER_PREFIX}{name}"), t)));
    tensors.extend(checkpoint.extra_tensors.iter().map(|(name, t)| (format!("{EXTRA_PREFIX}{name}"), t)));
    // Wide elements first, which keeps all aligned.
    tensors.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size_in_bytes()));

    let text = |value: &Map<String, Json>| serde_json::to_string(value).map_err(|e| fail(e.to_string()));
    let mut texts = Map::new();
    texts.insert("format".into(), "pt".into());
    texts.insert("mmcv_version".into(), env!("CARGO_PKG_VERSION").into());
    texts.insert("meta".into(), text(&checkpoint.meta)?.into());
    if !checkpoint.extra.is_empty() {
        texts.insert("extra".into(), text(&checkpoint.extra)?.into());
    }
    if let Some(state) = &checkpoint.optimizer {
        texts.insert("optimizer".into(), serde_json::to_string(state).map_err(|e| fail(e.to_string()))?.into());
    }
    // Written by hand rather than by `Metadata`, whose map has another order each time: equal checkpoints are equal files.
    let mut header = Map::from_iter([("__metadata__".to_owned(), Json::Object(texts))]);
    let mut at = 0;
    for (name, t) in &tensors {
        let dtype = dtype(t.dtype()).ok_or_else(|| fail(format!("{name}: {:?} can't be written", t.dtype())))?;
        let end = at + t.elem_count() * t.dtype().size_in_bytes();
        let info = TensorInfo { dtype, shape: t.dims().to_vec(), data_offsets: (at, end) };
        header.insert(name.clone(), serde_json::to_value(info).map_err(|e| fail(e.to_string()))?);
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| fail(e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, t)| out.write_all(&elem::bytes(t).map_err(std::io::Error::other)?))
    })
}

fn dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        _ => return None,
    })
}

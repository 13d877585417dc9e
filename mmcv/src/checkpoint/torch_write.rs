//! Writing PyTorch's zip format, such that `torch.load(path, weights_only=True)` reads it.
//!
//! PyTorch 1.13's restricted reader knows no floats (2.0's does). What is ours alone, the state of a run, is JSON text
//! therefore; a float in `meta` is one, since mmcv computes with it.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use zip::write::SimpleFileOptions;

use super::{Checkpoint, elem};
use crate::error::{Error, Result};
use crate::fileio::pickle::PickleWriter;
use crate::fileio::write_atomic;

/// Writes one, atomically: `{'meta': ..., 'state_dict': OrderedDict(...)}` as mmcv does, and the state of a run beside them.
pub(super) fn write(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let fail = |m: String| Error::checkpoint(path, m);
    let mut p = Pickler { w: PickleWriter::new(2), storages: Vec::new() };
    p.w.out.extend_from_slice(b"}(");
    p.w.text("meta");
    p.json_map(&checkpoint.meta);
    p.w.text("state_dict");
    p.tensors(&checkpoint.state_dict).map_err(fail)?;
    if let Some(state) = &checkpoint.optimizer {
        // Not `optimizer`, whose content mmcv would take for PyTorch's own.
        p.w.text("optimizer_state");
        p.w.text(&serde_json::to_string(state).map_err(|e| fail(e.to_string()))?);
        p.w.text("optimizer_tensors");
        p.tensors(&state.tensors).map_err(fail)?;
    }
    if !checkpoint.extra.is_empty() {
        p.w.text("extra");
        p.w.text(&serde_json::to_string(&checkpoint.extra).map_err(|e| fail(e.to_string()))?);
    }
    if !checkpoint.extra_tensors.is_empty() {
        p.w.text("extra_tensors");
        p.tensors(&checkpoint.extra_tensors).map_err(fail)?;
    }
    p.w.out.extend_from_slice(b"u.");
    write_atomic(path, |out| zip(&p, out))
}

fn zip(p: &Pickler<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut zip = zip::ZipWriter::new_stream(out);
    let mut file = |name: &str, bytes: &[u8]| {
        let stored = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(u32::try_from(bytes.len()).is_err());
        zip.start_file(format!("archive/{name}"), stored)?;
        zip.write_all(bytes)
    };
    file("data.pkl", &p.w.out)?;
    file("byteorder", b"little")?;
    for (i, tensor) in p.storages.iter().enumerate() {
        file(&format!("data/{i}"), &elem::bytes(tensor).map_err(std::io::Error::other)?)?;
    }
    file("version", b"3\n")?;
    zip.finish()?;
    Ok(())
}

/// Writes a pickle of protocol 2, with the opcodes that the restricted reader allows.
struct Pickler<'t> {
    w: PickleWriter,
    storages: Vec<&'t Tensor>,
}

impl<'t> Pickler<'t> {
    fn json_map(&mut self, map: &Map<String, Json>) {
        self.w.out.extend_from_slice(b"}(");
        for (key, value) in map {
            self.w.text(key);
            self.json(value);
        }
        self.w.out.push(b'u');
    }

    fn json(&mut self, value: &Json) {
        match value {
            Json::Null => self.w.out.push(b'N'),
            Json::Bool(b) => self.w.bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => self.w.int(i),
                None => self.w.float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => self.w.text(s),
            Json::Array(a) => {
                self.w.out.extend_from_slice(b"](");
                a.iter().for_each(|v| self.json(v));
                self.w.out.push(b'e');
            }
            Json::Object(o) => self.json_map(o),
        }
    }

    fn tensors(&mut self, tensors: &'t IndexMap<String, Tensor>) -> std::result::Result<(), String> {
        self.w.out.extend_from_slice(b"ccollections\nOrderedDict\n)R(");
        for (name, tensor) in tensors {
            self.w.text(name);
            self.tensor(tensor).map_err(|e| format!("{name}: {e}"))?;
        }
        self.w.out.push(b'u');
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
    fn tensor(&mut self, tensor: &'t Tensor) -> std::result::Result<(), String> {
        let class = match tensor.dtype() {
            DType::F64 => "DoubleStorage",
            DType::F32 => "FloatStorage",
            DType::F16 => "HalfStorage",
            DType::BF16 => "BFloat16Storage",
            DType::I64 => "LongStorage",
            DType::I32 => "IntStorage",
            DType::I16 => "ShortStorage",
            DType::U8 => "ByteStorage",
            other => return Err(format!("PyTorch has no storage of type {other:?}")),
        };
        self.w.out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.w.text("storage");
        self.w.out.extend_from_slice(format!("ctorch\n{class}\n").as_bytes());
        self.w.text(&self.storages.len().to_string());
        self.w.text("cpu");
        self.w.int(tensor.elem_count() as i64);
        self.w.out.extend_from_slice(b"tQK\0");
        let mut strides = vec![1i64; tensor.rank()];
        for i in (1..tensor.rank()).rev() {
            strides[i - 1] = strides[i] * tensor.dims()[i] as i64;
        }
        self.w.out.push(b'(');
        tensor.dims().iter().for_each(|d| self.w.int(*d as i64));
        self.w.out.extend_from_slice(b"t(");
        strides.iter().for_each(|s| self.w.int(*s));
        self.w.out.extend_from_slice(b"t\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push(tensor);
        Ok(())
    }
}

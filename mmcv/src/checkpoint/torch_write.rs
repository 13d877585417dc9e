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
use crate::fileio::write_atomic;

/// Writes one, atomically: `{'meta': ..., 'state_dict': OrderedDict(...)}` as mmcv does, and the state of a run beside them.
pub(super) fn write(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let fail = |m: String| Error::checkpoint(path, m);
    let mut p = Pickler { out: vec![0x80, 2], storages: Vec::new() };
    p.out.extend_from_slice(b"}(");
    p.text("meta");
    p.json_map(&checkpoint.meta);
    p.text("state_dict");
    p.tensors(&checkpoint.state_dict).map_err(fail)?;
    if let Some(state) = &checkpoint.optimizer {
        // Not `optimizer`, whose content mmcv would take for PyTorch's own.
        p.text("optimizer_state");
        p.text(&serde_json::to_string(state).map_err(|e| fail(e.to_string()))?);
        p.text("optimizer_tensors");
        p.tensors(&state.tensors).map_err(fail)?;
    }
    if !checkpoint.extra.is_empty() {
        p.text("extra");
        p.text(&serde_json::to_string(&checkpoint.extra).map_err(|e| fail(e.to_string()))?);
    }
    if !checkpoint.extra_tensors.is_empty() {
        p.text("extra_tensors");
        p.tensors(&checkpoint.extra_tensors).map_err(fail)?;
    }
    p.out.extend_from_slice(b"u.");
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
    file("data.pkl", &p.out)?;
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
    out: Vec<u8>,
    storages: Vec<&'t Tensor>,
}

impl<'t> Pickler<'t> {
    fn text(&mut self, s: &str) {
        self.out.push(b'X');
        self.out.extend_from_slice(&(s.len() as u32).to_le_bytes());
        self.out.extend_from_slice(s.as_bytes());
    }

    fn int(&mut self, i: i64) {
        match i32::try_from(i) {
            Ok(small @ 0..=255) => self.out.extend_from_slice(&[b'K', small as u8]),
            Ok(i) => {
                self.out.push(b'J');
                self.out.extend_from_slice(&i.to_le_bytes());
            }
            Err(_) => {
                self.out.extend_from_slice(&[0x8a, 8]);
                self.out.extend_from_slice(&i.to_le_bytes());
            }
        }
    }

    fn json_map(&mut self, map: &Map<String, Json>) {
        self.out.extend_from_slice(b"}(");
        for (key, value) in map {
            self.text(key);
            self.json(value);
        }
        self.out.push(b'u');
    }

    fn json(&mut self, value: &Json) {
        match value {
            Json::Null => self.out.push(b'N'),
            Json::Bool(b) => self.out.push(if *b { 0x88 } else { 0x89 }),
            Json::Number(n) => match n.as_i64() {
                Some(i) => self.int(i),
                None => {
                    self.out.push(b'G');
                    self.out.extend_from_slice(&n.as_f64().unwrap_or(f64::NAN).to_be_bytes());
                }
            },
            Json::String(s) => self.text(s),
            Json::Array(a) => {
                self.out.extend_from_slice(b"](");
                a.iter().for_each(|v| self.json(v));
                self.out.push(b'e');
            }
            Json::Object(o) => self.json_map(o),
        }
    }

    fn tensors(&mut self, tensors: &'t IndexMap<String, Tensor>) -> std::result::Result<(), String> {
        self.out.extend_from_slice(b"ccollections\nOrderedDict\n)R(");
        for (name, tensor) in tensors {
            self.text(name);
            self.tensor(tensor).map_err(|e| format!("{name}: {e}"))?;
        }
        self.out.push(b'u');
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
        self.out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.out.extend_from_slice(format!("ctorch\n{class}\n").as_bytes());
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(tensor.elem_count() as i64);
        self.out.extend_from_slice(b"tQK\0");
        let mut strides = vec![1i64; tensor.rank()];
        for i in (1..tensor.rank()).rev() {
            strides[i - 1] = strides[i] * tensor.dims()[i] as i64;
        }
        self.out.push(b'(');
        tensor.dims().iter().for_each(|d| self.int(*d as i64));
        self.out.extend_from_slice(b"t(");
        strides.iter().for_each(|s| self.int(*s));
        self.out.extend_from_slice(b"t\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push(tensor);
        Ok(())
    }
}

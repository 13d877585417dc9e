//! numpy's `.npy` and `.npz`.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use indexmap::IndexMap;
use zip::write::SimpleFileOptions;

use super::{Data, Key, NdArray, NdType};
use crate::config::python_values;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The array of an `.npy` file.
pub(super) fn read_npy(bytes: &[u8]) -> Result<NdArray, String> {
    let cut = || "it ends in the middle of its header".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or("no .npy file: its magic number is missing")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (len, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, r)| (usize::from(u16::from_le_bytes(*n)), r)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
        other => return Err(format!("version {other} of the .npy format is not known")),
    }
    .ok_or_else(cut)?;
    let (header, content) = rest.split_at_checked(len).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is no text")?.trim();
    let name: Arc<str> = "header".into();
    let header = python_values(&format!("header = {header}"), &name).map_err(|e| format!("its header: {e}"))?;
    let field = |key: &str| header.at("header").and_then(|h| h.get(key)).ok_or(format!("its header has no '{key}'"));
    let descr = field("descr")?.as_str().ok_or("arrays of records are not read")?.to_owned();
    let fortran = field("fortran_order")?.as_bool().unwrap_or(false);
    let axis = |n: &crate::config::Node| n.as_i64().and_then(|n| usize::try_from(n).ok());
    let shape: Option<Vec<usize>> = field("shape")?.as_list().and_then(|l| l.iter().map(axis).collect());
    let shape = shape.ok_or("its header has no shape")?;
    let bare = descr.trim_start_matches(['<', '|', '=', '>']);
    let dtype = NdType::from_code(bare).ok_or_else(|| format!("arrays of type '{descr}' are not read"))?;
    NdArray::stored(dtype, descr.starts_with('>'), fortran, shape, content.to_vec())
}

/// An `.npy` file of version 1 (2 where the header is long).
pub(super) fn write_npy(array: &NdArray) -> Vec<u8> {
    let axes: Vec<String> = array.shape().iter().map(ToString::to_string).collect();
    let shape = if let [one] = axes.as_slice() { format!("({one},)") } else { format!("({})", axes.join(", ")) };
    let (order, code) = (array.dtype().order(), array.dtype().code());
    let mut header = format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': {shape}, }}");
    let long = header.len() > 65_000;
    let before = MAGIC.len() + 2 + if long { 4 } else { 2 };
    // The content starts at a multiple of 64.
    let filling = (64 - (before + header.len() + 1) % 64) % 64;
    header.push_str(&" ".repeat(filling));
    header.push('\n');
    let mut out = MAGIC.to_vec();
    if long {
        out.extend_from_slice(&[2, 0]);
        out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&[1, 0]);
        out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(array.bytes());
    out
}

/// The arrays of an `.npz` archive by their names.
pub(super) fn read_npz(bytes: &[u8]) -> Result<Data, String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| format!("no .npz archive: {e}"))?;
    let mut arrays = IndexMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| e.to_string())?;
        let file = entry.name().map_err(|e| e.to_string())?.into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| format!("{file}: {e}"))?;
        let name = file.strip_suffix(".npy").unwrap_or(&file);
        let array = read_npy(&content).map_err(|e| format!("{file}: {e}"))?;
        arrays.insert(Key::from(name), Data::Array(array));
    }
    Ok(Data::Dict(arrays))
}

/// An `.npz` archive, not compressed, of a dictionary of arrays.
pub(super) fn write_npz(data: &Data) -> Result<Vec<u8>, String> {
    let dict = data.as_dict().ok_or_else(|| format!("an .npz file holds a dict of arrays, not {}", data.kind()))?;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (key, value) in dict {
        let (Key::Str(name), Data::Array(array)) = (key, value) else {
            return Err(format!("an .npz file holds arrays by name, not {}", value.kind()));
        };
        let stored = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(u32::try_from(array.bytes().len() + 100_000).is_err());
        zip.start_file(format!("{name}.npy"), stored).map_err(|e| e.to_string())?;
        zip.write_all(&write_npy(array)).map_err(|e| e.to_string())?;
    }
    Ok(zip.finish().map_err(|e| e.to_string())?.into_inner())
}

//! PyTorch's files: the zip of 1.6 and later, and the stream of pickles before.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use candle_core::Tensor;
use indexmap::IndexMap;

use super::Checkpoint;
use super::elem::Elem;
use super::python;
use crate::error::{Error, Result};
use crate::fileio::pickle::{self, Heap, Id, Obj};

/// What a legacy file starts with: the magic number 0x1950a86a20f9469cfc6c as a pickle of protocol 2.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Elements that a tensor may have beyond its storage (an expanded one repeats elements).
const MAX_EXPANDED: usize = 1 << 26;
/// Bytes of the pickle in a zip: a bound for what decompression may make.
const MAX_PICKLE: u64 = 1 << 30;

type Step<T> = std::result::Result<T, String>;

/// Where the elements of a tensor are.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    key: String,
    elem: Elem,
    /// Elements of the storage.
    numel: usize,
    offset: usize,
    size: Vec<usize>,
    stride: Vec<usize>,
}

/// Reads either format.
pub(super) fn read(path: &Path) -> Result<Checkpoint> {
    let fail = |m: String| Error::checkpoint(path, m);
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut start = [0; 2];
    file.read_exact(&mut start).map_err(|e| Error::io(path, e))?;
    file.rewind().map_err(|e| Error::io(path, e))?;
    if start == *b"PK" { Zip::open(file).and_then(|mut z| z.checkpoint()) } else { legacy(file) }.map_err(fail)
}

/// Gives the bytes of a storage.
trait Storages {
    fn get(&mut self, key: &str, bytes: usize) -> Step<Rc<Vec<u8>>>;
}

struct Zip {
    archive: zip::ZipArchive<File>,
    prefix: String,
    len: u64,
}

impl Zip {
    fn open(file: File) -> Step<Self> {
        let len = file.metadata().map_err(|e| e.to_string())?.len();
        let archive = zip::ZipArchive::new(file).map_err(|e| format!("a broken zip archive (truncated?): {e}"))?;
        let prefix = {
            let names = archive.file_names().filter_map(std::result::Result::ok);
            let mut prefixes = names.filter_map(|n| n.strip_suffix("data.pkl").map(str::to_owned));
            prefixes.find(|p| p.is_empty() || p.ends_with('/'))
        };
        let prefix = prefix.ok_or("a zip archive, but none of PyTorch's: there is no data.pkl in it")?;
        Ok(Self { archive, prefix, len })
    }

    fn file(&mut self, name: &str, limit: u64) -> Step<Vec<u8>> {
        let name = format!("{}{name}", self.prefix);
        let file = self.archive.by_name(&name).map_err(|e| format!("{name}: {e}"))?;
        if file.size() > limit {
            return Err(format!("{name} claims {} bytes, {limit} expected", file.size()));
        }
        // Room for what the archive can hold; a claim beyond it finds no data to back it.
        let mut bytes = Vec::with_capacity(file.size().min(self.len) as usize);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
        Ok(bytes)
    }

    fn checkpoint(&mut self) -> Step<Checkpoint> {
        let order = format!("{}byteorder", self.prefix);
        if self.archive.index_for_name(&order).is_some() && self.file("byteorder", 16)?.starts_with(b"big") {
            return Err("it was written on a big-endian machine".into());
        }
        let bytes = self.file("data.pkl", MAX_PICKLE)?;
        let mut heap = Heap::default();
        let (root, _) = pickle::read(&bytes, &mut heap).map_err(|e| e.to_string())?;
        drop(bytes);
        build(&heap, root, self)
    }
}

impl Storages for Zip {
    fn get(&mut self, key: &str, bytes: usize) -> Step<Rc<Vec<u8>>> {
        let found = self.file(&format!("data/{key}"), bytes as u64)?;
        if found.len() < bytes {
            return Err(format!("storage {key} has {} bytes, {bytes} expected", found.len()));
        }
        Ok(Rc::new(found))
    }
}

struct Stream {
    bytes: Vec<u8>,
    storages: HashMap<String, Range<usize>>,
}

impl Storages for Stream {
    fn get(&mut self, key: &str, bytes: usize) -> Step<Rc<Vec<u8>>> {
        let range = self.storages.get(key).ok_or_else(|| format!("storage {key} is missing (truncated?)"))?;
        if range.len() < bytes {
            return Err(format!("storage {key} has {} bytes, {bytes} expected", range.len()));
        }
        Ok(Rc::new(self.bytes[range.clone()].to_vec()))
    }
}

fn legacy(mut file: File) -> Step<Checkpoint> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let mut heap = Heap::default();
    let mut at = 0;
    let mut next = |heap: &mut Heap| {
        let (id, used) = pickle::read(&bytes[at..], heap).map_err(|e| e.to_string())?;
        at += used;
        Ok::<_, String>((id, at))
    };
    let (_magic, (version, _), (system, _)) = (next(&mut heap)?, next(&mut heap)?, next(&mut heap)?);
    if heap.int(version) != Some(1001) {
        return Err(format!("version {:?} of PyTorch's format is not known", heap.get(version)));
    }
    if heap.entry(system, "little_endian").is_some_and(|e| *heap.get(e) == Obj::Bool(false)) {
        return Err("it was written on a big-endian machine".into());
    }
    let ((root, _), (keys, mut at)) = (next(&mut heap)?, next(&mut heap)?);
    let mut sizes = HashMap::new();
    for id in 0..heap.len() {
        if let Obj::Persistent(id) = heap.get(id)
            && let Ok((key, elem, _, _)) = storage(&heap, *id)
        {
            sizes.insert(key, elem.size());
        }
    }
    let mut storages = HashMap::new();
    for key in heap.items(keys).ok_or("the list of storages is missing")? {
        let key = heap.str(*key).ok_or("a storage's name is not text")?;
        let size = *sizes.get(key).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let head = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
        let count = u64::from_le_bytes(head.ok_or_else(|| format!("it ends before storage {key} (truncated?)"))?);
        at += 8;
        let end = usize::try_from(count).ok().and_then(|n| n.checked_mul(size)).and_then(|n| n.checked_add(at));
        let end =
            end.filter(|e| *e <= bytes.len()).ok_or_else(|| format!("it ends within storage {key} (truncated?)"))?;
        storages.insert(key.to_owned(), at..end);
        at = end;
    }
    build(&heap, root, &mut Stream { bytes, storages })
}

/// Key, type, number of elements and first element of the storage that a persistent id (a tuple) names.
fn storage(heap: &Heap, id: Id) -> Step<(String, Elem, usize, usize)> {
    let parts = heap.items(id).filter(|p| p.len() >= 5 && heap.str(p[0]) == Some("storage"));
    let parts = parts.ok_or("a reference that names no storage")?;
    let class = heap.global(parts[1]).map_or_else(|| heap.str(parts[1]).unwrap_or(""), |(_, name)| name);
    let elem = Elem::torch(class).ok_or_else(|| format!("storages of type '{class}' are not known"))?;
    let key = heap.str(parts[2]).map(str::to_owned).or_else(|| heap.int(parts[2]).map(|i| i.to_string()));
    let numel = heap.int(parts[4]).and_then(|n| usize::try_from(n).ok()).ok_or("a storage without size")?;
    // Legacy files have views of storages: (name, first element, number of elements).
    let first = parts.get(5).and_then(|v| heap.items(*v)).and_then(|v| heap.int(*v.get(1)?)).unwrap_or(0);
    let first = usize::try_from(first).map_err(|_| "a storage view before its start")?;
    Ok((key.ok_or("a storage without name")?, elem, numel, first))
}

/// The tensor that `id` describes, if it is one.
pub(super) fn tensor_ref(heap: &Heap, id: Id, depth: usize) -> Option<Step<TensorRef>> {
    let Obj::Object { class, args, .. } = heap.get(id) else { return None };
    let args = heap.items(*args)?;
    match heap.global(*class)? {
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor" | "_rebuild_tensor_v3") => Some(rebuild(heap, args)),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") if depth < 8 => {
            tensor_ref(heap, *args.first()?, depth + 1)
        }
        // (function, class, arguments, state): subclasses of Tensor.
        ("torch._tensor", "_rebuild_from_type_v2") => match heap.global(*args.first()?)? {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                Some(rebuild(heap, heap.items(*args.get(2)?)?))
            }
            _ => None,
        },
        _ => None,
    }
}

/// `(storage, offset, size, stride, requires_grad, hooks, [dtype or metadata])`.
fn rebuild(heap: &Heap, args: &[Id]) -> Step<TensorRef> {
    let [store, offset, size, stride, rest @ ..] = args else { return Err("a tensor without storage".into()) };
    let Obj::Persistent(id) = heap.get(*store) else { return Err("a tensor without storage".into()) };
    let (key, mut elem, mut numel, first) = storage(heap, *id)?;
    if let Some((_, name)) = rest.get(2).and_then(|d| heap.global(*d)) {
        let typed = Elem::torch(name).ok_or_else(|| format!("tensors of type '{name}' are not known"))?;
        (numel, elem) = (numel * elem.size() / typed.size(), typed);
    }
    let count = |id: &Id| heap.int(*id).and_then(|n| usize::try_from(n).ok());
    let counts = |id: Id| heap.items(id).and_then(|v| v.iter().map(count).collect::<Option<Vec<_>>>());
    let offset = count(offset).and_then(|o| o.checked_add(first)).ok_or("a tensor without offset")?;
    let (size, stride) =
        (counts(*size).ok_or("a tensor without size")?, counts(*stride).ok_or("a tensor without stride")?);
    if size.len() != stride.len() {
        return Err(format!("a tensor with {} sizes and {} strides", size.len(), stride.len()));
    }
    Ok(TensorRef { key, elem, numel, offset, size, stride })
}

impl TensorRef {
    /// The tensor, from the bytes of its storage.
    fn tensor(&self, storage: &[u8]) -> Step<Tensor> {
        let beyond = || format!("a tensor of {:?} beyond its storage of {} elements", self.size, self.numel);
        let count = self.size.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).ok_or_else(beyond)?;
        let elem = self.elem.size();
        if count == 0 {
            return self.elem.tensor(&[], &self.size);
        }
        let last = self.size.iter().zip(&self.stride).try_fold(self.offset, |at, (size, stride)| {
            (size - 1).checked_mul(*stride).and_then(|step| at.checked_add(step))
        });
        let last = last.filter(|l| *l < storage.len() / elem).ok_or_else(beyond)?;
        let mut dense = 1;
        let contiguous = self.size.iter().zip(&self.stride).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == dense;
            dense *= size;
            fits
        });
        if contiguous {
            return self.elem.tensor(&storage[self.offset * elem..(last + 1) * elem], &self.size);
        }
        if count > (storage.len() / elem).max(MAX_EXPANDED) {
            return Err(beyond());
        }
        let mut bytes = Vec::with_capacity(count * elem);
        let mut index = vec![0; self.size.len()];
        for _ in 0..count {
            let at = self.offset + index.iter().zip(&self.stride).map(|(i, s)| i * s).sum::<usize>();
            bytes.extend_from_slice(&storage[at * elem..(at + 1) * elem]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.size[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        self.elem.tensor(&bytes, &self.size)
    }
}

/// Reads tensors, each storage once, and lets go of it when its last tensor is made.
pub(super) struct Tensors<'s> {
    storages: &'s mut dyn Storages,
    held: HashMap<String, (Rc<Vec<u8>>, usize)>,
}

impl Tensors<'_> {
    /// All of `refs`, by name.
    pub fn read(&mut self, refs: Vec<(String, TensorRef)>) -> Step<IndexMap<String, Tensor>> {
        let mut uses: HashMap<String, (usize, usize)> = HashMap::new();
        for (_, r) in &refs {
            let (count, bytes) = uses.entry(r.key.clone()).or_default();
            *count += 1;
            *bytes = (*bytes).max(r.numel.checked_mul(r.elem.size()).ok_or("a storage beyond all memory")?);
        }
        let mut made = IndexMap::with_capacity(refs.len());
        for (name, r) in refs {
            let (count, bytes) = uses[&r.key];
            if !self.held.contains_key(&r.key) {
                let storage = self.storages.get(&r.key, bytes).map_err(|e| format!("{name}: {e}"))?;
                self.held.insert(r.key.clone(), (storage, count));
            }
            let Some((storage, left)) = self.held.get_mut(&r.key) else { continue };
            made.insert(name.clone(), r.tensor(storage).map_err(|e| format!("{name}: {e}"))?);
            *left -= 1;
            if *left == 0 {
                self.held.remove(&r.key);
            }
        }
        Ok(made)
    }
}

fn build(heap: &Heap, root: Id, storages: &mut dyn Storages) -> Step<Checkpoint> {
    python::checkpoint(heap, root, &mut Tensors { storages, held: HashMap::new() })
}

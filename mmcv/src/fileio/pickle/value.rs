//! What the values of a data file's pickle mean.

use indexmap::IndexMap;

use super::super::{Data, NdArray, NdType};
use super::{Heap, Id, Obj};

/// Values nested deeper than this are an error.
const MAX_DEPTH: usize = 200;

/// Why a pickle's value can't be read, and at which byte.
pub(in crate::fileio) type Failure = super::PickleError;

/// The value `root`. Classes and functions beyond those of plain data are errors that name them and their place.
pub(in crate::fileio) fn data(heap: &Heap, root: Id, pickle_len: usize) -> Result<Data, Failure> {
    // Values that the pickle names twice are copied: what that may come to is bounded.
    let left = pickle_len.saturating_mul(64).saturating_add(256 << 20);
    Reader { heap, left }.value(root, 0)
}

/// A numpy array or scalar, if `id` is one; an error when it is one that can't be read.
pub(crate) fn array(heap: &Heap, id: Id) -> Option<Result<NdArray, String>> {
    let Obj::Object { class, args, state, .. } = heap.get(id) else { return None };
    let (module, name) = heap.global(*class)?;
    let module = module.strip_prefix("numpy.core.").or_else(|| module.strip_prefix("numpy._core."))?;
    Some(match (module, name) {
        ("multiarray", "_reconstruct") => reconstructed(heap, (*state)?),
        ("multiarray", "scalar") => {
            let Some([dtype, data]) = heap.items(*args) else {
                return Some(Err("a numpy scalar without value".into()));
            };
            let value = |(t, big): (NdType, bool)| NdArray::stored(t, big, false, Vec::new(), bytes(heap, *data)?);
            dtype_of(heap, *dtype).and_then(value)
        }
        ("numeric", "_frombuffer") => {
            let Some([data, dtype, shape, order]) = heap.items(*args) else {
                return Some(Err("a numpy array without content".into()));
            };
            let fortran = heap.str(*order) == Some("F");
            dtype_of(heap, *dtype)
                .and_then(|(t, big)| NdArray::stored(t, big, fortran, shape_of(heap, *shape)?, bytes(heap, *data)?))
        }
        _ => return None,
    })
}

fn reconstructed(heap: &Heap, state: Id) -> Result<NdArray, String> {
    let Some([_, shape, dtype, fortran, data]) = heap.items(state) else {
        return Err("a numpy array without content".into());
    };
    let (dtype, big) = dtype_of(heap, *dtype)?;
    let fortran = *heap.get(*fortran) == Obj::Bool(true);
    NdArray::stored(dtype, big, fortran, shape_of(heap, *shape)?, bytes(heap, *data)?)
}

fn shape_of(heap: &Heap, id: Id) -> Result<Vec<usize>, String> {
    let axis = |i: &Id| heap.int(*i).and_then(|n| usize::try_from(n).ok());
    heap.items(id).and_then(|v| v.iter().map(axis).collect()).ok_or_else(|| "a numpy array without shape".into())
}

fn bytes(heap: &Heap, id: Id) -> Result<Vec<u8>, String> {
    match heap.get(id) {
        Obj::Bytes(b) => Ok(b.clone()),
        // Python 2 wrote them as text.
        Obj::Str(s) => s
            .chars()
            .map(|c| u8::try_from(u32::from(c)).ok())
            .collect::<Option<_>>()
            .ok_or_else(|| "the elements of a numpy array are text".into()),
        // A bytearray is a call before protocol 5; empty bytes are one before 3.
        Obj::Object { class, args, .. } => {
            let Some(("builtins" | "__builtin__", "bytes" | "bytearray")) = heap.global(*class) else {
                return Err("the elements of a numpy array are no bytes".into());
            };
            match heap.items(*args).and_then(|a| a.first()) {
                None => Ok(Vec::new()),
                Some(inner) if !matches!(heap.get(*inner), Obj::Object { .. }) => bytes(heap, *inner),
                Some(_) => Err("the elements of a numpy array are no bytes".into()),
            }
        }
        _ => Err("the elements of a numpy array are no bytes".into()),
    }
}

/// The type of elements and whether they are big endian: `numpy.dtype('f4', 0, 1)` with its byte order in the state.
fn dtype_of(heap: &Heap, id: Id) -> Result<(NdType, bool), String> {
    let unknown = || "a numpy array of an unknown type".to_owned();
    let Obj::Object { class, args, state, .. } = heap.get(id) else { return Err(unknown()) };
    let Some(("numpy", "dtype")) = heap.global(*class) else { return Err(unknown()) };
    let code = heap.items(*args).and_then(|a| heap.str(*a.first()?)).ok_or_else(unknown)?;
    let order = state.and_then(|s| heap.items(s)).and_then(|s| heap.str(*s.get(1)?)).unwrap_or("|");
    let bare = code.trim_start_matches(['<', '|', '=', '>']);
    let dtype = NdType::from_code(bare).ok_or_else(|| format!("numpy arrays of type '{code}' are not read"))?;
    Ok((dtype, order == ">" || code.starts_with('>')))
}

struct Reader<'h> {
    heap: &'h Heap,
    /// Bytes that may still be made.
    left: usize,
}

impl Reader<'_> {
    fn fail(&self, id: Id, message: impl Into<String>) -> Failure {
        Failure { at: self.heap.offset(id), message: message.into() }
    }

    fn pay(&mut self, id: Id, bytes: usize) -> Result<(), Failure> {
        match self.left.checked_sub(bytes + size_of::<Data>()) {
            Some(left) => self.left = left,
            None => return Err(self.fail(id, "its values name each other so often that they fill the memory")),
        }
        Ok(())
    }

    fn value(&mut self, id: Id, depth: usize) -> Result<Data, Failure> {
        if depth > MAX_DEPTH {
            return Err(self.fail(id, format!("values nested deeper than {MAX_DEPTH}, or a list in itself")));
        }
        Ok(match self.heap.get(id) {
            Obj::None => Data::None,
            Obj::Bool(b) => Data::Bool(*b),
            Obj::Int(i) => Data::Int((*i).into()),
            Obj::Long(b) => Data::Int(wide(b).ok_or_else(|| self.fail(id, "an integer of more than 128 bits"))?),
            Obj::Float(f) => Data::Float(*f),
            Obj::Str(s) => {
                self.pay(id, s.len())?;
                Data::Str(s.clone())
            }
            Obj::Bytes(b) => {
                self.pay(id, b.len())?;
                Data::Bytes(b.clone())
            }
            Obj::List(v) | Obj::Set(v) => Data::List(self.values(id, v, depth)?),
            Obj::Tuple(v) => Data::Tuple(self.values(id, v, depth)?),
            Obj::Dict(d) => self.dict(id, d, depth)?,
            Obj::Global(module, name) => return Err(self.foreign(id, module, name)),
            Obj::Persistent(_) => return Err(self.fail(id, "it refers to something outside the file")),
            Obj::Object { class, args, .. } => return self.object(id, *class, *args, depth),
        })
    }

    fn values(&mut self, id: Id, items: &[Id], depth: usize) -> Result<Vec<Data>, Failure> {
        self.pay(id, size_of_val(items))?;
        items.iter().map(|i| self.value(*i, depth + 1)).collect()
    }

    fn dict(&mut self, id: Id, entries: &[(Id, Id)], depth: usize) -> Result<Data, Failure> {
        self.pay(id, 4 * size_of_val(entries))?;
        let mut dict = IndexMap::with_capacity(entries.len());
        for (key, value) in entries {
            let found = self.value(*key, depth + 1)?;
            let kind = found.kind();
            let found = found.into_key().ok_or_else(|| self.fail(*key, format!("{kind} as a key")))?;
            dict.insert(found, self.value(*value, depth + 1)?);
        }
        Ok(Data::Dict(dict))
    }

    fn object(&mut self, id: Id, class: Id, args: Id, depth: usize) -> Result<Data, Failure> {
        let Some((module, name)) = self.heap.global(class) else {
            return Err(self.fail(id, "it calls something that is no class"));
        };
        let first = self.heap.items(args).and_then(|a| a.first().copied());
        match (module, name) {
            ("builtins" | "__builtin__", "list" | "set" | "frozenset" | "tuple") => {
                let items = match first {
                    Some(items) => {
                        self.heap.members(items).ok_or_else(|| self.fail(items, "no list to make one of"))?
                    }
                    None => &[],
                };
                let items = self.values(id, items, depth)?;
                return Ok(if name == "tuple" { Data::Tuple(items) } else { Data::List(items) });
            }
            ("builtins" | "__builtin__", "bytearray" | "bytes") => {
                let b = bytes(self.heap, id).map_err(|_| self.fail(id, "no bytes to make some of"))?;
                self.pay(id, b.len())?;
                return Ok(Data::Bytes(b));
            }
            _ => {}
        }
        if let Some(objects) = self.objects(id, depth) {
            return objects;
        }
        match array(self.heap, id) {
            Some(Ok(a)) => {
                self.pay(id, a.bytes().len())?;
                Ok(Data::Array(a))
            }
            Some(Err(message)) => Err(self.fail(id, message)),
            None => Err(self.foreign(class, module, name)),
        }
    }

    /// An array of Python objects, as nested lists.
    fn objects(&mut self, id: Id, depth: usize) -> Option<Result<Data, Failure>> {
        let Obj::Object { state: Some(state), .. } = self.heap.get(id) else { return None };
        let [_, shape, dtype, fortran, list] = self.heap.items(*state)? else { return None };
        let Obj::Object { args, .. } = self.heap.get(*dtype) else { return None };
        let ("O" | "O8") = self.heap.str(*self.heap.items(*args)?.first()?)? else { return None };
        let Obj::List(items) = self.heap.get(*list) else { return None };
        let shape = match shape_of(self.heap, *shape) {
            Ok(shape) => shape,
            Err(message) => return Some(Err(self.fail(id, message))),
        };
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        if count != Some(items.len()) || shape.len() > 1 && *self.heap.get(*fortran) == Obj::Bool(true) {
            return Some(Err(self.fail(id, format!("an array of {shape:?} with {} objects", items.len()))));
        }
        let values = match self.values(id, items, depth) {
            Ok(values) => values,
            Err(e) => return Some(Err(e)),
        };
        let mut level = values;
        for n in shape.iter().skip(1).rev() {
            let mut rest = level.into_iter();
            let outer = if *n == 0 { 0 } else { rest.len() / n };
            level = (0..outer).map(|_| Data::List(rest.by_ref().take(*n).collect())).collect();
        }
        Some(Ok(if shape.is_empty() { level.pop().unwrap_or_default() } else { Data::List(level) }))
    }

    fn foreign(&self, id: Id, module: &str, name: &str) -> Failure {
        self.fail(id, format!("'{module}.{name}' is not read: data files hold Python's plain values and numpy arrays"))
    }
}

/// A little endian integer in two's complement.
fn wide(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let (low, high) = bytes.split_at(bytes.len().min(16));
    if high.iter().any(|b| *b != fill) || bytes.len() > 16 && (low[15] & 0x80 != 0) != negative {
        return None;
    }
    let mut word = [fill; 16];
    word[..low.len()].copy_from_slice(low);
    Some(i128::from_le_bytes(word))
}

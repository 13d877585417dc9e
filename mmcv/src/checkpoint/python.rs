//! What the values of a checkpoint's pickle mean: weights, `meta`, the state of a run.

use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use super::Checkpoint;
use super::elem::Elem;
use super::torch_file::{TensorRef, Tensors, tensor_ref};
use crate::fileio::NdArray;
use crate::fileio::pickle::{Heap, Id, Obj, value};

type Step<T> = std::result::Result<T, String>;

/// Where weights are, beside `state_dict`, in checkpoints of others: basicsr, timm, YOLOX, Detectron, GANs.
const PLACES: &[&str] = &[
    "state_dict",
    "params_ema",
    "params",
    "model_state_dict",
    "model_state",
    "model_ema",
    "model",
    "net",
    "network",
    "generator",
    "weights",
    "module",
    "ema",
    "teacher",
    "student",
];

/// The checkpoint at `root`.
pub(super) fn checkpoint(heap: &Heap, root: Id, tensors: &mut Tensors<'_>) -> Step<Checkpoint> {
    let mut made = Checkpoint::default();
    let place = weights(heap, root)?;
    let mut found = Found::default();
    found.collect(heap, place, "", 0)?;
    made.state_dict = tensors.read(found.refs)?;
    for (name, array) in found.arrays {
        made.state_dict.insert(name, array?);
    }
    if place == root {
        return Ok(made);
    }
    let mut json = ToJson { heap, left: 200_000 };
    let mut slots = IndexMap::new();
    for (key, value) in heap.dict(root).unwrap_or_default() {
        let Some(key) = heap.str(*key) else { continue };
        match key {
            "meta" => match json.value(*value, 0) {
                Json::Object(map) => made.meta.extend(map),
                other => _ = made.meta.insert("meta".into(), other),
            },
            "optimizer_state" => {
                let text = heap.str(*value).ok_or("its 'optimizer_state' is no text")?;
                made.optimizer = Some(serde_json::from_str(text).map_err(|e| format!("its 'optimizer_state': {e}"))?);
            }
            // Someone else's may be anything.
            "extra" => made.extra = heap.str(*value).and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default(),
            "extra_tensors" => made.extra_tensors = tensors.read(Found::of(heap, *value)?.refs)?,
            "optimizer_tensors" => slots = tensors.read(Found::of(heap, *value)?.refs)?,
            // `epoch`, `best_prec1` and their like, where there is no `meta`.
            _ => {
                if let Obj::Int(_) | Obj::Float(_) | Obj::Str(_) | Obj::Bool(_) = heap.get(*value) {
                    let scalar = json.value(*value, 0);
                    made.meta.entry(key).or_insert(scalar);
                }
            }
        }
    }
    if let Some(state) = &mut made.optimizer {
        state.tensors = slots;
    }
    Ok(made)
}

/// The dict (or module) that holds the weights.
fn weights(heap: &Heap, root: Id) -> Step<Id> {
    if has_tensors(heap, root) {
        return Ok(root);
    }
    for place in PLACES {
        if let Some(id) = heap.entry(root, place)
            && (has_tensors(heap, id) || *place == "state_dict" && heap.dict(id).is_some())
        {
            return Ok(id);
        }
    }
    if state(heap, root).is_some() && !Found::of(heap, root)?.refs.is_empty() {
        return Ok(root);
    }
    let keys: Vec<&str> = heap.dict(root).into_iter().flatten().filter_map(|(k, _)| heap.str(*k)).take(12).collect();
    Err(if keys.is_empty() {
        "no weights in it: it is no dict of tensors".into()
    } else {
        format!("no weights in it: neither a dict of tensors nor one with 'state_dict' (its keys: {})", keys.join(", "))
    })
}

fn has_tensors(heap: &Heap, id: Id) -> bool {
    let is = |v: Id| tensor_ref(heap, v, 0).is_some() || array(heap, v).is_some();
    heap.dict(id).is_some_and(|d| d.iter().any(|(_, v)| is(*v))) || {
        matches!(heap.get(id), Obj::Object { .. })
            && state(heap, id).is_some_and(|s| heap.entry(s, "_parameters").is_some())
    }
}

fn state(heap: &Heap, id: Id) -> Option<Id> {
    if let Obj::Object { state: Some(s), .. } = heap.get(id) { Some(*s) } else { None }
}

/// Tensors by their full names, in the file's order.
#[derive(Default)]
struct Found {
    refs: Vec<(String, TensorRef)>,
    arrays: Vec<(String, Step<Tensor>)>,
    visited: usize,
}

impl Found {
    fn of(heap: &Heap, id: Id) -> Step<Self> {
        let mut found = Self::default();
        found.collect(heap, id, "", 0)?;
        Ok(found)
    }

    /// The tensors of a dict, or of a pickled `nn.Module` (its `_parameters`, `_buffers` and `_modules`) or script
    /// module (its attributes).
    fn collect(&mut self, heap: &Heap, id: Id, prefix: &str, depth: usize) -> Step<()> {
        if depth > 64 || self.visited > 1_000_000 {
            return Err("its modules are nested without end".into());
        }
        let module = if heap.dict(id).is_some() { None } else { state(heap, id) };
        let Some(module) = module else {
            return self.entries(heap, id, prefix, depth);
        };
        let parts = ["_parameters", "_buffers", "_modules"].map(|part| heap.entry(module, part));
        if parts.iter().all(Option::is_none) {
            return self.entries(heap, module, prefix, depth);
        }
        parts.into_iter().flatten().try_for_each(|part| self.entries(heap, part, prefix, depth))
    }

    fn entries(&mut self, heap: &Heap, dict: Id, prefix: &str, depth: usize) -> Step<()> {
        for (key, value) in heap.dict(dict).unwrap_or_default() {
            let Some(key) = heap.str(*key) else { continue };
            let name = format!("{prefix}{key}");
            self.visited += 1;
            if let Some(r) = tensor_ref(heap, *value, 0) {
                self.refs.push((name.clone(), r.map_err(|e| format!("{name}: {e}"))?));
            } else if let Some(a) = array(heap, *value) {
                self.arrays.push((name, a));
            } else if matches!(heap.get(*value), Obj::Object { .. }) && state(heap, *value).is_some() {
                self.collect(heap, *value, &format!("{name}."), depth + 1)?;
            }
        }
        Ok(())
    }
}

/// A numpy array as a tensor.
fn array(heap: &Heap, id: Id) -> Option<Step<Tensor>> {
    let tensor = |a: NdArray| {
        let elem = Elem::numpy(&a.dtype().code()).ok_or_else(|| format!("arrays of '{}'", a.dtype().code()))?;
        elem.tensor(a.bytes(), a.shape())
    };
    // A scalar is no weight.
    let found = value::array(heap, id)?;
    if found.as_ref().is_ok_and(|a| a.shape().is_empty()) {
        return None;
    }
    Some(found.and_then(tensor))
}

/// Python values as JSON; what has no counterpart becomes text that names its class.
struct ToJson<'h> {
    heap: &'h Heap,
    /// Values that may still be written: shared lists in lists grow without bound otherwise.
    left: usize,
}

impl ToJson<'_> {
    fn value(&mut self, id: Id, depth: usize) -> Json {
        if self.left == 0 || depth > 64 {
            return Json::String("<too deep>".into());
        }
        self.left -= 1;
        match self.heap.get(id) {
            Obj::None => Json::Null,
            Obj::Bool(b) => Json::Bool(*b),
            Obj::Int(i) => Json::from(*i),
            Obj::Float(f) => number(*f),
            Obj::Str(s) => Json::String(s.clone()),
            Obj::List(v) | Obj::Tuple(v) | Obj::Set(v) => v.iter().map(|i| self.value(*i, depth + 1)).collect(),
            Obj::Dict(d) => self.dict(d, depth),
            Obj::Object { items, .. } if !items.is_empty() => self.dict(items, depth),
            Obj::Long(b) => Json::String(format!("<an integer of {} bytes>", b.len())),
            Obj::Bytes(b) => Json::String(format!("<{} bytes>", b.len())),
            // The older format keeps the source of a module's class: ('module', class, file, source).
            Obj::Persistent(of) => match self.heap.items(*of) {
                Some([kind, class, ..]) if self.heap.str(*kind) == Some("module") => self.value(*class, depth + 1),
                _ => Json::String("<a storage>".into()),
            },
            Obj::Global(module, name) => Json::String(format!("<{module}.{name}>")),
            Obj::Object { class, .. } => self.scalar(id).or_else(|| self.array(id)).unwrap_or_else(|| {
                let (module, name) = self.heap.global(*class).unwrap_or(("", "object"));
                Json::String(format!("<{module}.{name}>"))
            }),
        }
    }

    fn dict(&mut self, d: &[(Id, Id)], depth: usize) -> Json {
        let mut map = Map::new();
        for (key, value) in d {
            let key = match self.heap.get(*key) {
                Obj::Str(s) => s.clone(),
                Obj::Int(i) => i.to_string(),
                Obj::Float(f) => f.to_string(),
                Obj::Bool(b) => b.to_string(),
                _ => continue,
            };
            let value = self.value(*value, depth + 1);
            map.insert(key, value);
        }
        Json::Object(map)
    }

    fn scalar(&self, id: Id) -> Option<Json> {
        let a = value::array(self.heap, id)?.ok().filter(|a| a.shape().is_empty())?;
        plain(&Elem::numpy(&a.dtype().code())?.tensor(a.bytes(), &[1]).ok()?)?.into_iter().next()
    }

    fn array(&mut self, id: Id) -> Option<Json> {
        let tensor = array(self.heap, id)?.ok()?;
        if tensor.elem_count() > self.left.min(4096) {
            return Some(Json::String(format!("<an array of {:?}>", tensor.dims())));
        }
        self.left -= tensor.elem_count();
        plain(&tensor).map(Json::Array)
    }
}

fn plain(t: &Tensor) -> Option<Vec<Json>> {
    let t = t.flatten_all().ok()?;
    if t.dtype().is_float() {
        Some(t.to_dtype(DType::F64).ok()?.to_vec1::<f64>().ok()?.into_iter().map(number).collect())
    } else {
        Some(t.to_dtype(DType::I64).ok()?.to_vec1::<i64>().ok()?.into_iter().map(Json::from).collect())
    }
}

/// JSON has no infinities or NaN: they are text.
fn number(f: f64) -> Json {
    serde_json::Number::from_f64(f).map_or_else(|| Json::String(f.to_string()), Json::Number)
}

//! The values of a TorchScript program: numbers, texts, lists, objects, and handles to tensors.
//!
//! Everything that contains other values lies in one [`Heap`] and is named by its index. That gives lists and objects the
//! sharing they have in Python, makes cycles harmless, and lets a deeply nested value be dropped without recursion.

use std::collections::HashMap;
use std::rc::Rc;

use crate::graph::{Dim, SymbolId, ValueId};

#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    /// A whole number, or the size of an axis that is known only when the model runs.
    Int(Dim),
    Float(f64),
    /// The size of an axis times a constant, on its way to be rounded.
    Scaled {
        symbol: SymbolId,
        factor: f64,
    },
    Str(Rc<str>),
    Tensor(TensorId),
    List(ListId),
    Tuple(ListId),
    Dict(DictId),
    Object(ObjectId),
    /// A class or function of the program, by its qualified name.
    Code(Rc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorId(usize);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListId(usize);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DictId(usize);
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId(usize);

/// A Python tensor: what it holds now, and the memory that it shares with its views.
#[derive(Clone, Copy, Debug)]
struct Tensor {
    value: ValueId,
    storage: usize,
    /// The writes to the storage that this tensor knows of.
    n_writes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Str(Rc<str>),
    Int(i64),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Str(text) => f.write_str(text),
            Self::Int(value) => write!(f, "{value}"),
        }
    }
}

/// Keeps the order of insertion, as Python does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dict {
    pub(crate) entries: Vec<(Key, Value)>,
    index: HashMap<Key, usize>,
}

impl Dict {
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.index.get(key).map(|index| &self.entries[*index].1)
    }

    pub(crate) fn insert(&mut self, key: Key, value: Value) {
        match self.index.get(&key) {
            Some(index) => self.entries[*index].1 = value,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) class: Rc<str>,
    pub(crate) attributes: HashMap<Rc<str>, Value>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Heap {
    tensors: Vec<Tensor>,
    /// The number of in-place writes to each storage.
    storages: Vec<u32>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Dict>,
    objects: Vec<Object>,
}

/// A tensor whose memory was written through another view of it: its own value is no longer known.
#[derive(Debug)]
pub(crate) struct Stale;

impl Heap {
    pub(crate) fn add_tensor(&mut self, value: ValueId) -> Value {
        self.storages.push(0);
        self.push_tensor(Tensor { value, storage: self.storages.len() - 1, n_writes: 0 })
    }

    /// A tensor that shares the memory of `base`.
    pub(crate) fn add_view(&mut self, base: TensorId, value: ValueId) -> Value {
        let base = self.tensors[base.0];
        self.push_tensor(Tensor { value, ..base })
    }

    fn push_tensor(&mut self, tensor: Tensor) -> Value {
        self.tensors.push(tensor);
        Value::Tensor(TensorId(self.tensors.len() - 1))
    }

    pub(crate) fn tensor(&self, id: TensorId) -> Result<ValueId, Stale> {
        let tensor = self.tensors[id.0];
        if tensor.n_writes == self.storages[tensor.storage] { Ok(tensor.value) } else { Err(Stale) }
    }

    /// An in-place operator: this tensor holds `value` now, its other views are stale.
    pub(crate) fn write_tensor(&mut self, id: TensorId, value: ValueId) {
        let tensor = &mut self.tensors[id.0];
        self.storages[tensor.storage] += 1;
        tensor.n_writes = self.storages[tensor.storage];
        tensor.value = value;
    }

    pub(crate) fn add_list(&mut self, values: Vec<Value>) -> Value {
        Value::List(self.push_list(values))
    }

    pub(crate) fn add_tuple(&mut self, values: Vec<Value>) -> Value {
        Value::Tuple(self.push_list(values))
    }

    fn push_list(&mut self, values: Vec<Value>) -> ListId {
        self.lists.push(values);
        ListId(self.lists.len() - 1)
    }

    pub(crate) fn list(&self, id: ListId) -> &Vec<Value> {
        &self.lists[id.0]
    }

    pub(crate) fn list_mut(&mut self, id: ListId) -> &mut Vec<Value> {
        &mut self.lists[id.0]
    }

    pub(crate) fn add_dict(&mut self, dict: Dict) -> Value {
        self.dicts.push(dict);
        Value::Dict(DictId(self.dicts.len() - 1))
    }

    pub(crate) fn dict(&self, id: DictId) -> &Dict {
        &self.dicts[id.0]
    }

    pub(crate) fn dict_mut(&mut self, id: DictId) -> &mut Dict {
        &mut self.dicts[id.0]
    }

    pub(crate) fn add_object(&mut self, class: Rc<str>) -> Value {
        self.objects.push(Object { class, attributes: HashMap::new() });
        Value::Object(ObjectId(self.objects.len() - 1))
    }

    pub(crate) fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0]
    }

    pub(crate) fn object_mut(&mut self, id: ObjectId) -> &mut Object {
        &mut self.objects[id.0]
    }
}

impl Value {
    pub(crate) fn int(value: i64) -> Self {
        Self::Int(Dim::Fixed(value))
    }

    pub(crate) fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// What it is, for messages: `a list`, `a tensor`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "an integer",
            Self::Float(_) | Self::Scaled { .. } => "a number",
            Self::Str(_) => "a text",
            Self::Tensor(_) => "a tensor",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::Object(_) => "an object",
            Self::Code(_) => "a class or function",
        }
    }
}

//! The functions and classes that a pickle of torch may name, and the tensors that they build.

use std::io::{Read, Seek};
use std::rc::Rc;

use bytes::Bytes;
use tidegate_core::{DType, Tensor};

use super::machine::{Item, Machine, misfit};
use crate::error::ConvertError;
use crate::graph::Dim;
use crate::heap::{Dict, Value};

#[derive(Clone)]
pub(super) enum Global {
    /// A class of the program.
    Class(Rc<str>),
    /// `torch.FloatStorage` and its like: the type of the elements.
    StorageType(DType),
    RebuildTensor,
    /// Calls that give back their first argument: type tags, parameters.
    Unwrap,
    OrderedDict,
    Device,
}

/// The memory of one or more tensors.
pub(super) struct Storage {
    key: String,
    dtype: DType,
    bytes: Bytes,
}

/// Where a tensor lies: storage, offset, sizes, strides.
pub(super) type TensorKey = (String, usize, Vec<usize>, Vec<usize>);

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Result<Self, ConvertError> {
        if module == "__torch__" || module.starts_with("__torch__.") {
            return Ok(Self::Class(format!("{module}.{name}").into()));
        }
        match (module, name) {
            ("torch", "device") => Some(Self::Device),
            ("torch", storage) => storage_dtype(storage).map(Self::StorageType),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") | ("torch.jit._pickle", _) => Some(Self::Unwrap),
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            _ => None,
        }
        .ok_or_else(|| ConvertError::UnsupportedPickle { global: format!("{module}.{name}") })
    }
}

impl<R: Read + Seek> Machine<'_, R> {
    pub(super) fn call(&mut self, global: &Global, arguments: &[Item]) -> Result<Value, ConvertError> {
        match (global, arguments) {
            (
                Global::RebuildTensor,
                [Item::Storage(storage), Item::Value(offset), Item::Value(sizes), Item::Value(strides), ..],
            ) => self.rebuild_tensor(storage, offset, sizes, strides),
            (Global::Unwrap | Global::Device, [Item::Value(first), ..]) => Ok(first.clone()),
            (Global::OrderedDict, _) => Ok(self.heap.add_dict(Dict::default())),
            _ => Err(misfit("a call with other arguments than torch gives")),
        }
    }

    /// `("storage", type, key, device, number of elements)`.
    pub(super) fn storage(&mut self, id: &[Item]) -> Result<Rc<Storage>, ConvertError> {
        let [
            _,
            Item::Global(Global::StorageType(dtype)),
            Item::Value(Value::Str(key)),
            _,
            Item::Value(count),
        ] = id
        else {
            return Err(misfit("a storage id"));
        };
        if let Some(storage) = self.storages.get(&**key) {
            return Ok(Rc::clone(storage));
        }
        let n_bytes = size(count)?.checked_mul(dtype.size_bytes().unwrap_or(1));
        let n_bytes = n_bytes.ok_or_else(|| misfit("the size of a storage"))?;
        let bytes = self.archive.read_storage(self.name, key, n_bytes as u64)?;
        let storage = Rc::new(Storage { key: key.to_string(), dtype: *dtype, bytes });
        self.storages.insert(key.to_string(), Rc::clone(&storage));
        Ok(storage)
    }

    fn rebuild_tensor(
        &mut self,
        storage: &Rc<Storage>,
        offset: &Value,
        sizes: &Value,
        strides: &Value,
    ) -> Result<Value, ConvertError> {
        let (sizes, strides) = (self.sizes(sizes)?, self.sizes(strides)?);
        let key = (storage.key.clone(), size(offset)?, sizes, strides);
        if let Some(tensor) = self.tensors.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = self.strided(storage, key.1, &key.2, &key.3)?;
        let value = self.graph.add_parameter(tensor).map_err(|fault| fault.at("a pickle".to_owned()))?;
        let value = self.heap.add_tensor(value);
        self.tensors.insert(key, value.clone());
        Ok(value)
    }

    fn sizes(&self, value: &Value) -> Result<Vec<usize>, ConvertError> {
        let (Value::Tuple(list) | Value::List(list)) = value else { return Err(misfit("a shape")) };
        self.heap.list(*list).iter().map(size).collect()
    }

    /// The elements of a tensor in row-major order: shared with its storage where they lie so already.
    fn strided(
        &mut self,
        storage: &Storage,
        offset: usize,
        sizes: &[usize],
        strides: &[usize],
    ) -> Result<Tensor, ConvertError> {
        let outside = || misfit("a tensor that reaches outside its storage");
        let element = storage.dtype.size_bytes().unwrap_or(1);
        let n_elements = tidegate_core::tensor::element_count(sizes).map_err(|_| outside())?;
        if sizes.len() != strides.len() {
            return Err(misfit("a shape with other strides"));
        }
        let mut last = offset;
        for (size, stride) in sizes.iter().zip(strides).filter(|_| n_elements > 0) {
            let reach = (size - 1).checked_mul(*stride).ok_or_else(outside)?;
            last = last.checked_add(reach).ok_or_else(outside)?;
        }
        if n_elements > 0 && last >= storage.bytes.len() / element {
            return Err(outside());
        }
        let bytes = if n_elements == 0 {
            Bytes::new()
        } else if is_row_major(sizes, strides) {
            storage.bytes.slice(offset * element..(offset + n_elements) * element)
        } else {
            self.archive.spend((n_elements * element) as u64)?;
            gather(&storage.bytes, element, offset, sizes, strides, n_elements)
        };
        Tensor::from_bytes(storage.dtype, sizes.to_vec(), bytes).map_err(|error| misfit(&error.to_string()))
    }
}

fn size(value: &Value) -> Result<usize, ConvertError> {
    match value {
        Value::Int(Dim::Fixed(size)) => usize::try_from(*size).map_err(|_| misfit("a negative size")),
        _ => Err(misfit("a size that is no integer")),
    }
}

fn is_row_major(sizes: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    sizes.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}

/// The caller has checked that every element lies in `bytes`.
fn gather(
    bytes: &[u8],
    element: usize,
    offset: usize,
    sizes: &[usize],
    strides: &[usize],
    n_elements: usize,
) -> Bytes {
    let mut gathered = Vec::with_capacity(n_elements * element);
    let mut index = vec![0usize; sizes.len()];
    for _ in 0..n_elements {
        let steps: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        let at = (offset + steps) * element;
        gathered.extend_from_slice(&bytes[at..at + element]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            if index[axis] < sizes[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    gathered.into()
}

fn storage_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "FloatStorage" => DType::Fp32,
        "DoubleStorage" => DType::Fp64,
        "HalfStorage" => DType::Fp16,
        "BFloat16Storage" => DType::Bf16,
        "LongStorage" => DType::Int64,
        "IntStorage" => DType::Int32,
        "ShortStorage" => DType::Int16,
        "CharStorage" => DType::Int8,
        "ByteStorage" => DType::Uint8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}

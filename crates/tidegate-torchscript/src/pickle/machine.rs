//! The stack machine of pickle, protocols 0 to 4 as far as torch writes them.
//!
//! Opcodes: CPython `Lib/pickletools.py`; what torch writes: `torch/csrc/jit/serialization/pickler.cpp`. Every opcode does
//! work and takes memory in proportion to its own bytes, so a pickle costs no more than its size.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::rc::Rc;

use super::globals::{Global, Storage, TensorKey};
use super::reader::Reader;
use crate::archive::Archive;
use crate::error::ConvertError;
use crate::graph::{Dim, Graph};
use crate::heap::{Dict, Heap, Key, Value};

/// No call of torch takes more; a shared tuple must not be copied over and over.
const MAX_ARGUMENTS: usize = 16;

pub(super) struct Machine<'a, R> {
    pub(super) archive: &'a mut Archive<R>,
    /// `data` or `constants`: the pickle, and the folder of its tensors.
    pub(super) name: &'static str,
    pub(super) heap: &'a mut Heap,
    pub(super) graph: &'a mut Graph,
    pub(super) storages: HashMap<String, Rc<Storage>>,
    /// A tensor that is pickled twice is one tensor: shared weights stay shared.
    pub(super) tensors: HashMap<TensorKey, Value>,
    stack: Vec<Item>,
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
}

#[derive(Clone)]
pub(super) enum Item {
    Value(Value),
    Global(Global),
    Storage(Rc<Storage>),
    /// A tuple with functions or storages in it, which only calls take. It holds no other such tuple, so dropping it does
    /// not recurse.
    Arguments(Rc<Vec<Item>>),
}

impl<'a, R: Read + Seek> Machine<'a, R> {
    pub(super) fn new(
        archive: &'a mut Archive<R>,
        name: &'static str,
        heap: &'a mut Heap,
        graph: &'a mut Graph,
    ) -> Self {
        let (storages, tensors, memo) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { archive, name, heap, graph, storages, tensors, stack: vec![], marks: vec![], memo }
    }

    pub(super) fn run(mut self) -> Result<Value, ConvertError> {
        let bytes = self.archive.read_pickle(self.name)?;
        let mut reader = Reader::new(&bytes);
        loop {
            let opcode = reader.u8()?;
            if opcode == b'.' {
                return self.pop_value();
            }
            self.step(opcode, &mut reader)?;
        }
    }

    fn step(&mut self, opcode: u8, reader: &mut Reader<'_>) -> Result<(), ConvertError> {
        match opcode {
            0x80 => _ = reader.u8()?,   // PROTO
            0x95 => _ = reader.size()?, // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?, // POP
            b'2' => {
                let top = self.pop()?; // DUP
                self.stack.extend([top.clone(), top]);
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => self.push_int(i64::from(reader.i32()?)),
            b'K' => self.push_int(i64::from(reader.u8()?)),
            b'M' => self.push_int(i64::from(reader.u16()?)),
            0x8a => {
                let count = usize::from(reader.u8()?); // LONG1
                self.push_int(reader.long(count)?);
            }
            b'G' => self.push(Value::Float(reader.f64()?)),
            b'X' => {
                let count = reader.u32()? as usize; // BINUNICODE
                self.push(Value::str(reader.text(count)?));
            }
            0x8c | b'U' => {
                let count = usize::from(reader.u8()?); // SHORT_BINUNICODE, SHORT_BINSTRING
                self.push(Value::str(reader.text(count)?));
            }
            0x8d => {
                let count = reader.size()?; // BINUNICODE8
                self.push(Value::str(reader.text(count)?));
            }
            b'}' => {
                let dict = self.heap.add_dict(Dict::default());
                self.push(dict);
            }
            b']' => self.push_list(vec![]),
            b')' => self.push_tuple(vec![]),
            b't' => {
                let items = self.pop_items()?;
                self.push_tuple_of(items)?;
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push_list(items);
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84); // TUPLE1 to TUPLE3
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.push_tuple_of(items)?;
            }
            b'a' => {
                let items = self.pop_values(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_values(2)?;
                self.set_items(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            b'c' => {
                let (module, name) = (reader.line()?, reader.line()?);
                self.push_global(module, name)?;
            }
            0x93 => {
                let names = self.pop_values(2)?; // STACK_GLOBAL
                let [Value::Str(module), Value::Str(name)] = names.as_slice() else {
                    return Err(misfit("STACK_GLOBAL"));
                };
                self.push_global(module, name)?;
            }
            b'q' => self.memoize(u32::from(reader.u8()?))?,
            b'r' => self.memoize(reader.u32()?)?,
            0x94 => self.memoize(u32::try_from(self.memo.len()).map_err(|_| misfit("MEMOIZE"))?)?,
            b'h' => self.recall(u32::from(reader.u8()?))?,
            b'j' => self.recall(reader.u32()?)?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            0x81 => self.new_object()?,
            b'b' => self.build()?,
            _ => return Err(ConvertError::malformed(format!("unknown pickle opcode {opcode:#04x}"))),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Item::Value(value));
    }

    fn push_int(&mut self, value: i64) {
        self.push(Value::int(value));
    }

    fn push_list(&mut self, values: Vec<Value>) {
        let list = self.heap.add_list(values);
        self.push(list);
    }

    fn push_tuple(&mut self, values: Vec<Value>) {
        let tuple = self.heap.add_tuple(values);
        self.push(tuple);
    }

    fn push_tuple_of(&mut self, items: Vec<Item>) -> Result<(), ConvertError> {
        if items.iter().all(|item| matches!(item, Item::Value(_))) {
            let values = items.into_iter().map(value_of).collect::<Result<_, _>>()?;
            self.push_tuple(values);
        } else if items.iter().any(|item| matches!(item, Item::Arguments(_))) {
            return Err(misfit("arguments inside arguments"));
        } else {
            self.stack.push(Item::Arguments(Rc::new(items)));
        }
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), ConvertError> {
        self.stack.push(match Global::find(module, name)? {
            Global::Class(class) => Item::Value(Value::Code(class)),
            global => Item::Global(global),
        });
        Ok(())
    }

    /// The innermost mark shields what lies below it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Item, ConvertError> {
        if self.stack.len() <= self.floor() {
            return Err(misfit("pop from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| misfit("pop from an empty stack"))
    }

    fn pop_value(&mut self) -> Result<Value, ConvertError> {
        self.pop().and_then(value_of)
    }

    fn pop_values(&mut self, count: usize) -> Result<Vec<Value>, ConvertError> {
        let mut values = (0..count).map(|_| self.pop_value()).collect::<Result<Vec<_>, _>>()?;
        values.reverse();
        Ok(values)
    }

    fn pop_items(&mut self) -> Result<Vec<Item>, ConvertError> {
        let mark = self.marks.pop().ok_or_else(|| misfit("no mark"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, ConvertError> {
        self.pop_items()?.into_iter().map(value_of).collect()
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), ConvertError> {
        match self.stack.last() {
            Some(Item::Value(Value::List(list))) => self.heap.list_mut(*list).extend(items),
            _ => return Err(misfit("append to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), ConvertError> {
        let Some(Item::Value(Value::Dict(dict))) = self.stack.last() else {
            return Err(misfit("set an item of what is no dictionary"));
        };
        let dict = self.heap.dict_mut(*dict);
        for pair in items.chunks(2) {
            let [key, value] = pair else { return Err(misfit("a key without a value")) };
            dict.insert(key_of(key)?, value.clone());
        }
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Result<(), ConvertError> {
        let top = self.stack.last().cloned().ok_or_else(|| misfit("nothing to remember"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), ConvertError> {
        let item = self.memo.get(&index).cloned().ok_or_else(|| misfit("an unknown memo entry"))?;
        self.stack.push(item);
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), ConvertError> {
        let arguments = self.pop_arguments()?;
        let Item::Global(global) = self.pop()? else { return Err(misfit("a call of what is no function")) };
        let result = self.call(&global, &arguments)?;
        self.push(result);
        Ok(())
    }

    fn pop_arguments(&mut self) -> Result<Vec<Item>, ConvertError> {
        match self.pop()? {
            Item::Arguments(items) => Ok(items.to_vec()),
            Item::Value(Value::Tuple(list)) if self.heap.list(list).len() <= MAX_ARGUMENTS => {
                Ok(self.heap.list(list).iter().cloned().map(Item::Value).collect())
            }
            _ => Err(misfit("arguments that are no tuple")),
        }
    }

    fn new_object(&mut self) -> Result<(), ConvertError> {
        let values = self.pop_values(2)?;
        let [Value::Code(class), Value::Tuple(_)] = values.as_slice() else {
            return Err(misfit("an object of what is no class"));
        };
        let object = self.heap.add_object(Rc::clone(class));
        self.push(object);
        Ok(())
    }

    fn build(&mut self) -> Result<(), ConvertError> {
        let state = self.pop_value()?;
        let Some(Item::Value(Value::Object(object))) = self.stack.last() else {
            return Err(misfit("state for what is no object"));
        };
        let object = *object;
        // A class that pickles itself in another way than by its attributes: packed, quantised weights.
        let Value::Dict(state) = state else {
            let global = self.heap.object(object).class.to_string();
            return Err(ConvertError::UnsupportedPickle { global });
        };
        for (key, value) in std::mem::take(self.heap.dict_mut(state)).entries {
            if let Key::Str(name) = key {
                self.heap.object_mut(object).attributes.insert(name, value);
            }
        }
        Ok(())
    }

    fn persistent(&mut self) -> Result<(), ConvertError> {
        let id = self.pop_arguments()?;
        let storage = self.storage(&id)?;
        self.stack.push(Item::Storage(storage));
        Ok(())
    }
}

fn value_of(item: Item) -> Result<Value, ConvertError> {
    match item {
        Item::Value(value) => Ok(value),
        Item::Global(_) | Item::Storage(_) | Item::Arguments(_) => {
            Err(misfit("a function or storage as a value"))
        }
    }
}

fn key_of(value: &Value) -> Result<Key, ConvertError> {
    match value {
        Value::Str(text) => Ok(Key::Str(Rc::clone(text))),
        Value::Int(Dim::Fixed(value)) => Ok(Key::Int(*value)),
        _ => Err(misfit("a dictionary key that is neither text nor integer")),
    }
}

pub(super) fn misfit(what: &str) -> ConvertError {
    ConvertError::malformed(format!("the pickle does not make sense ({what})"))
}

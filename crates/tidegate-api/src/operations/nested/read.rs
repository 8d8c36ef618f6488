//! Reading [`Nested`] element by element.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Leaves, Nested, index_text};
use crate::operations::fault::Fault;

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut reader = Reader::default();
        Element(&mut reader).deserialize(deserializer)?;
        Ok(Self {
            shape: reader.sizes.into_iter().map(Option::unwrap_or_default).collect(),
            leaves: reader.leaves,
            misfit: reader.misfit,
        })
    }
}

/// What was read so far.
struct Reader {
    /// By depth: how long an array is there, once the first has closed.
    sizes: Vec<Option<usize>>,
    /// At which depth the leaves lie, once the first was met.
    rank: Option<usize>,
    leaves: Leaves,
    /// Where we are.
    path: Vec<usize>,
    /// The first one only.
    misfit: Option<Fault>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { sizes: vec![], rank: None, leaves: Leaves::Ints(vec![]), path: vec![], misfit: None }
    }
}

impl Reader {
    fn fault(&mut self, message: impl Into<String>) {
        let field = index_text(&self.path);
        self.misfit.get_or_insert_with(|| Fault::new(field, message));
    }

    /// An array opens here; false where only leaves may be.
    fn open(&mut self) -> bool {
        let depth = self.path.len();
        if self.rank.is_some_and(|rank| depth >= rank) {
            self.fault("an array where its neighbours are single values");
            return false;
        }
        if self.sizes.len() == depth {
            self.sizes.push(None);
        }
        true
    }

    fn close(&mut self, length: usize) {
        let depth = self.path.len();
        if length == 0 && self.rank.is_none() && self.sizes.len() == depth + 1 {
            self.rank = Some(depth + 1);
        }
        match self.sizes[depth] {
            None => self.sizes[depth] = Some(length),
            Some(size) if size == length => {}
            Some(size) => self.fault(format!("has {length} elements, its neighbours have {size}")),
        }
    }

    fn leaf(&mut self, leaf: Leaves) {
        let depth = self.path.len();
        if self.misfit.is_some() {
            return;
        }
        if *self.rank.get_or_insert(depth) != depth || self.sizes.len() != depth {
            return self.fault("a single value where its neighbours are arrays");
        }
        let (mine, theirs) = (leaf.kind(), self.leaves.kind());
        let is_first = self.leaves.len() == 0;
        match (&mut self.leaves, leaf) {
            (leaves, leaf) if is_first => *leaves = leaf,
            (Leaves::Ints(values), Leaves::Ints(more)) => values.extend(more),
            (Leaves::Floats(values), Leaves::Floats(more)) => values.extend(more),
            (Leaves::Floats(values), Leaves::Ints(more)) => values.extend(more.iter().map(|int| *int as f64)),
            (Leaves::Bools(values), Leaves::Bools(more)) => values.extend(more),
            (Leaves::Texts(values), Leaves::Texts(more)) => values.extend(more),
            (leaves @ Leaves::Ints(_), Leaves::Floats(more)) => leaves.become_floats(&more),
            _ => self.fault(format!("{mine} where its neighbours are not: the first is {theirs}")),
        }
    }
}

impl Leaves {
    /// Whole numbers among fractions are fractions.
    fn become_floats(&mut self, more: &[f64]) {
        if let Self::Ints(values) = self {
            let floats = values.iter().map(|int| *int as f64).chain(more.iter().copied());
            *self = Self::Floats(floats.collect());
        }
    }
}

/// One value at the reader's place.
struct Element<'a>(&'a mut Reader);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a string, a boolean, or arrays of them")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.leaf(Leaves::Ints(vec![value.into()]));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.leaf(Leaves::Ints(vec![value.into()]));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.leaf(Leaves::Floats(vec![value]));
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.leaf(Leaves::Bools(vec![value]));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.leaf(Leaves::Texts(vec![value.to_owned()]));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.fault("null is no value; leave it out or give one");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.fault("an object where a value or an array is expected");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        if !self.0.open() {
            while sequence.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut length = 0;
        loop {
            self.0.path.push(length);
            let element = sequence.next_element_seed(Element(self.0));
            self.0.path.pop();
            if element?.is_none() {
                break;
            }
            length += 1;
        }
        self.0.close(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn regular_arrays_are_read_as_they_are_written() {
        for text in
            ["7", "[1,2]", "[[1.5,2.0],[3.0,4.0]]", "[[],[]]", "[]", "[[true],[false]]", "\"a\"", "[[[1]]]"]
        {
            let nested: Nested = from_str(text).unwrap();
            assert!(nested.regular().is_ok(), "{text}");
            assert_eq!(to_string(&nested).unwrap(), text);
        }
        let wide: Nested = from_str(&format!("[{},{}]", u64::MAX, i64::MIN)).unwrap();
        assert_eq!(wide.leaves, Leaves::Ints(vec![u64::MAX.into(), i64::MIN.into()]));
        let mixed: Nested = from_str("[1, 2.5, 3]").unwrap();
        assert_eq!(mixed.leaves, Leaves::Floats(vec![1.0, 2.5, 3.0]));
    }

    #[test]
    fn the_first_irregular_place_is_named() {
        for (text, place, message) in [
            ("[[1,2],[3]]", "[1]", "has 1 elements, its neighbours have 2"),
            ("[[1,2],3]", "[1]", "a single value"),
            ("[1,[2]]", "[1]", "an array"),
            ("[[],[1]]", "[1]", "has 1 elements, its neighbours have 0"),
            ("[[],1]", "[1]", "a single value"),
            ("[1,\"2\"]", "[1]", "a string where its neighbours are not"),
            ("[1,null]", "[1]", "null"),
            ("[1,{\"a\":[2]}]", "[1]", "an object"),
            ("[[1,2],[3,null]]", "[1][1]", "null"),
            ("null", "", "null"),
        ] {
            let nested: Nested = from_str(text).unwrap();
            let fault = nested.regular().unwrap_err();
            assert_eq!(fault.field, place, "{text}: {fault}");
            assert!(fault.message.contains(message), "{text}: {fault}");
        }
    }
}

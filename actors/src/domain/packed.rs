//! Plain data kept as the bytes it is written as: what is seldom read and must not take much room. In
//! snapshots it looks as if it had never been packed.
//!
//! Of each bet a wallet keeps lines. With a reference a line is two allocations and more than a hundred bytes;
//! packed it is a few dozen behind the others, and a snapshot copies it out as it is.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeTuple};

/// The last values of a list, each as its bytes behind how many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedList<T> {
    bytes: Vec<u8>,
    len: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Default for PackedList<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), len: 0, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> PackedList<T> {
    /// Room is made in steps of this many bytes: twice as much as is needed would be most of it.
    const ROOM: usize = 256;

    pub fn count(&self) -> usize {
        self.len
    }

    /// # Panics
    /// When the value takes more than 255 bytes.
    pub fn push_back(&mut self, value: &T) {
        let packed = pack(value);
        let len = u8::try_from(packed.len()).expect("what is listed is short");
        let room = self.bytes.capacity() - self.bytes.len();
        if room <= packed.len() {
            self.bytes.reserve_exact(packed.len().max(Self::ROOM) + 1);
        }
        self.bytes.push(len);
        self.bytes.extend_from_slice(&packed);
        self.len += 1;
    }

    /// Lets go of the oldest, if there is one.
    pub fn drop_front(&mut self) {
        if let Some(len) = self.bytes.first() {
            self.bytes.drain(..=usize::from(*len));
            self.len -= 1;
        }
    }

    /// The oldest first.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.raw().map(|raw| unpack(raw.0))
    }

    fn raw(&self) -> impl Iterator<Item = Raw<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (len, behind) = rest.split_first()?;
            let (value, behind) = behind.split_at(usize::from(*len));
            rest = behind;
            Some(Raw(value))
        })
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for PackedList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Serialize + DeserializeOwned> Serialize for PackedList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.len))?;
        for value in self.raw() {
            sequence.serialize_element(&value)?;
        }
        sequence.end()
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for PackedList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        Vec::<T>::deserialize(deserializer)?.iter().for_each(|value| list.push_back(value));
        Ok(list)
    }
}

/// Bytes that are written without how many they are: postcard writes a value's parts one after the other.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data")
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).expect("what was packed can be unpacked")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    type Value = (u64, Option<Box<str>>, i128);

    fn value(n: u64) -> Value {
        (n * n * 1_000, (!n.is_multiple_of(3)).then(|| "x".repeat(n as usize % 60).into()), -i128::from(n))
    }

    #[test]
    fn a_list_is_what_it_would_be_unpacked() {
        let (mut packed, mut plain) = (PackedList::default(), VecDeque::new());
        packed.drop_front();
        for n in 0..300 {
            if plain.len() == 50 {
                packed.drop_front();
                plain.pop_front();
            }
            packed.push_back(&value(n));
            plain.push_back(value(n));
            assert_eq!(packed.count(), plain.len());
            assert!(packed.iter().eq(plain.iter().cloned()));
            let bytes = postcard::to_stdvec(&packed).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&plain).unwrap());
            assert_eq!(postcard::from_bytes::<PackedList<Value>>(&bytes).unwrap(), packed);
        }
    }
}

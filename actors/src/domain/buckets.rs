//! A map in copy-on-write buckets: cloning it costs one pointer a bucket, and the first change of a
//! bucket after that copies only that bucket. This is what makes a snapshot cheap to take and keeps
//! its serialisation out of the way of applies.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

/// At 64,000 entries a cell, a bucket holds 64: few looks, and little to copy.
const BUCKETS: usize = 1_024;
/// Buckets in one chunk of a snapshot.
const TOGETHER: usize = 64;

/// A key that says where it belongs: taken modulo the number of buckets.
pub trait Keyed: Ord + Copy {
    fn bucket(&self) -> usize;
}

#[derive(Clone, Debug)]
pub struct Buckets<K, V> {
    buckets: Vec<Arc<BTreeMap<K, V>>>,
    len: u64,
}

impl<K, V> Default for Buckets<K, V> {
    fn default() -> Self {
        Self { buckets: vec![Arc::default(); BUCKETS], len: 0 }
    }
}

impl<K: Keyed, V: Clone> Buckets<K, V> {
    fn bucket(&mut self, key: &K) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut self.buckets[key.bucket() % BUCKETS])
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.buckets[key.bucket() % BUCKETS].get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.bucket(key).get_mut(key)
    }

    /// The value that was there before, if any.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.bucket(&key).insert(key, value);
        self.len += u64::from(before.is_none());
        before
    }

    pub fn count(&self) -> u64 {
        self.len
    }

    /// In an order that is the same on every replica.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }
}

impl<K: Serialize + DeserializeOwned + Keyed, V: Serialize + DeserializeOwned> Buckets<K, V> {
    /// Some buckets in each chunk.
    pub fn chunks(&self) -> impl Iterator<Item = Vec<u8>> + Send
    where
        K: Send + Sync,
        V: Send + Sync,
    {
        self.buckets.chunks(TOGETHER).map(|buckets| {
            buckets.iter().fold(Vec::with_capacity(TOGETHER), |bytes, bucket| {
                postcard::to_extend(&**bucket, bytes).expect("plain data")
            })
        })
    }

    /// Takes what [`chunks`](Self::chunks) made off the front of `bytes`.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, postcard::Error> {
        let mut read = Self::default();
        for bucket in &mut read.buckets {
            let (map, rest) = postcard::take_from_bytes::<BTreeMap<K, V>>(bytes)?;
            *bytes = rest;
            // All that are empty stay one.
            if !map.is_empty() {
                read.len += map.len() as u64;
                *bucket = Arc::new(map);
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for u64 {
        fn bucket(&self) -> usize {
            *self as usize
        }
    }

    #[test]
    fn a_copy_does_not_see_later_changes_and_survives_writing() {
        let mut map = Buckets::default();
        for n in 0..1000_u64 {
            map.insert(n, n);
        }
        let copy = map.clone();
        map.insert(5, 0);
        assert_eq!((copy.get(&5), map.get(&5), copy.count()), (Some(&5), Some(&0), 1000));
        let mut bytes = Vec::new();
        bytes.extend(copy.chunks().flatten());
        let mut rest = &bytes[..];
        let read = Buckets::<u64, u64>::read(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(read.iter().collect::<Vec<_>>(), copy.iter().collect::<Vec<_>>());
        assert_eq!(read.count(), 1000);
    }
}

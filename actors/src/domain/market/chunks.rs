//! A growing list in shared chunks: cloning it costs one pointer a chunk, and the first change of
//! a chunk after that copies only that chunk. A market's orders, fills and accounts are kept so,
//! because a cell clones its markets for every snapshot while bets go on.

use std::{ops::Index, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Small enough that copying one is nothing, large enough that a million entries clone in no time.
const CHUNK: usize = 64;

/// Every chunk but the last is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks<T> {
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn last(&self) -> Option<&T> {
        self.chunks.last()?.last()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Where `key` is in a list that is sorted by it.
    pub fn find_sorted<K: Ord>(&self, key: &K, by: impl Fn(&T) -> K) -> Option<usize> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| by(first) <= *key));
        let chunk = chunk.checked_sub(1)?;
        let within = self.chunks[chunk].binary_search_by_key(key, by).ok()?;
        Some(chunk * CHUNK + within)
    }
}

impl<T: Clone> Chunks<T> {
    pub fn push(&mut self, value: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(value),
            // A list that has filled one chunk will fill another.
            Some(_) => {
                let mut next = Vec::with_capacity(CHUNK);
                next.push(value);
                self.chunks.push(Arc::new(next));
            }
            None => self.chunks.push(Arc::new(vec![value])),
        }
    }

    /// Panics when there is no such entry, as indexing does.
    pub fn at_mut(&mut self, at: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.chunks[at / CHUNK])[at % CHUNK]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| Arc::make_mut(chunk).iter_mut())
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T: Clone> FromIterator<T> for Chunks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut chunks = Self::default();
        values.into_iter().for_each(|value| chunks.push(value));
        chunks
    }
}

/// As a plain sequence: how it is cut is nobody else's business.
impl<T: Serialize> Serialize for Chunks<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for value in self.iter() {
            sequence.serialize_element(value)?;
        }
        sequence.end()
    }
}

impl<'de, T: Deserialize<'de> + Clone> Deserialize<'de> for Chunks<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<T>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_the_original_changes_later() {
        let mut list: Chunks<usize> = (0..200).collect();
        let before = list.clone();
        *list.at_mut(70) = 7;
        list.push(200);
        assert_eq!((list[70], before[70], list.len(), before.len()), (7, 70, 201, 200));
        assert_eq!(list.iter_mut().map(|n| *n).sum::<usize>(), (0..=200).sum::<usize>() - 63);
        assert!(Arc::ptr_eq(&Chunks::clone(&list).chunks[0], &list.chunks[0]));
    }

    #[test]
    fn entries_are_found_by_place_and_by_key() {
        for len in [0, 1, 63, 64, 65, 128, 200] {
            let list: Chunks<usize> = (0..len).map(|n| 2 * n).collect();
            assert_eq!((list.len(), list.last().copied()), (len, len.checked_sub(1).map(|n| 2 * n)));
            for key in 0..2 * len + 2 {
                let expected = (key % 2 == 0 && key / 2 < len).then_some(key / 2);
                assert_eq!(list.find_sorted(&key, |&n| n), expected, "{key} of {len}");
            }
            assert_eq!(list.iter().count(), len);
            let bytes = postcard::to_stdvec(&list).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&list.iter().collect::<Vec<_>>()).unwrap());
            assert_eq!(postcard::from_bytes::<Chunks<usize>>(&bytes).unwrap(), list);
        }
    }
}

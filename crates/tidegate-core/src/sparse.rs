//! Counts of numbered buckets of which few are in use: what histograms are made of.

/// Bucket and count, for the buckets in use, in order. Adds up and subtracts exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseCounts {
    occupied: Vec<(usize, u64)>,
    total: u64,
}

impl SparseCounts {
    pub fn add(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        match self.occupied.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(place) => self.occupied[place].1 = self.occupied[place].1.saturating_add(count),
            Err(place) => self.occupied.insert(place, (bucket, count)),
        }
        self.total = self.total.saturating_add(count);
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.occupied() {
            self.add(bucket, count);
        }
    }

    /// What was added after `earlier`, an older state of the same counts.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self::default();
        let mut before = earlier.occupied().peekable();
        for (bucket, count) in self.occupied() {
            while before.next_if(|(place, _)| *place < bucket).is_some() {}
            let known = before.next_if(|(place, _)| *place == bucket).map_or(0, |(_, count)| count);
            difference.add(bucket, count.saturating_sub(known));
        }
        difference
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// The buckets in use, in order.
    pub fn occupied(&self) -> impl Iterator<Item = (usize, u64)> {
        self.occupied.iter().copied()
    }

    pub fn into_pairs(self) -> Vec<(usize, u64)> {
        self.occupied
    }

    /// From pairs in any order; the error names `what` they count.
    pub fn from_pairs(pairs: Vec<(usize, u64)>, n_buckets: usize, what: &str) -> Result<Self, String> {
        let mut counts = Self::default();
        for (bucket, count) in pairs {
            if bucket >= n_buckets {
                return Err(format!(
                    "{what} bucket {bucket} is out of range; the last one is {}",
                    n_buckets - 1
                ));
            }
            counts.add(bucket, count);
        }
        Ok(counts)
    }
}

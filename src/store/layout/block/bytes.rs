//! Reading and writing little-endian and variable-length integers.

/// Reads from the front of a slice. Every method returns `None` when the slice is too short.
#[derive(Debug, Clone)]
pub(in crate::store::layout) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::store::layout) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(in crate::store::layout) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(in crate::store::layout) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that have not been read.
    pub(in crate::store::layout) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(in crate::store::layout) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*front)
    }

    #[inline]
    pub(in crate::store::layout) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(in crate::store::layout) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::store::layout) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a base-128 integer in protobuf's encoding.
    #[inline]
    pub(in crate::store::layout) fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit only.
                return (shift < 63 || byte <= 1).then_some(value);
            }
        }
        None
    }

    /// Reads a base-128 integer that is in its shortest form, in which it is written again.
    #[inline]
    pub(in crate::store::layout) fn shortest_varint(&mut self) -> Option<u64> {
        let before = self.rest.len();
        let value = self.varint()?;
        (varint_bytes(value) == before - self.rest.len()).then_some(value)
    }

    /// Reads a base-128 integer that is a length or a count in memory.
    pub(in crate::store::layout) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }
}

/// Appends to a vector.
pub(in crate::store::layout) trait Writer {
    /// Appends a base-128 integer in protobuf's encoding.
    fn varint(&mut self, value: u64);
}

impl Writer for Vec<u8> {
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.push(value.to_le_bytes()[0]);
    }
}

/// The length of `value` as a base-128 integer, in bytes.
pub(in crate::store::layout) fn varint_bytes(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// Maps integers of small magnitude, including negative ones, to small unsigned integers.
pub(in crate::store::layout) fn zigzag(value: u64) -> u64 {
    let signed = value.cast_signed();
    ((signed << 1) ^ (signed >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(in crate::store::layout) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            out.varint(value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn no_bytes_make_a_varint_panic(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).varint();
        }
    }
}

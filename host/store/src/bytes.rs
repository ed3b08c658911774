//! Bytes on their way in: every read is checked against what is left. Integers are little-endian, but for those in keys,
//! which are big-endian so that LMDB's byte order is the numeric one.

/// What is wrong with some bytes; the caller adds the file and the record.
pub(crate) type Flaw = String;

#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Bytes { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Flaw> {
        if n > self.rest.len() {
            return Err(format!("{n} bytes wanted, {} left", self.rest.len()));
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, Flaw> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Flaw> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Flaw> {
        Ok(i64::from_le_bytes(self.array()?))
    }
}

/// CRC-32 (IEEE) over several pieces.
pub(crate) fn crc(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// A small value as it lies in the file: the CRC of key and body, then the body.
pub(crate) fn checked(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + body.len());
    out.extend_from_slice(&crc(&[key, body]).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The body of a value made by [`checked`].
pub(crate) fn check<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Flaw> {
    let mut bytes = Bytes::new(value);
    let sum = bytes.u32()?;
    let body = bytes.rest();
    if crc(&[key, body]) != sum {
        return Err("its checksum does not match".into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_its_key() {
        let value = checked(b"key", b"body");
        assert_eq!(check(b"key", &value), Ok(&b"body"[..]));
        assert!(check(b"kez", &value).is_err());
        assert!(check(b"key", &value[..7]).is_err());
        assert!(check(b"key", b"abc").is_err());
    }

    #[test]
    fn nothing_past_the_end() {
        let mut bytes = Bytes::new(&[1, 0, 0, 0, 9]);
        assert_eq!(bytes.u32(), Ok(1));
        assert!(bytes.u16().is_err());
        assert_eq!(bytes.u8(), Ok(9));
        assert!(bytes.u8().is_err());
    }
}

//! The part of Litestream's file format that shows whether a file is whole. Pure.
//!
//! A header of 100 bytes; frames of page number, flags, length and one LZ4 block that holds a page;
//! six zero bytes; an index and its length; a database checksum that is not kept; and the file's
//! checksum, CRC-64/ISO over all of it with the pages uncompressed. The
//! checksums of files that Litestream 0.5.18 wrote were recomputed this way.

use crc::{CRC_64_GO_ISO, Crc};
use tidemill_model::LtxName;

const HEADER: usize = 100;
/// Index length, database checksum, file checksum.
const TAIL: usize = 24;
/// Set in every checksum of the format.
const FLAG: u64 = 1 << 63;

static ISO: Crc<u64> = Crc::<u64>::new(&CRC_64_GO_ISO);

/// What is wrong with a file of this name; `None` if it is whole.
pub(crate) fn fault(bytes: &[u8], name: LtxName) -> Option<String> {
    check(bytes, name).err()
}

fn check(bytes: &[u8], name: LtxName) -> Result<(), String> {
    let mut rest = Rest { bytes, at: 0 };
    let header = rest.take(HEADER)?;
    if !header.starts_with(b"LTX1") {
        return Err("it does not begin as a file of Litestream's does".to_owned());
    }
    if (wide(header, 16), wide(header, 24)) != (name.min.get(), name.max.get()) {
        return Err("it holds other transactions than its name says".to_owned());
    }
    let page_size = usize::try_from(word(header, 8)).unwrap_or(0);
    if !(512..=65_536).contains(&page_size) {
        return Err(format!("it has pages of {page_size} bytes"));
    }
    let mut sum = ISO.digest();
    sum.update(header);
    let mut page = vec![0; page_size];
    loop {
        let start = rest.take(6)?;
        sum.update(start);
        let number = word(start, 0);
        if number == 0 {
            break;
        }
        let size = rest.take(4)?;
        sum.update(size);
        let block = rest.take(usize::try_from(word(size, 0)).unwrap_or(usize::MAX))?;
        match lz4_flex::block::decompress_into(block, &mut page) {
            Ok(length) if length == page_size => sum.update(&page),
            Ok(length) => return Err(format!("page {number} has {length} bytes")),
            Err(error) => return Err(format!("page {number} cannot be unpacked: {error}")),
        }
    }
    let tail = rest.all();
    let Some(covered) = tail.len().checked_sub(8).filter(|_| tail.len() >= TAIL) else {
        return Err(rest.ends());
    };
    sum.update(&tail[..covered]);
    if sum.finalize() | FLAG == wide(tail, covered) {
        Ok(())
    } else {
        Err("its checksum does not fit".to_owned())
    }
}

/// The part of a file that is not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.ends())?;
        self.at += count;
        Ok(taken)
    }

    fn all(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn ends(&self) -> String {
        format!("it ends early, after {} bytes", self.bytes.len())
    }
}

/// Four bytes, or zero beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    field.map_or(0, |field| u32::from_be_bytes(*field))
}

/// Eight bytes, or zero beyond the end.
fn wide(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    field.map_or(0, |field| u64::from_be_bytes(*field))
}

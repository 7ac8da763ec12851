//! Writes Litestream's file format, for replicas that are wrong on purpose.
//!
//! A snapshot of any SQLite file under any txid, valid in every byte: header, pages as LZ4 blocks of
//! literals only, index, file checksum. So a lie in it is one that Litestream cannot see.

use std::collections::HashMap;
use std::path::Path;

use super::bucket::Bucket;

/// No database checksum is kept across files.
const FLAG_NO_CHECKSUM: u32 = 2;
const HEADER: usize = 100;
/// The page that holds SQLite's lock byte is in no LTX file.
const LOCK_BYTE: usize = 1 << 30;

/// Makes `file` the one content of an epoch: every LTX object goes, and a snapshot under the newest
/// txid of them takes their place. Gives that txid.
#[track_caller]
pub(crate) fn replace_replica(bucket: &Bucket, prefix: &str, file: &Path) -> u64 {
    let objects = objects(bucket, prefix);
    let newest = objects.iter().max_by_key(|object| object.max).expect("the epoch has objects");
    let metadata: HashMap<String, String> =
        bucket.get(&newest.key).expect("it was listed").metadata;
    for object in &objects {
        bucket.delete(&object.key);
    }
    let pages = std::fs::read(file).expect("read the file that lies");
    let key = format!("{prefix}/0009/{:016x}-{:016x}.ltx", 1, newest.max);
    bucket.put_with(&key, snapshot(&pages, newest.max, timestamp(&newest.body)), metadata);
    newest.max
}

/// An LTX object.
#[derive(Debug, Clone)]
pub(crate) struct Ltx {
    pub(crate) key: String,
    pub(crate) max: u64,
    body: Vec<u8>,
}

/// The LTX objects of an epoch, by key.
#[track_caller]
pub(crate) fn objects(bucket: &Bucket, prefix: &str) -> Vec<Ltx> {
    let parse = |key: String| {
        let (level, name) = key.strip_prefix(prefix)?.strip_prefix('/')?.split_once('/')?;
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        u32::from_str_radix(level, 16).ok()?;
        u64::from_str_radix(min, 16).ok()?;
        let max = u64::from_str_radix(max, 16).ok()?;
        let body = bucket.get(&key)?.body;
        Some(Ltx { max, body, key })
    };
    bucket.keys(prefix).into_iter().filter_map(parse).collect()
}

/// A whole database as one LTX file that covers txids 1 to `txid`.
pub(crate) fn snapshot(database: &[u8], txid: u64, timestamp_ms: u64) -> Vec<u8> {
    let size = page_size(database);
    let pages = number(database.len() / size);
    let mut file = header(number(size), pages, txid, timestamp_ms);
    let mut sum = Crc::new();
    sum.add(&file);
    let mut index = Vec::new();
    for (at, page) in database.chunks_exact(size).enumerate() {
        if at * size == LOCK_BYTE {
            continue;
        }
        let block = literals(page);
        let mut frame = number(at + 1).to_be_bytes().to_vec();
        frame.extend(1_u16.to_be_bytes());
        frame.extend(number(block.len()).to_be_bytes());
        sum.add(&frame);
        sum.add(page);
        frame.extend(block);
        for value in [at + 1, file.len(), frame.len()] {
            varint(&mut index, value);
        }
        file.extend(frame);
    }
    index.push(0);
    let mut tail = vec![0; 6];
    let length = u64::from(number(index.len()));
    tail.extend(index);
    tail.extend(length.to_be_bytes());
    tail.extend(0_u64.to_be_bytes());
    sum.add(&tail);
    file.extend(tail);
    file.extend((sum.end() | 1 << 63).to_be_bytes());
    file
}

fn header(page_size: u32, pages: u32, txid: u64, timestamp_ms: u64) -> Vec<u8> {
    let mut header = b"LTX1".to_vec();
    for word in [FLAG_NO_CHECKSUM, page_size, pages] {
        header.extend(word.to_be_bytes());
    }
    for word in [1, txid, timestamp_ms] {
        header.extend(word.to_be_bytes());
    }
    header.resize(HEADER, 0);
    header
}

/// SQLite writes 65536 as 1.
fn page_size(database: &[u8]) -> usize {
    match u16::from_be_bytes([database[16], database[17]]) {
        1 => 65536,
        size => usize::from(size),
    }
}

fn timestamp(ltx: &[u8]) -> u64 {
    let field: [u8; 8] = ltx[32..40].try_into().expect("eight bytes");
    u64::from_be_bytes(field)
}

/// An LZ4 block without a single match.
fn literals(page: &[u8]) -> Vec<u8> {
    let mut block = vec![0xF0];
    let mut rest = page.len() - 15;
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(u8::try_from(rest).expect("less than 255"));
    block.extend(page);
    block
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("a test's file is small")
}

/// CRC-64/ISO, bit by bit.
struct Crc(u64);

impl Crc {
    fn new() -> Self {
        Self(u64::MAX)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u64::from(*byte);
            for _ in 0..8 {
                let carry = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (0xD800_0000_0000_0000 * carry);
            }
        }
    }

    fn end(&self) -> u64 {
        !self.0
    }
}

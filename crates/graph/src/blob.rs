//! The delegate header: finds the graph and the constant section in the bytes of a delegate.
//!
//! Little-endian and unaligned: 4 bytes of padding, the magic `VH00`, then header size (u16), flatbuffer
//! offset (u32), flatbuffer size (u32), offset (u32) and size (u64) of the constant section.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

const HEADER_SIZE: usize = 30;
const MAGIC: [u8; 4] = *b"VH00";

/// The two parts of a delegate's bytes; neither has been looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob<'a> {
    /// The serialized graph.
    pub flatbuffer: &'a [u8],
    /// The section that inline constants are offsets into.
    pub constants: &'a [u8],
}

/// What is wrong with a delegate header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The buffer cannot hold a header.
    #[error("delegate has {have} bytes, its header alone takes {HEADER_SIZE}")]
    TooShort {
        /// Bytes in the buffer.
        have: usize,
    },
    /// The bytes are not a delegate of this format.
    #[error("delegate magic is \"{}\", expected \"{}\"", found.escape_ascii(), MAGIC.escape_ascii())]
    Magic {
        /// The bytes found in its place.
        found: [u8; 4],
    },
    /// The header claims to be smaller than its fields.
    #[error("header_size is {header_size}, its fields take {HEADER_SIZE}")]
    HeaderSize {
        /// The field.
        header_size: u16,
    },
    /// The graph starts inside the header.
    #[error("flatbuffer_offset {offset} lies within the header of {header_size} bytes")]
    FlatbufferOffset {
        /// The field.
        offset: u32,
        /// The header's own size.
        header_size: u16,
    },
    /// The graph has no bytes.
    #[error("flatbuffer_size is 0")]
    FlatbufferEmpty,
    /// The constant section starts inside the graph.
    #[error("bytes_offset {offset} lies before the end of the flatbuffer at {flatbuffer_end}")]
    ConstantsOffset {
        /// The field.
        offset: u32,
        /// First byte after the graph.
        flatbuffer_end: u64,
    },
    /// A part leaves the buffer.
    #[error("{part} of {size} bytes at {offset} does not fit into the delegate's {have} bytes")]
    OutOfBounds {
        /// `flatbuffer` or `constant section`.
        part: &'static str,
        /// Where the part starts.
        offset: u32,
        /// Its claimed size.
        size: u64,
        /// Bytes in the buffer.
        have: usize,
    },
}

/// Reads the header and cuts the delegate's bytes apart.
pub fn parse(bytes: &[u8]) -> Result<Blob<'_>, BlobError> {
    let have = bytes.len();
    let Header { magic, header_size, fb_offset, fb_size, offset, size } =
        Header::read(bytes).ok_or(BlobError::TooShort { have })?;
    if magic != MAGIC {
        return Err(BlobError::Magic { found: magic });
    }
    if usize::from(header_size) < HEADER_SIZE {
        return Err(BlobError::HeaderSize { header_size });
    }
    if fb_offset < u32::from(header_size) {
        return Err(BlobError::FlatbufferOffset { offset: fb_offset, header_size });
    }
    if fb_size == 0 {
        return Err(BlobError::FlatbufferEmpty);
    }
    let flatbuffer_end = u64::from(fb_offset) + u64::from(fb_size);
    if u64::from(offset) < flatbuffer_end {
        return Err(BlobError::ConstantsOffset { offset, flatbuffer_end });
    }
    let flatbuffer = part(bytes, "flatbuffer", fb_offset, Some(fb_size.into()))?;
    // Writers may leave the size out; the section then is the rest of the buffer.
    let constants = part(bytes, "constant section", offset, (size != 0).then_some(size))?;
    Ok(Blob { flatbuffer, constants })
}

struct Header {
    magic: [u8; 4],
    header_size: u16,
    fb_offset: u32,
    fb_size: u32,
    offset: u32,
    size: u64,
}

impl Header {
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let _padding = take::<4>(rest)?;
        Some(Self {
            magic: take(rest)?,
            header_size: u16::from_le_bytes(take(rest)?),
            fb_offset: u32::from_le_bytes(take(rest)?),
            fb_size: u32::from_le_bytes(take(rest)?),
            offset: u32::from_le_bytes(take(rest)?),
            size: u64::from_le_bytes(take(rest)?),
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

/// The bytes at `offset`: `size` of them, or all that follow.
fn part<'a>(
    bytes: &'a [u8],
    part: &'static str,
    offset: u32,
    size: Option<u64>,
) -> Result<&'a [u8], BlobError> {
    let out_of_bounds =
        || BlobError::OutOfBounds { part, offset, size: size.unwrap_or(0), have: bytes.len() };
    let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).ok_or_else(out_of_bounds)?;
    match size {
        None => Ok(rest),
        Some(size) => usize::try_from(size).ok().and_then(|n| rest.get(..n)).ok_or_else(out_of_bounds),
    }
}

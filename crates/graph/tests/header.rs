//! The delegate header: what is accepted, and that each rule refuses with its own error.

mod common;

use common::{REAL, with_header};
use etwgpu_graph::{BlobError, parse};

/// The smallest delegate: 8 bytes of graph at 32, 4 bytes of constants at 40.
fn minimal() -> Vec<u8> {
    let mut bytes = with_header(30, (32, 8), (40, 4), 44);
    bytes[32..].copy_from_slice(b"flatbufrdata");
    bytes
}

#[test]
fn minimal_delegate_is_cut_apart() {
    let bytes = minimal();
    let blob = parse(&bytes).unwrap();
    assert_eq!((blob.flatbuffer, blob.constants), (&b"flatbufr"[..], &b"data"[..]));
}

#[test]
fn shortened_delegates_are_refused() {
    let bytes = minimal();
    let cut = BlobError::OutOfBounds { part: "constant section", offset: 40, size: 4, have: 43 };
    assert_eq!(parse(&bytes[..43]), Err(cut));
    let cut = BlobError::OutOfBounds { part: "flatbuffer", offset: 32, size: 8, have: 39 };
    assert_eq!(parse(&bytes[..39]), Err(cut));
    for have in 0..30 {
        assert_eq!(parse(&bytes[..have]), Err(BlobError::TooShort { have }));
    }
}

#[test]
fn magic_decides_whether_it_is_a_delegate_at_all() {
    let mut bytes = minimal();
    bytes[7] = b'1';
    assert_eq!(parse(&bytes), Err(BlobError::Magic { found: *b"VH01" }));
    bytes.truncate(29);
    assert_eq!(parse(&bytes), Err(BlobError::TooShort { have: 29 }), "length is looked at before the magic");
}

#[test]
fn each_field_has_its_rule() {
    let refuse = |size, fb, constants, error| {
        assert_eq!(parse(&with_header(size, fb, constants, 64)), Err(error));
    };
    refuse(29, (32, 8), (40, 4), BlobError::HeaderSize { header_size: 29 });
    refuse(30, (29, 8), (40, 4), BlobError::FlatbufferOffset { offset: 29, header_size: 30 });
    refuse(40, (39, 8), (48, 4), BlobError::FlatbufferOffset { offset: 39, header_size: 40 });
    refuse(30, (32, 0), (40, 4), BlobError::FlatbufferEmpty);
    refuse(30, (32, 8), (39, 4), BlobError::ConstantsOffset { offset: 39, flatbuffer_end: 40 });
    let flatbuffer_end = 32 + u64::from(u32::MAX);
    refuse(30, (32, u32::MAX), (31, 4), BlobError::ConstantsOffset { offset: 31, flatbuffer_end });
    let beyond = |part, offset, size| BlobError::OutOfBounds { part, offset, size, have: 64 };
    refuse(30, (32, 33), (65, 4), beyond("flatbuffer", 32, 33));
    refuse(30, (32, 8), (40, 25), beyond("constant section", 40, 25));
    refuse(30, (32, 8), (40, u64::MAX), beyond("constant section", 40, u64::MAX));
    refuse(30, (32, 8), (65, 0), beyond("constant section", 65, 0));
}

#[test]
fn parts_may_touch_and_leave_gaps() {
    let cut = |size, fb, constants| {
        let bytes = with_header(size, fb, constants, 64);
        parse(&bytes).map(|blob| (blob.flatbuffer.len(), blob.constants.len()))
    };
    assert_eq!(cut(30, (30, 1), (31, 1)), Ok((1, 1)));
    assert_eq!(cut(48, (48, 8), (60, 4)), Ok((8, 4)));
    assert_eq!(cut(30, (32, 32), (64, 0)), Ok((32, 0)));
}

#[test]
fn unstated_constant_size_means_the_rest() {
    let bytes = with_header(30, (32, 8), (40, 0), 64);
    assert_eq!(parse(&bytes).unwrap().constants.len(), 24);
}

#[test]
fn real_delegates_parse() {
    for (name, bytes) in REAL {
        let blob = parse(bytes).unwrap();
        assert_eq!(&blob.flatbuffer[4..8], b"VK00", "{name}");
        assert_eq!(blob.constants.len(), 0, "{name}");
    }
}

#[test]
fn messages_name_the_numbers() {
    let message = parse(&with_header(30, (32, 8), (40, 25), 64)).unwrap_err().to_string();
    assert_eq!(message, "constant section of 25 bytes at 40 does not fit into the delegate's 64 bytes");
    let message = parse(&[0; 30]).unwrap_err().to_string();
    assert_eq!(message, r#"delegate magic is "\x00\x00\x00\x00", expected "VH00""#);
}

//! Uploads of more than may be in flight at once: they arrive, and leave their source as it was.

mod common;

use std::fs::{self, File};
use std::thread;

use common::open;
use etwgpu_engine::{Buffer, Gpu, Prepared, Timing, Trace};
use etwgpu_record::{
    Access, Binding, BufferDesc, BufferId, Dispatch, OutputCopy, Recording, Shader, WeightKey, WeightLayout,
};

/// More than is uploaded before the host waits; an odd number of words.
const WORDS: usize = (72 << 18) + 1;

/// Words that differ from page to page.
fn words() -> Vec<u8> {
    (0..WORDS as u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Every word of a weight, one after the other in one number, by an invocation for each of 1024 rows.
fn hashed() -> Recording {
    let source = format!(
        "@group(0) @binding(1) var<storage, read> x: array<u32>;
        @group(0) @binding(2) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            var hash = 0u;
            for (var i = id.x; i < {WORDS}u; i += 1024u) {{ hash = hash * 31u + x[i]; }}
            out[id.x] = hash;
        }}"
    );
    let size = WORDS as u64 * 4;
    let mut recording = Recording::default();
    let key = WeightKey { constant: 0, layout: WeightLayout::Raw };
    let x = recording.add_buffer(BufferDesc::Weight { key, size });
    let out = recording.add_buffer(BufferDesc::Temp { size: 4096 });
    let bind = |buffer: BufferId, size, access| Binding { buffer, offset: 0, size, touched: size, access };
    recording.dispatches.push(Dispatch {
        shader: Shader { label: "hash", source: source.into() },
        bindings: vec![bind(x, size, Access::Read), bind(out, 4096, Access::ReadWrite)],
        grid: [16, 1, 1],
        ..Dispatch::default()
    });
    recording.outputs.push(OutputCopy { output: 0, buffer: out, size: 4096 });
    recording
}

/// What the device makes of a weight.
fn on_device(gpu: &Gpu, weight: &Buffer) -> Vec<u8> {
    let mut prepared = Prepared::new(gpu, &hashed(), &|_| Some(weight.clone())).unwrap();
    let mut got = Vec::new();
    let mut sink = |_: usize, bytes: &[u8]| {
        got = bytes.to_vec();
        Ok(())
    };
    prepared.run(gpu, &[], &mut sink, &mut Trace::new(Timing::Off, false)).unwrap();
    got
}

/// What it should make of it.
fn expected(bytes: &[u8]) -> Vec<u8> {
    let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
    let row = |row: usize| {
        words.iter().skip(row).step_by(1024).fold(0u32, |h, &w| h.wrapping_mul(31).wrapping_add(w))
    };
    (0..1024).flat_map(|i| row(i).to_le_bytes()).collect()
}

/// Bytes of some buffers as the device has them.
fn on_host(gpu: &Gpu, buffers: &[Buffer]) -> Vec<Vec<u8>> {
    let mut recording = Recording::default();
    for (buffer, number) in buffers.iter().zip(0..) {
        let id = recording.add_buffer(BufferDesc::State { value: number, size: buffer.size() });
        recording.outputs.push(OutputCopy { output: number, buffer: id, size: buffer.size() });
    }
    let resident = |desc: &BufferDesc| match desc {
        BufferDesc::State { value, .. } => buffers.get(*value as usize).cloned(),
        _ => None,
    };
    let mut prepared = Prepared::new(gpu, &recording, &resident).unwrap();
    let mut got = Vec::new();
    let mut sink = |_: usize, bytes: &[u8]| {
        got.push(bytes.to_vec());
        Ok(())
    };
    prepared.run(gpu, &[], &mut sink, &mut Trace::new(Timing::Off, false)).unwrap();
    got
}

#[test]
fn uploads_of_any_length_arrive_through_memory_that_is_used_again() {
    let gpu = open();
    // What goes through is 24 bytes at a time, so some lie together and others come in pieces.
    let (mut uploads, mut buffers, mut expected) = (gpu.uploads(24), Vec::new(), Vec::new());
    for length in [4, 1, 24, 23, 25, 0, 2, 3, 5, 8, 16, 240, 1, 1, 1, 1, 1, 47] {
        let buffer = gpu.create_buffer("part", 256).unwrap();
        let bytes: Vec<u8> = (0..length as u8).map(|i| i ^ buffers.len() as u8 | 0x80).collect();
        uploads.write(&buffer, &bytes).unwrap();
        buffers.push(buffer);
        expected.push([&bytes[..], &vec![0; 256 - length]].concat());
    }
    uploads.finish().unwrap();
    for (number, (got, expected)) in on_host(&gpu, &buffers).iter().zip(&expected).enumerate() {
        assert!(got == expected, "upload {number}: {got:?}");
    }
}

#[test]
fn uploads_of_several_threads_do_not_disturb_each_other() {
    let gpu = open();
    let buffers: Vec<Buffer> = (0..4).map(|_| gpu.create_buffer("whole", 4096).unwrap()).collect();
    // Whichever thread polls learns of what the device did for all of them.
    let work = &|(number, buffer): (usize, &Buffer)| {
        let mut uploads = gpu.uploads(8);
        for round in 0..20 {
            uploads.write(buffer, &[(number * 32 + round) as u8; 4096])?;
        }
        uploads.finish()
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            buffers.iter().enumerate().map(|each| scope.spawn(move || work(each))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    for (number, got) in on_host(&gpu, &buffers).iter().enumerate() {
        assert!(*got == [(number * 32 + 19) as u8; 4096], "thread {number}");
    }
}

#[test]
fn memory_of_the_process_arrives_and_stays() {
    let (gpu, bytes) = (open(), words());
    let weight = gpu.create_buffer("weight", bytes.len() as u64).unwrap();
    gpu.upload(&weight, &bytes).unwrap();
    assert!(on_device(&gpu, &weight) == expected(&words()));
    assert!(bytes == words(), "an upload changes nothing");
}

#[test]
#[cfg(target_os = "linux")]
fn pages_of_a_mapped_file_arrive_and_are_let_go_of() {
    let path = std::env::temp_dir().join(format!("etwgpu-upload-{}", std::process::id()));
    fs::write(&path, words()).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap(); // The open file keeps its bytes.
    // SAFETY: nobody else knows the file.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    let gpu = open();
    let weight = gpu.create_buffer("weight", map.len() as u64).unwrap();
    assert!(expected(&map) == expected(&words()));
    let before = resident(&map);
    assert!(before >= map.len() as u64 - 4096, "{before} bytes were read");
    gpu.upload(&weight, &map).unwrap();
    let after = resident(&map);
    assert!(after <= 64 << 10, "{after} of {before} bytes are still in memory");
    assert!(on_device(&gpu, &weight) == expected(&map));
}

/// Bytes in memory of the map that begins where these do.
#[cfg(target_os = "linux")]
fn resident(bytes: &[u8]) -> u64 {
    let start = bytes.as_ptr() as u64;
    let maps = procfs::process::Process::myself().unwrap().smaps().unwrap();
    maps.into_iter().find(|map| map.address.0 == start).unwrap().extension.map["Rss"]
}

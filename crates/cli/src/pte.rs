//! Reads delegates and named data out of ExecuTorch program files (`.pte`); runs nothing.
//!
//! A file starts with the program flatbuffer. An extended header inside it, at byte 8, gives the flatbuffer's
//! size and where the segments begin; delegates and named data are segments, or, for delegates, vectors
//! within the flatbuffer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use etwgpu_graph::weights::WeightSource;
use etwgpu_schema::et_program;
use etwgpu_schema::program::{BackendDelegate, CompileSpec, DataLocation, DataSegment};

/// Magic, own length, program size and segment base.
const MIN_EXTENDED_HEADER: u32 = 24;

/// A program file, mapped into memory.
#[derive(Debug)]
pub struct Pte {
    map: memmap2::Mmap,
}

impl Pte {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the map is read-only and private to this struct. If another process shortens or rewrites
        // the file meanwhile, reads see other bytes or the process is stopped by a signal; every model runner
        // has this in common.
        let map = unsafe { memmap2::Mmap::map(&file) };
        Ok(Self { map: map.with_context(|| format!("cannot map {}", path.display()))? })
    }

    /// Finds what the program holds.
    pub fn program(&self) -> Result<Program<'_>> {
        read(&self.map)
    }
}

/// The parts of a program that matter to a delegate.
#[derive(Debug)]
pub struct Program<'a> {
    /// Methods in file order.
    pub methods: Vec<Method<'a>>,
    /// Named bytes, for example constants under their keys.
    pub named_data: BTreeMap<&'a str, &'a [u8]>,
}

/// A method and the delegates that it calls.
#[derive(Debug)]
pub struct Method<'a> {
    /// Name, mostly `forward`.
    pub name: &'a str,
    /// Delegates of any backend.
    pub delegates: Vec<Delegate<'a>>,
}

/// A part of a method that was handed to a backend.
#[derive(Debug)]
pub struct Delegate<'a> {
    /// Registered name of the backend.
    pub id: &'a str,
    /// What the backend's exporter wrote.
    pub processed: &'a [u8],
    /// Options that were given at export.
    pub compile_specs: Vec<(&'a str, &'a [u8])>,
}

impl WeightSource for &Program<'_> {
    fn with_named(&mut self, key: &str, sink: &mut dyn FnMut(&[u8])) -> bool {
        let bytes = self.named_data.get(key).copied();
        bytes.map(sink).is_some()
    }
}

/// Finds what the program in `bytes` holds; every range is checked.
pub fn read(bytes: &[u8]) -> Result<Program<'_>> {
    let (program, segments) = split(bytes)?;
    let root = et_program(program).context("not a readable ExecuTorch program")?;
    let table: Vec<DataSegment<'_>> = root.segments().into_iter().flatten().collect();
    let segment = |index: u32| {
        let entry =
            table.get(index as usize).with_context(|| format!("no segment {index} of {}", table.len()))?;
        range(segments, entry.offset(), entry.size_()).with_context(|| format!("segment {index}"))
    };
    let inline: Vec<_> = root.backend_delegate_data().into_iter().flatten().collect();
    let inline = |index: u32| {
        let entry = inline.get(index as usize).with_context(|| format!("no inline delegate data {index}"))?;
        Ok(entry.data().map_or(&[][..], |data| data.bytes()))
    };

    let mut methods = Vec::new();
    for plan in root.execution_plan().into_iter().flatten() {
        let name = plan.name().unwrap_or_default();
        let delegate = |(at, stored)| {
            delegate(stored, segment, inline).with_context(|| format!("method {name}, delegate {at}"))
        };
        let delegates =
            plan.delegates().into_iter().flatten().enumerate().map(delegate).collect::<Result<_>>()?;
        methods.push(Method { name, delegates });
    }
    let mut named_data = BTreeMap::new();
    for entry in root.named_data().into_iter().flatten() {
        let key = entry.key().unwrap_or_default();
        let bytes = segment(entry.segment_index()).with_context(|| format!("named data {key}"))?;
        // ExecuTorch takes the first of equal keys.
        named_data.entry(key).or_insert(bytes);
    }
    Ok(Program { methods, named_data })
}

fn delegate<'a>(
    stored: BackendDelegate<'a>,
    segment: impl Fn(u32) -> Result<&'a [u8]>,
    inline: impl Fn(u32) -> Result<&'a [u8]>,
) -> Result<Delegate<'a>> {
    let place = stored.processed().context("no reference to its data")?;
    let processed = match place.location() {
        DataLocation::INLINE => inline(place.index())?,
        DataLocation::SEGMENT => segment(place.index())?,
        other => bail!("its data is at an unknown location {}", other.0),
    };
    let specs = stored.compile_specs().into_iter().flatten();
    let spec = |spec: CompileSpec<'a>| {
        (spec.key().unwrap_or_default(), spec.value().map_or(&[][..], |value| value.bytes()))
    };
    Ok(Delegate { id: stored.id().unwrap_or_default(), processed, compile_specs: specs.map(spec).collect() })
}

/// The flatbuffer, and everything from the first segment on. Without an extended header there are no
/// segments.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let Some(header) = bytes.get(8..).and_then(|rest| rest.strip_prefix(b"eh00")) else {
        return Ok((bytes, &[]));
    };
    let length = header.first_chunk().map(|b| u32::from_le_bytes(*b));
    let number = |at| header.get(at..).and_then(<[u8]>::first_chunk).map(|b| u64::from_le_bytes(*b));
    let (Some(length), Some(size), Some(base)) = (length, number(4), number(12)) else {
        bail!("the extended header is cut off");
    };
    if length < MIN_EXTENDED_HEADER {
        bail!("the extended header has {length} bytes, expected at least {MIN_EXTENDED_HEADER}");
    }
    let program = range(bytes, 0, size).context("program")?;
    let segments = range(bytes, base, (bytes.len() as u64).saturating_sub(base)).context("segments")?;
    // Files without segments give 0 as their base.
    Ok((program, if base == 0 { &[] } else { segments }))
}

fn range(bytes: &[u8], offset: u64, size: u64) -> Result<&[u8]> {
    let start = usize::try_from(offset).ok();
    let end = offset.checked_add(size).and_then(|end| usize::try_from(end).ok());
    let part = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
    part.with_context(|| format!("{size} bytes at {offset} do not fit into {}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etwgpu_schema::FlatBufferBuilder;
    use etwgpu_schema::program as fb;

    /// A program with an inline delegate `A`, a delegate `B` in segment `place`, and segment 0 under two
    /// names.
    fn program(place: u32) -> Vec<u8> {
        let fbb = &mut FlatBufferBuilder::new();
        let inline = Some(fbb.create_vector(b"inline"));
        let inline =
            fb::BackendDelegateInlineData::create(fbb, &fb::BackendDelegateInlineDataArgs { data: inline });
        let (key, value) = (Some(fbb.create_string("force_fp16")), Some(fbb.create_vector(&[1u8])));
        let spec = fb::CompileSpec::create(fbb, &fb::CompileSpecArgs { key, value });
        let specs = fbb.create_vector(&[spec]);
        let places = [("A", DataLocation::INLINE, 0), ("B", DataLocation::SEGMENT, place)];
        let delegates = places.map(|(id, location, index)| {
            let args = fb::BackendDelegateDataReferenceArgs { location, index };
            let processed = Some(fb::BackendDelegateDataReference::create(fbb, &args));
            let id = Some(fbb.create_string(id));
            fb::BackendDelegate::create(
                fbb,
                &fb::BackendDelegateArgs { id, processed, compile_specs: Some(specs) },
            )
        });
        let (name, delegates) = (Some(fbb.create_string("forward")), Some(fbb.create_vector(&delegates)));
        let plan = fb::ExecutionPlan::create(fbb, &fb::ExecutionPlanArgs { name, delegates });
        let segments = [(0, 4), (16, 3)]
            .map(|(offset, size_)| DataSegment::create(fbb, &fb::DataSegmentArgs { offset, size_ }));
        let named = [("k", 0), ("l", 0), ("k", 1)].map(|(key, segment_index)| {
            let key = Some(fbb.create_string(key));
            fb::NamedData::create(fbb, &fb::NamedDataArgs { key, segment_index })
        });
        let args = fb::ProgramArgs {
            execution_plan: Some(fbb.create_vector(&[plan])),
            backend_delegate_data: Some(fbb.create_vector(&[inline])),
            segments: Some(fbb.create_vector(&segments)),
            named_data: Some(fbb.create_vector(&named)),
            ..Default::default()
        };
        let root = fb::Program::create(fbb, &args);
        fb::finish_program_buffer(fbb, root);
        with_segments(fbb.finished_data())
    }

    /// Puts an extended header into the flatbuffer and the segments behind it, as ExecuTorch does.
    fn with_segments(program: &[u8]) -> Vec<u8> {
        let root = u32::from_le_bytes(*program.first_chunk().unwrap()) + 32;
        let size = program.len() as u64 + 32;
        let mut bytes = root.to_le_bytes().to_vec();
        bytes.extend(&program[4..8]);
        bytes.extend(b"eh00");
        bytes.extend(32u32.to_le_bytes());
        for number in [size, size.next_multiple_of(64), 19] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&program[8..]);
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        bytes.extend(b"segA............seg");
        bytes
    }

    #[test]
    fn finds_delegates_and_named_data() {
        let bytes = program(1);
        let program = read(&bytes).unwrap();
        let [method] = &program.methods[..] else { panic!() };
        assert_eq!(method.name, "forward");
        let found: Vec<_> =
            method.delegates.iter().map(|delegate| (delegate.id, delegate.processed)).collect();
        assert_eq!(found, [("A", &b"inline"[..]), ("B", b"seg")]);
        assert_eq!(method.delegates[1].compile_specs, [("force_fp16", &[1u8][..])]);
        assert_eq!(
            program.named_data,
            [("k", &b"segA"[..]), ("l", b"segA")].into(),
            "the first of equal keys counts"
        );
        let mut got: Vec<u8> = Vec::new();
        assert!((&program).with_named("l", &mut |bytes| got.extend(bytes)) && got == b"segA");
        assert!(!(&program).with_named("m", &mut |_| panic!()));
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        let message = |bytes: &[u8]| format!("{:#}", read(bytes).unwrap_err());
        assert_eq!(message(&program(2)), "method forward, delegate 1: no segment 2 of 2");
        let bytes = program(1);
        let short = message(&bytes[..bytes.len() - 1]);
        assert_eq!(short, "method forward, delegate 1: segment 1: 3 bytes at 16 do not fit into 18");
        assert_eq!(message(&bytes[..20]), "the extended header is cut off");
        assert!(message(b"").contains("ends before the identifier"));
        assert!(message(&[0; 64]).contains("expected \"ET12\""));
        let mut bytes = bytes;
        bytes[24..32].fill(0xff);
        assert!(message(&bytes).starts_with("segments: "));
    }

    #[test]
    fn damaged_files_never_panic() {
        let original = program(1);
        let (mut read_anyway, mut refused) = (0, 0);
        for at in 0..original.len() {
            assert!(read(&original[..at]).is_err());
            for damage in [0x00, 0x01, 0x04, 0x10, 0x7f, 0x80, 0xff] {
                let mut bytes = original.clone();
                bytes[at] ^= damage;
                if read(&bytes).is_ok() { read_anyway += 1 } else { refused += 1 }
            }
        }
        assert!(read_anyway > 100 && refused > 100, "{read_anyway} read, {refused} refused");
    }

    /// Exported programs beside the checkout, where there are some.
    #[test]
    fn real_programs_hold_every_constant_that_their_delegates_name() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
        let Ok(folders) = std::fs::read_dir(models) else { return };
        for path in
            folders.flatten().map(|folder| folder.path().join("model.pte")).filter(|path| path.exists())
        {
            let file = Pte::open(&path).unwrap();
            let program = file.program().unwrap();
            let delegates = || program.methods.iter().flat_map(|method| &method.delegates);
            assert!(delegates().any(|delegate| delegate.id == "VulkanBackend"), "{}", path.display());
            for delegate in delegates().filter(|delegate| delegate.id == "VulkanBackend") {
                let blob = etwgpu_graph::parse(delegate.processed).unwrap();
                for constant in etwgpu_graph::decode(&blob).unwrap().constants {
                    let etwgpu_graph::ConstantSource::Named(key) = constant.source else { continue };
                    assert!(program.named_data.contains_key(key.as_str()), "{}: {key}", path.display());
                }
            }
        }
    }
}

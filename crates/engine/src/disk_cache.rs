//! Compiled pipelines on disk, so that the next process does not compile them again.
//!
//! A file belongs to one adapter, driver and version of this library. It starts with a magic number and a checksum of
//! the rest, which is the driver's. Files are replaced as a whole (written beside, then renamed), so that any number of
//! processes may read and write one: the last writer wins. Whatever is wrong with a file or its folder costs speed only.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"ETWGPUPC";

/// Age at which a file that some process began and never finished is removed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A device's pipelines as its driver keeps them, and the file that they are saved to.
pub(crate) struct DiskCache {
    /// What pipelines are compiled with.
    pub(crate) cache: wgpu::PipelineCache,
    file: PathBuf,
    /// Checksum of what the file holds as far as we know.
    saved: Mutex<Option<u64>>,
    /// Contents to be written next.
    pending: Mutex<Option<Vec<u8>>>,
    /// Held while writing.
    writing: Mutex<()>,
}

impl DiskCache {
    /// Reads the device's file in `folder`; none where the device has no such caches or the folder cannot be made.
    pub(crate) fn open(device: &wgpu::Device, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            log::debug!("cache_dir: this device keeps no pipelines");
            return None;
        }
        let name = file_name(&device.adapter_info())?;
        if let Err(error) = make_private(folder) {
            log::warn!("cache_dir {}: {error}", folder.display());
            return None;
        }
        remove_abandoned(folder);
        let file = folder.join(name);
        let data = read(&file);
        log::debug!("{}: {} bytes", file.display(), data.as_ref().map_or(0, Vec::len));
        let desc = wgpu::PipelineCacheDescriptor {
            label: Some("etwgpu"),
            data: data.as_deref(),
            fallback: true, // start empty when the driver refuses the data
        };
        // SAFETY: the data is what `get_data` returned for this adapter, driver and version of this library, in a folder
        // that only this user can write to; the checksum tells damaged files.
        let cache = unsafe { device.create_pipeline_cache(&desc) };
        Some(Self {
            cache,
            file,
            saved: Mutex::new(data.as_deref().map(checksum)),
            pending: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    /// Whether this is the cache of a folder.
    pub(crate) fn is_in(&self, folder: &Path) -> bool {
        self.file.parent() == Some(folder)
    }

    /// Saves what the driver holds now, on another thread.
    pub(crate) fn save(self: &Arc<Self>) {
        let Some(data) = self.cache.get_data() else { return };
        if lock(&self.saved).replace(checksum(&data)) == Some(checksum(&data)) {
            return;
        }
        *lock(&self.pending) = Some(data);
        let this = self.clone();
        thread::spawn(move || this.finish());
    }

    /// Returns when everything that was to be saved is.
    pub(crate) fn finish(&self) {
        let _one_at_a_time = lock(&self.writing);
        let Some(data) = lock(&self.pending).take() else { return };
        if let Err(error) = write(&self.file, &data) {
            log::warn!("cannot save pipelines to {}: {error}", self.file.display());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Another driver or another version of this library has another file.
fn file_name(info: &wgpu::AdapterInfo) -> Option<String> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    let version = [&info.name, &info.driver, &info.driver_info, env!("CARGO_PKG_VERSION")].join("\0");
    Some(format!("{key}-{:016x}.bin", checksum(version.as_bytes())))
}

/// Makes a folder that only this user can change: drivers trust what they wrote.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The contents of a file, unless it is missing or damaged.
fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(file).ok()?;
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (expected, data) = rest.split_first_chunk::<8>()?;
    if magic != MAGIC || u64::from_le_bytes(*expected) != checksum(data) {
        log::warn!("{} is damaged: ignored", file.display());
        return None;
    }
    Some(data.to_vec())
}

/// Replaces a file.
fn write(file: &Path, data: &[u8]) -> io::Result<()> {
    let beside = file.with_extension(format!("{}.tmp", std::process::id()));
    let bytes = [&MAGIC[..], &checksum(data).to_le_bytes(), data].concat();
    let result = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, file));
    if result.is_err() {
        let _ = fs::remove_file(&beside);
    }
    result
}

fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with("wgpu_pipeline_cache");
        let is_unfinished = entry.path().extension().is_some_and(|extension| extension == "tmp");
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_ours && is_unfinished && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// FNV-1a over 64-bit words and the bytes that are left.
fn checksum(data: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x100_0000_01b3);
    let (words, rest) = data.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| step(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(step(hash, data.len() as u64), |hash, &byte| step(hash, byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("etwgpu-{name}-{}", std::process::id()));
            make_private(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn damaged_files_are_ignored() {
        let folder = Folder::new("damaged");
        let file = folder.0.join("a.bin");
        assert_eq!(read(&file), None);
        let data: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        write(&file, &data).unwrap();
        assert_eq!(read(&file).as_deref(), Some(&data[..]));
        let good = fs::read(&file).unwrap();
        for at in [0, 8, 16, 500, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert_eq!(read(&file), None, "byte {at}");
        }
        for length in [0, 7, 15, 16, 900] {
            fs::write(&file, &good[..length]).unwrap();
            assert_eq!(read(&file), None, "{length} bytes");
        }
    }

    #[test]
    fn readers_see_whole_files_while_writers_replace_them() {
        let folder = Folder::new("replaced");
        let file = folder.0.join("a.bin");
        write(&file, &[0; 100]).unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| (0..200u8).for_each(|i| write(&file, &vec![i; 1 << 14]).unwrap()));
            while !writer.is_finished() {
                let data = read(&file).expect("a whole file");
                assert!(data.iter().all(|byte| *byte == data[0]));
            }
        });
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn only_old_unfinished_files_of_ours_are_removed() {
        let folder = Folder::new("abandoned");
        let old = std::time::SystemTime::now() - 2 * ABANDONED;
        let names = [
            "wgpu_pipeline_cache_x.1.tmp",
            "wgpu_pipeline_cache_x.2.tmp",
            "wgpu_pipeline_cache_x.bin",
            "other.tmp",
        ];
        for name in names {
            let file = fs::File::create(folder.0.join(name)).unwrap();
            if !name.contains(".2.") {
                file.set_modified(old).unwrap();
            }
        }
        remove_abandoned(&folder.0);
        assert!(names.map(|name| folder.0.join(name).exists()) == [false, true, true, true]);
    }
}

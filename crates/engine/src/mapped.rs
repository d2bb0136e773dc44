//! Pages of mapped files: memory of this process that it can have back at any time.

/// Bytes of a file that is mapped for reading only, and of which this process has no page of its own.
pub(crate) struct MappedFile<'a> {
    bytes: &'a [u8],
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl<'a> MappedFile<'a> {
    /// None where the bytes are not such a file's, or nobody can tell. Asking takes some milliseconds.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        use procfs::process::{MMPermissions, MMapPath, Process};

        let range = bytes.as_ptr_range();
        let [start, end] = [range.start, range.end].map(|pointer| pointer as u64);
        let maps = Process::myself().and_then(|process| process.smaps()).ok()?;
        let map = maps.into_iter().find(|map| map.address.0 <= start && end <= map.address.1)?;
        let is_file = matches!(map.pathname, MMapPath::Path(_));
        let is_read = map.perms.contains(MMPermissions::READ) && !map.perms.contains(MMPermissions::WRITE);
        // Pages that were written while the map was private are the process's own, in memory or swapped out.
        let has_own = ["Anonymous", "Swap"].iter().any(|count| map.extension.map.get(*count) != Some(&0));
        (is_file && is_read && !has_own).then_some(Self { bytes })
    }

    /// Lets go of the pages that lie wholly in a part of the bytes. Who reads them again gets them from the file.
    pub(crate) fn release(&self, part: &[u8]) {
        let (all, part) = (self.bytes.as_ptr_range(), part.as_ptr_range());
        assert!(all.start <= part.start && part.end <= all.end, "the part is of these bytes");
        let page = usize::try_from(procfs::page_size()).unwrap_or(usize::MAX);
        let start = part.start as usize;
        let skip = start.next_multiple_of(page) - start;
        let length = (part.end as usize - start).saturating_sub(skip) / page * page;
        if length > 0 {
            // SAFETY: these pages belong to a map of a file that is only read and has no page of this process's own, so
            // they hold what is in the file before and after. Where the kernel refuses, as for locked pages, they stay.
            unsafe { libc::madvise(part.start.add(skip).cast_mut().cast(), length, libc::MADV_DONTNEED) };
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl<'a> MappedFile<'a> {
    /// None: nobody can tell.
    pub(crate) fn of(_bytes: &'a [u8]) -> Option<Self> {
        None
    }

    pub(crate) fn release(&self, _part: &[u8]) {
        let _ = self.bytes;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{self, File};

    use memmap2::{Mmap, MmapOptions};
    use procfs::process::Process;

    use super::MappedFile;

    const SIZE: usize = 1 << 20;

    /// A file of SIZE bytes, none of them zero.
    fn file(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("etwgpu-mapped-{}-{name}", std::process::id()));
        let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8 + 1).collect();
        fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap(); // The open file keeps its bytes.
        file
    }

    /// Reads all bytes.
    fn sum(bytes: &[u8]) -> u64 {
        bytes.iter().map(|&b| u64::from(b)).sum()
    }

    /// Bytes in memory of the map that begins where these do.
    fn resident(bytes: &[u8]) -> u64 {
        let start = bytes.as_ptr() as u64;
        let maps = Process::myself().unwrap().smaps().unwrap();
        let map = maps.into_iter().find(|map| map.address.0 == start).unwrap();
        map.extension.map["Rss"]
    }

    #[test]
    fn pages_of_a_file_go_and_come_back() {
        // SAFETY: nobody else knows the file.
        let map = unsafe { Mmap::map(&file("read")) }.unwrap();
        let before = sum(&map);
        assert_eq!(resident(&map), SIZE as u64);
        // From the middle of a page to the middle of another: both stay.
        MappedFile::of(&map).unwrap().release(&map[100..SIZE - 100]);
        assert_eq!(resident(&map), 2 * procfs::page_size());
        assert_eq!(sum(&map), before);
    }

    #[test]
    fn pages_that_were_written_are_kept() {
        // SAFETY: nobody else knows the file.
        let mut map = unsafe { MmapOptions::new().map_copy(&file("written")) }.unwrap();
        assert!(MappedFile::of(&map).is_none(), "it could be written");
        map[SIZE / 2] = 0;
        let map = map.make_read_only().unwrap();
        assert!(MappedFile::of(&map).is_none(), "it was");
        assert_eq!(map[SIZE / 2], 0);
    }

    #[test]
    fn memory_of_no_file_is_kept() {
        let bytes = vec![1; SIZE];
        assert!(MappedFile::of(&bytes).is_none());
        let map = MmapOptions::new().len(SIZE).map_anon().unwrap().make_read_only().unwrap();
        assert!(MappedFile::of(&map).is_none());
    }

    #[test]
    fn a_part_within_a_page_lets_go_of_nothing() {
        // SAFETY: nobody else knows the file.
        let map = unsafe { Mmap::map(&file("small")) }.unwrap();
        sum(&map);
        let mapped = MappedFile::of(&map).unwrap();
        mapped.release(&map[10..20]);
        mapped.release(&map[100..100]);
        assert_eq!(resident(&map), SIZE as u64);
    }
}

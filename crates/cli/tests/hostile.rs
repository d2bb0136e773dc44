//! Damaged files: each is either refused with a message or looked at; nothing panics.

mod common;

use common::{TempProgram, data, look};

const PROGRAMS: [&str; 3] = ["q4gsw_4w_m3", "q4gsw_4w_n12", "sdpa_dynpos_d32_tiny"];

/// Looks at `bytes` in both ways, on devices that take different routes; whether there was anything to see.
fn survives(name: &str, bytes: &[u8]) -> bool {
    let file = TempProgram::new(name, bytes);
    let ways = [("dump", "webgpu-floor"), ("explain", "h200")];
    let results = ways.map(|(command, caps)| look(&[command, file.path(), "--caps", caps]).1);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(error.len() > 10 && error.len() < 2000, "a message that helps: {error}");
    }
    results.iter().all(Result::is_ok)
}

#[test]
fn truncated_files() {
    for name in PROGRAMS {
        let bytes = std::fs::read(data(name)).unwrap();
        assert!(survives("truncated", &bytes));
        for length in (0..bytes.len()).step_by(97) {
            survives("truncated", &bytes[..length]);
        }
        assert!(!survives("truncated", &[]));
    }
}

#[test]
fn flipped_bytes() {
    let (mut seen, mut refused) = (0, 0);
    for name in PROGRAMS {
        let original = std::fs::read(data(name)).unwrap();
        // Headers and graph; weights matter to no plan.
        for at in (0..original.len().min(4096)).step_by(3) {
            for damage in [0x01, 0x80, 0xff] {
                let mut bytes = original.clone();
                bytes[at] ^= damage;
                if survives("flipped", &bytes) { seen += 1 } else { refused += 1 }
            }
        }
    }
    assert!(seen > 100 && refused > 100, "{seen} seen, {refused} refused");
}

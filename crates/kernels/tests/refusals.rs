//! What planning must refuse, and how it says so.

use etwgpu_graph::DType::{F32, I32};
use etwgpu_kernels::OpError;
use etwgpu_kernels::cases::{Arg, Builder, Case};

/// A cache of 10 rows of two heads by four, and `seq` new rows of `heads` heads at `position`.
fn cached(op: &str, seq: u32, heads: u32, position: i64) -> Case {
    let mut b = Builder::new(format!("{op} {seq} {heads} at {position}"));
    let caches = [(); 2].map(|()| b.constant(F32, &[1, 10, 2, 4], vec![0.5; 80]));
    let [q, k, v] = [2, heads, heads].map(|h| b.noise(F32, &[1, seq, h, 4]));
    let position = b.integer(position);
    let out = b.result(F32, &[1, seq, 2, 4]);
    match op {
        "update_cache.default" => b.node(op, &[k, caches[0], position].map(Arg::Id), &[caches[0]]),
        "custom_sdpa.default" => b.node(op, &[q, caches[0], caches[1], position].map(Arg::Id), &[out]),
        _ => b.node(op, &[q, k, v, caches[0], caches[1], position].map(Arg::Id), &[out]),
    }
    b.finish(&[out])
}

#[test]
fn positions_outside_a_cache_are_refused() {
    for op in ["update_cache.default", "custom_sdpa.default", "sdpa_with_kv_cache.default"] {
        let refusal = |seq, position| cached(op, seq, 2, position).live().map(|_| ()).map_err(|e| e.error);
        assert_eq!(refusal(1, 9), Ok(()), "{op}");
        assert_eq!(refusal(10, 0), Ok(()), "{op}");
        for (seq, position) in [(1, 10), (2, 9), (11, 0), (1, -1), (1, i64::from(i32::MAX)), (1, i64::MAX)] {
            let error = refusal(seq, position).expect_err(op);
            let text = error.to_string();
            assert!(
                matches!(error, OpError::Invalid(_)) && text.contains("exceed a cache of 10"),
                "{op}: {text}"
            );
        }
    }
}

#[test]
fn rows_that_do_not_match_their_cache_are_refused() {
    for op in ["update_cache.default", "sdpa_with_kv_cache.default"] {
        let error = cached(op, 1, 1, 0).live().expect_err(op).error;
        assert!(
            matches!(&error, OpError::Invalid(text) if text.contains("do not match a cache")),
            "{op}: {error}"
        );
    }
}

#[test]
fn unknown_operators_are_refused_by_name() {
    let mut b = Builder::new("unknown");
    let (x, out) = (b.noise(I32, &[1]), b.result(I32, &[1]));
    b.node("aten.no_such.default", &[x.into()], &[out]);
    let error = b.finish(&[out]).live().unwrap_err();
    assert!(error.to_string().starts_with("aten.no_such.default (node 0): no such operator"), "{error}");
}

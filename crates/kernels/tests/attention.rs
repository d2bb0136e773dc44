//! Attention beyond its cases: tiles that are skipped, head dimensions, plans of fixed and of live sizes.

use etwgpu_graph::DType::F32;
use etwgpu_kernels::cases::{Arg, Builder, Case};
use etwgpu_kernels::reference::Array;
use etwgpu_kernels::{LowerOptions, Lowered, OpError};
use etwgpu_record::{Caps, Dispatch};
use etwgpu_testkit::{POISON, lower, open, run_buffers, taken};

const HEADS: u32 = 3;

/// Queries and keys of a tile, by definition of the count.
const TILE: usize = 4;

/// In the graph, or passed by the host.
#[derive(Clone, Copy, Debug)]
enum Position {
    Fixed(i64),
    Live(i64),
}

/// `seq` rows of at most `bound` at `position` into a cache of `capacity`, three heads of `width`.
fn attend(seq: u32, bound: u32, position: Position, capacity: u32, width: u32) -> Case {
    let mut b = Builder::new(format!("{seq} of {bound} at {position:?} in {capacity} by {width}"));
    let [q, k, v] = [(); 3].map(|()| {
        let values = b.random.signed((seq * HEADS * width) as usize, 1.0);
        b.input_below(&[1, bound, HEADS, width], Array::new(F32, &[1, seq, HEADS, width], values))
    });
    let caches = [(); 2].map(|()| {
        let values = b.random.signed((capacity * HEADS * width) as usize, 1.0);
        b.constant(F32, &[1, capacity, HEADS, width], values)
    });
    let position = match position {
        Position::Fixed(value) => Arg::Int(value),
        Position::Live(value) => b.integer(value).into(),
    };
    let out = b.result(F32, &[1, bound, HEADS, width]);
    let args = [q, k, v, caches[0], caches[1]].map(Arg::Id).into_iter();
    let rest = [position, Arg::Int(1), Arg::None, Arg::Float(0.0), Arg::Bool(true), Arg::None];
    b.node("sdpa_with_kv_cache.default", &args.chain(rest).collect::<Vec<_>>(), &[out]);
    b.finish(&[out])
}

fn plan(case: &Case, caps: &Caps, route: &str) -> Lowered {
    let options = LowerOptions { prefer: vec![route.into()], ..LowerOptions::default() };
    let lowered = lower(case, &case.live().unwrap(), caps, &options).unwrap();
    assert!(route.is_empty() || taken(&lowered).contains(&route), "{}: {:?}", case.name, taken(&lowered));
    lowered
}

/// Tiles of scores, and those of them that the device left as they were, of one head.
fn skipped_tiles(seq: u32, position: u32) -> (usize, usize) {
    let gpu = open();
    let case = attend(seq, seq, Position::Fixed(position.into()), position + seq, 8);
    let mut recording = plan(&case, gpu.caps(), "sdpa.materialized").recording;
    let at = recording.dispatches.iter().position(|d| d.shader.label == "sdpa_scores").unwrap();
    recording.dispatches.truncate(at + 1);
    let scores = recording.dispatches[at].bindings[2].buffer;
    let bytes = run_buffers(&gpu, &case, &recording).unwrap().swap_remove(scores.index());
    // Rows and columns are padded to whole tiles.
    let (rows, columns) = (seq.div_ceil(4) as usize, (position + seq).div_ceil(4) as usize);
    let row_bytes = columns * TILE * 4;
    assert!(bytes.len() >= HEADS as usize * rows * TILE * row_bytes);
    let mut skipped = 0;
    for tile in 0..HEADS as usize * rows * columns {
        let (row, column) = (tile / columns * TILE, tile % columns);
        let starts = (row..row + TILE).map(|r| r * row_bytes + column * TILE * 4);
        let written: Vec<bool> =
            starts.flat_map(|start| &bytes[start..start + TILE * 4]).map(|&b| b != POISON).collect();
        // A score may have a byte of all ones, but no whole tile of such.
        skipped += usize::from(written.iter().all(|w| !w));
    }
    assert_eq!(skipped % HEADS as usize, 0, "heads differ");
    (rows * columns, skipped / HEADS as usize)
}

#[test]
fn tiles_above_the_diagonal_are_skipped_on_the_device() {
    assert_eq!(skipped_tiles(128, 0), (1024, 496));
    // A tile is needed where its first key is at or before its last query.
    for (seq, position) in [(128, 4), (130, 0), (37, 57), (5, 2), (1, 9)] {
        let (queries, keys) = ((0..seq).step_by(TILE), (0..position + seq).step_by(TILE));
        let hidden = |s: u32, c: u32| c > position + (s + TILE as u32 - 1).min(seq - 1);
        let expected = queries.flat_map(|s| keys.clone().map(move |c| (s, c))).filter(|&(s, c)| hidden(s, c));
        assert_eq!(skipped_tiles(seq, position).1, expected.count(), "{seq} at {position}");
    }
}

#[test]
fn head_dimensions_that_are_no_multiples_of_four_are_refused_at_load() {
    for width in [1, 2, 6, 30, 127, 255] {
        let error = attend(2, 2, Position::Fixed(0), 8, width).live().map(|_| ()).unwrap_err().error;
        let want = format!("head dimension {width}; it must be a multiple of 4");
        assert!(matches!(&error, OpError::Unsupported(text) if *text == want), "{error}");
    }
}

/// Splits serve heads up to 256, larger ones go elsewhere instead of failing; the limit is named from its one place.
#[test]
#[cfg(feature = "sdpa-fd")]
fn large_heads_decode_on_other_routes() {
    for caps in Caps::presets().into_iter().filter(|caps| caps.max_invocations >= 256) {
        let routes = |width| {
            let case = attend(1, 1, Position::Fixed(7), 8, width);
            lower(&case, &case.live().unwrap(), &caps, &LowerOptions::default()).unwrap()
        };
        assert_eq!(taken(&routes(256)), ["sdpa.flash_decoding"], "{}", caps.name);
        let large = routes(260);
        assert_eq!(taken(&large), ["sdpa.materialized"], "{}", caps.name);
        let why = large.plans[0].considered[0].refusal.as_ref().unwrap();
        assert_eq!(why, "head dimension 260 above 256");
    }
}

/// Invocations of a workgroup that can walk alone, and how far the context is beyond what it does walk alone.
#[cfg(feature = "sdpa-fd")]
fn beyond_alone(dispatch: &Dispatch) -> Option<(u32, i64)> {
    let constant = |name: &str| etwgpu_testkit::constant(&dispatch.shader.source, name);
    let context = dispatch.params.get(3)? + dispatch.params.get(4)?;
    Some((constant("WG")?, i64::from(context) - i64::from(constant("ALONE")?)))
}

/// Where one workgroup stops and several start depends on the device, and the cases' positions must follow.
#[test]
#[cfg(feature = "sdpa-fd")]
fn cases_lie_around_the_longest_context_that_is_walked_alone() {
    let gpu = Caps { is_cpu: false, ..Caps::lavapipe() };
    for (caps, wg) in [(Caps::lavapipe(), 128), (gpu, 256), (Caps::h200(), 256)] {
        let mut found = std::collections::BTreeSet::new();
        for case in etwgpu_kernels::ops::sdpa::cases::all() {
            let Ok(lowered) = lower(&case, &case.live().unwrap(), &caps, &LowerOptions::default()) else {
                continue;
            };
            found.extend(lowered.recording.dispatches.iter().filter_map(beyond_alone));
        }
        for beyond in [-1, 0, 1] {
            assert!(found.contains(&(wg, beyond)), "no case {beyond} beyond on {}: {found:?}", caps.name);
        }
    }
}

/// What is special about how a launch's lanes share out the scores of its live context, if they exchange by shuffles.
#[cfg(feature = "sdpa-fd")]
fn shared_out(dispatch: &Dispatch) -> Vec<&'static str> {
    let constant = |name: &str| etwgpu_testkit::constant(&dispatch.shader.source, name).unwrap_or(0);
    if dispatch.shader.label != "sdpa_split" || !dispatch.shader.source.contains("subgroupShuffleXor") {
        return Vec::new();
    }
    let context = dispatch.params[3] + dispatch.params[4];
    let (heads, mine, repeated) = match context <= constant("ALONE") {
        true => (1, constant("MINE1"), constant("REPEATED1")),
        false => (constant("HEADS0"), constant("MINE0"), constant("REPEATED0")),
    };
    let (lanes, quads) = (constant("LANES"), constant("D") / 4);
    let is_merged = dispatch.bindings.len() == 7 && context > constant("ALONE").max(constant("MIN_SPLIT"));
    let ways = [
        ("several scores a lane", mine > 1),
        ("one score a lane", mine == 1 && repeated == 1),
        ("several lanes a score", repeated > 1),
        ("all scores in one lane", lanes == 1),
        ("scores of no head", !heads.is_power_of_two()),
        ("lanes without channels", lanes > quads),
        ("lanes for heads alone", heads > quads.next_power_of_two()),
        ("several keys a subgroup", constant("JOINED") > 1),
        ("one key a subgroup", constant("JOINED") == 1),
        ("parts of several heads", is_merged && heads > 1),
        ("parts of heads that are no power of two", is_merged && !heads.is_power_of_two()),
    ];
    ways.into_iter().filter(|(_, is_so)| *is_so).map(|(what, _)| what).collect()
}

/// Subgroups of eight are what every machine can test on; each way to share out scores must occur there.
#[test]
#[cfg(feature = "sdpa-fd")]
fn cases_share_out_scores_in_every_way() {
    let cpu = Caps::lavapipe();
    let few = [
        "several scores a lane",
        "one score a lane",
        "all scores in one lane",
        "scores of no head",
        "lanes without channels",
        "lanes for heads alone",
        "several keys a subgroup",
        "one key a subgroup",
    ];
    let parts = ["parts of several heads", "parts of heads that are no power of two"];
    let merging = [&few[..], &parts].concat();
    for (caps, expected) in [
        (cpu.clone(), [&merging[..], &["several lanes a score"]].concat()),
        (Caps { is_cpu: false, ..cpu.clone() }, merging),
        (Caps { coherent: false, ..cpu }, [&few[..], &["several lanes a score"]].concat()),
    ] {
        let mut found = std::collections::BTreeMap::<_, usize>::new();
        for case in etwgpu_kernels::ops::sdpa::cases::all() {
            let Ok(lowered) = lower(&case, &case.live().unwrap(), &caps, &LowerOptions::default()) else {
                continue;
            };
            let ways = lowered.recording.dispatches.iter().flat_map(shared_out);
            ways.for_each(|way| *found.entry(way).or_default() += 1);
        }
        println!("{found:?}");
        for way in expected {
            assert!(found.contains_key(way), "no case has {way}: {found:?}");
        }
    }
}

/// Whether two launches differ only in which words follow integers.
fn same(a: &Dispatch, b: &Dispatch) -> bool {
    let sizes = |d: &Dispatch| d.bindings.iter().map(|b| (b.offset, b.size)).collect::<Vec<_>>();
    a.shader == b.shader && a.params == b.params && a.grid == b.grid && sizes(a) == sizes(b)
}

#[test]
fn static_graphs_record_as_if_nothing_were_live() {
    let caps = Caps::h200();
    let routes: Vec<&str> = etwgpu_kernels::ops::sdpa::ROUTES.iter().map(|route| route.name).collect();
    for (seq, position) in [(1, 0), (1, 37), (1, 100), (37, 20), (128, 0)] {
        let still = attend(seq, seq, Position::Fixed(position), 160, 64);
        let moving = attend(seq, 128, Position::Live(position), 160, 64);
        for route in &routes {
            let options = LowerOptions { prefer: vec![(*route).into()], ..LowerOptions::default() };
            let plan = |case: &Case| lower(case, &case.live().unwrap(), &caps, &options).unwrap();
            let (a, b) = (plan(&still), plan(&moving));
            assert_eq!(a, plan(&still), "the same twice");
            assert!(a.recording.dispatches.iter().all(|d| d.live_params.is_empty()));
            assert!(b.recording.dispatches.iter().all(|d| !d.live_params.is_empty()));
            let (a, b) = (&a.recording.dispatches, &b.recording.dispatches);
            let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
            assert!(same, "{seq} at {position}, {route}");
        }
    }
}

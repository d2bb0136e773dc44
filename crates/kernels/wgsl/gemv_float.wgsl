// Activations of gemv.wgsl as floats: a thread's 32 channels, scaled down by the place of the nibble they meet.
#import reduce
#for i 8
var<private> x{i}: vec4<f32>;
#end
// -8 times their sum, since nibbles hold value + 8.
var<private> offset: f32;
var<private> row_scale: f32;

const PLACE_LO = vec4<f32>(1.0, 0x1p-4, 0x1p-8, 0x1p-12);
const PLACE_HI = vec4<f32>(0x1p-16, 0x1p-20, 0x1p-24, 0x1p-28);

// Eight nibbles in place against eight prescaled activations: no shifts.
fn dot8(word: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    let a = vec4<f32>(vec4(word) & vec4(0xfu, 0xf0u, 0xf00u, 0xf000u));
    let b = vec4<f32>(vec4(word) & vec4(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u));
    return dot(a, lo) + dot(b, hi);
}

fn dot32(w: vec4<u32>, scale: f32) -> f32 {
    let d = dot8(w.x, x0, x1) + dot8(w.y, x2, x3) + dot8(w.z, x4, x5) + dot8(w.w, x6, x7);
    return scale * (d + offset);
}

// Activations on their way from neighbouring loads to their owners, a part at a time: 32 channels an owner, padded by
// a vec4 so that owners read from different banks.
const PITCH = 9u;
var<workgroup> staged: array<vec4<f32>, OWNERS * PITCH>;

fn quantised(v: vec4<f32>, q: QParams) -> vec4<f32> {
    return clamp(round(v / q.scale) + q.zero, vec4(-128.0), vec4(127.0)) - q.zero;
}

fn lowest_of(v: vec4<f32>) -> f32 {
    return min(min(v.x, v.y), min(v.z, v.w));
}

// Reads the row, normalises and quantises it, and leaves each thread with its channels.
fn prepare(m: u32, ids: Ids) {
    let lane = ids.lid % TEAM;
    let in_row = lane < ROW_CHUNKS;
    let row = m * (K / 4u);
    // Past the row's end the last vec4 is read again; nobody owns those.
    const LAST = K / 4u - 1u;
#for i LOADS
    let at{i} = min(ids.lid + {i}u * WG, LAST);
    var v{i} = vec4<f32>(x[row + at{i}]);
#end
#ifdef NORM
    var squares = 0.0;
#for i LOADS
    let weight_{i} = vec4<f32>(norm_weight[at{i}]);
    if ids.lid + {i}u * WG <= LAST { squares += dot(v{i}, v{i}); }
#end
    let norm = inverseSqrt(workgroup_sum(squares, ids) / f32(K) + p.eps);
#for i LOADS
    // Rounded as the separate normalisation would store it.
    v{i} = vec4<f32>(elem4(v{i} * norm * weight_{i}));
#end
#endif
#for round ROUNDS
    {
        let first = {round}u * PER_ROUND;
#for i LOADS
        if {i}u / PER_ROUND == {round}u {
            let to = ({i}u - first) * WG + ids.lid;
            staged[to / 8u * PITCH + to % 8u] = v{i};
        }
#end
        workgroupBarrier();
        if lane / OWNERS == {round}u {
#for i 8
            x{i} = staged[lane % OWNERS * PITCH + {i}u];
#end
        }
        workgroupBarrier();
    }
#end
    row_scale = 1.0;
#ifdef DYNAMIC_Q8
#ifdef QUANTISE_HERE
    let low = lowest_of(min(min(min(x0, x1), min(x2, x3)), min(min(x4, x5), min(x6, x7))));
    let high = -lowest_of(-max(max(max(x0, x1), max(x2, x3)), max(max(x4, x5), max(x6, x7))));
    let lowest = workgroup_min(low, ids);
    let highest = workgroup_max(high, ids);
    let q = choose_qparams(lowest, highest);
#else
    let q = given_qparams(m);
#endif
#for i 8
    x{i} = quantised(x{i}, q);
#end
    row_scale = q.scale;
#endif
    // Threads past the row count for nothing.
    let keep = select(0.0, 1.0, in_row);
    let sum = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
    offset = -8.0 * keep * ((sum.x + sum.y) + (sum.z + sum.w));
    x0 *= PLACE_LO * keep;
    x1 *= PLACE_HI * keep;
    x2 *= PLACE_LO * keep;
    x3 *= PLACE_HI * keep;
    x4 *= PLACE_LO * keep;
    x5 *= PLACE_HI * keep;
    x6 *= PLACE_LO * keep;
    x7 *= PLACE_HI * keep;
}

// What all products of the row are multiplied by.
fn row_factor(ids: Ids) -> f32 {
    return row_scale;
}

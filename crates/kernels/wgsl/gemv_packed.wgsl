// Activations of gemv.wgsl as integers, so that packed dot products of bytes do the work. An integer is split into bytes,
// the top one signed, those below unsigned:
// - as quantised to 8 bits, exactly: less the zero point in two bytes, or with ONE_BYTE the codes themselves;
// - else relative to the largest of 32 channels: 22 bits and a sign with THREE_BYTES, which is single precision, or 15.
#ifdef THREE_BYTES
const BITS = 22u;
const TOP = 16u;
#else
const BITS = 15u;
const TOP = 8u;
#endif

// A thread's 32 channels: bytes of the even and of the odd ones of each eight, as their nibbles lie in a word.
#for i 4
#ifndef ONE_BYTE
var<private> low_even{i}: u32;
var<private> low_odd{i}: u32;
#endif
#ifdef THREE_BYTES
var<private> mid_even{i}: u32;
var<private> mid_odd{i}: u32;
#endif
var<private> top_even{i}: u32;
var<private> top_odd{i}: u32;
#end
// -8 times their sum, since nibbles hold value + 8; of codes less the zero point.
var<private> offset: i32;
// What an integer of one stands for, in these channels and in the whole row.
var<private> unit: f32;
var<private> row_scale: f32;
var<private> row_zero: i32;

fn dot32(w: vec4<u32>, scale: f32) -> f32 {
    var low = 0u;
    var mid = 0u;
    var top = 0;
#for i 4
    let even{i} = w[{i}] & 0x0f0f0f0fu;
    let odd{i} = (w[{i}] >> 4u) & 0x0f0f0f0fu;
#ifdef ONE_BYTE
    // What the zero point is multiplied by, in four sums.
    low += even{i} + odd{i};
#else
    low += dot4U8Packed(even{i}, low_even{i}) + dot4U8Packed(odd{i}, low_odd{i});
#endif
#ifdef THREE_BYTES
    mid += dot4U8Packed(even{i}, mid_even{i}) + dot4U8Packed(odd{i}, mid_odd{i});
#endif
    top += dot4I8Packed(even{i}, top_even{i}) + dot4I8Packed(odd{i}, top_odd{i});
#end
#ifdef ONE_BYTE
    return scale * f32(offset + top - row_zero * i32(dot4U8Packed(low, 0x01010101u)));
#else
    return scale * unit * f32(offset + i32(low + (mid << 8u)) + (top << TOP));
#endif
}

// What the subgroups found in the row: their part of what a normalisation takes the root of, smallest and largest
// element.
var<workgroup> found: array<vec4<f32>, PARTS>;
// Integers on their way from the lanes that made them to their owners, a part at a time: bytes of the even or of the odd
// channels of eight, and the sum of four. 32 channels an owner, padded so that owners read from different banks.
const PITCH = 9u;
var<workgroup> staged: array<vec4<u32>, OWNERS * PITCH>;
var<workgroup> units: array<f32, OWNERS>;

fn bytes(first: i32, second: i32, shift: u32) -> u32 {
    return (bitcast<u32>(first) >> shift & 0xffu) | ((bitcast<u32>(second) >> shift & 0xffu) << 8u);
}

// Bytes of eight channels, of which this lane and its neighbour hold four each: the even ones for the first lane of the
// two, the odd ones for the second.
fn exchange(even: u32, odd: u32, is_first: bool) -> vec2<u32> {
    let kept = select(odd, even, is_first);
    let got = subgroupShuffleXor(select(even, odd, is_first), 1u);
    return vec2(select(got, kept, is_first), select(kept, got, is_first));
}

fn packed(q: vec4<i32>, ids: Ids) -> vec4<u32> {
    let is_first = ids.lid % 2u == 0u;
    let even = bytes(q.x, q.z, 0u) | (bytes(q.x, q.z, 8u) << 16u);
    let odd = bytes(q.y, q.w, 0u) | (bytes(q.y, q.w, 8u) << 16u);
    let below = exchange(even, odd, is_first);
    let low = (below.x & 0xffffu) | (below.y << 16u);
    let high = (below.x >> 16u) | (below.y & 0xffff0000u);
    let sum = bitcast<u32>(q.x + q.y + q.z + q.w);
#ifdef THREE_BYTES
    let above = exchange(bytes(q.x, q.z, 16u), bytes(q.y, q.w, 16u), is_first);
    return vec4(low, high, above.x | (above.y << 16u), sum);
#else
#ifdef ONE_BYTE
    return vec4(0u, 0u, low, sum);
#else
    return vec4(low, 0u, high, sum);
#endif
#endif
}

#ifdef DYNAMIC_Q8
fn integers(v: vec4<f32>, q: QParams) -> vec4<i32> {
    let codes = clamp(round(v / q.scale) + q.zero, vec4(-128.0), vec4(127.0));
#ifdef ONE_BYTE
    return vec4<i32>(codes);
#else
    return vec4<i32>(codes - q.zero);
#endif
}
#else
// Largest exponent among the 32 channels that eight lanes hold; that of infinity if one is infinite or no number.
fn shared_exponent(v: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(v) & vec4(0x7fffffffu);
    var largest = max(max(bits.x, bits.y), max(bits.z, bits.w));
    largest = max(largest, subgroupShuffleXor(largest, 1u));
    largest = max(largest, subgroupShuffleXor(largest, 2u));
    largest = max(largest, subgroupShuffleXor(largest, 4u));
    // The smallest whose scale is finite.
    return max(largest & 0x7f800000u, (BITS - 1u) << 23u);
}

// Of BITS bits and a sign: the low bits of a float between 2^23 and 2^24 are an integer.
fn integers(v: vec4<f32>, exponent: u32) -> vec4<i32> {
    let scale = bitcast<f32>(((253u + BITS) << 23u) - exponent);
    let rounded = bitcast<vec4<i32>>(v * scale + 12582912.0) - vec4(0x4b400000);
#ifdef THREE_BYTES
    return rounded;
#else
    // Rounded up, the largest would be negative.
    return min(rounded, vec4((1i << BITS) - 1i));
#endif
}

fn unit_of(exponent: u32) -> f32 {
    return bitcast<f32>(select(exponent - ((BITS - 1u) << 23u), 0x7fc00000u, exponent == 0x7f800000u));
}
#endif

fn least(v: vec4<f32>) -> f32 {
    return min(min(v.x, v.y), min(v.z, v.w));
}

// Reads the row and leaves each thread with its channels. A normalisation's factor is left to `row_factor` unless
// quantisation needs it.
fn prepare(m: u32, ids: Ids) {
    let lane = ids.lid % TEAM;
    let row = m * (K / 4u);
    const LAST = K / 4u - 1u;
    var squares = 0.0;
    var lowest = 0.0;
    var highest = 0.0;
#for i LOADS
    let at{i} = min(ids.lid + {i}u * WG, LAST);
    // Nothing lies past the row's end.
    var v{i} = select(vec4(0.0), vec4<f32>(x[row + at{i}]), ids.lid + {i}u * WG <= LAST);
#end
#ifdef NORM
#for i LOADS
    squares += dot(v{i}, v{i});
    v{i} *= vec4<f32>(norm_weight[at{i}]);
#end
#endif
#ifdef QUANTISE_HERE
#for i LOADS
    lowest = min(lowest, least(v{i}));
    highest = max(highest, -least(-v{i}));
#end
    // Neither changes sign over lanes, and magnitudes compare as integers, which are faster to reduce. (Not in a function
    // of its own: a driver's compiler makes reductions slow in what is called more than once.)
    lowest = -bitcast<f32>(subgroupMax(bitcast<u32>(lowest) & 0x7fffffffu));
    highest = bitcast<f32>(subgroupMax(bitcast<u32>(highest) & 0x7fffffffu));
#endif
    squares = subgroupAdd(squares);
#ifdef NORM
    squares = squares / f32(K) + select(0.0, p.eps, ids.subgroup == 0u);
#endif
    if ids.lane == 0u { found[ids.subgroup] = vec4(squares, lowest, highest, 0.0); }
#ifdef DYNAMIC_Q8
    workgroupBarrier();
    let row_found = found_in_row(ids);
#ifdef NORM
    let norm = inverseSqrt(row_found.x);
#for i LOADS
    v{i} *= norm;
#end
#else
    const norm = 1.0;
#endif
#ifdef QUANTISE_HERE
    let q = choose_qparams(row_found.y * norm, row_found.z * norm);
#else
    let q = given_qparams(m);
#endif
    row_scale = q.scale;
    unit = 1.0;
    row_zero = i32(q.zero);
#endif
#ifdef ONE_BYTE
    offset = 8 * 32 * row_zero;
#else
    offset = 0;
#endif
#for round ROUNDS
    {
        let first = {round}u * PER_ROUND;
#for i LOADS
        if {i}u / PER_ROUND == {round}u {
            let to = ({i}u - first) * WG + ids.lid;
#ifdef DYNAMIC_Q8
            let ready = packed(integers(v{i}, q), ids);
#else
            let exponent = shared_exponent(v{i});
            let ready = packed(integers(v{i}, exponent), ids);
#endif
            if to < OWNERS * 8u {
                staged[to / 8u * PITCH + to % 8u] = ready;
#ifndef DYNAMIC_Q8
                if to % 8u == 0u { units[to / 8u] = unit_of(exponent); }
#endif
            }
        }
#end
        workgroupBarrier();
        if lane / OWNERS == {round}u {
            let own = lane % OWNERS * PITCH;
#for i 4
            let even{i} = staged[own + 2u * {i}u];
            let odd{i} = staged[own + 2u * {i}u + 1u];
#ifndef ONE_BYTE
            low_even{i} = even{i}.x;
            low_odd{i} = odd{i}.x;
#endif
#ifdef THREE_BYTES
            mid_even{i} = even{i}.y;
            mid_odd{i} = odd{i}.y;
#endif
            top_even{i} = even{i}.z;
            top_odd{i} = odd{i}.z;
            offset -= 8 * bitcast<i32>(even{i}.w + odd{i}.w);
#end
#ifndef DYNAMIC_Q8
            unit = units[lane % OWNERS];
#endif
        }
#ifdef MANY_ROUNDS
        workgroupBarrier();
#endif
    }
#end
}

// What all subgroups found, after a barrier; all invocations take part.
fn found_in_row(ids: Ids) -> vec3<f32> {
    var all = vec3(0.0);
    for (var s = ids.lane; s < ids.subgroups; s += WG / ids.subgroups) {
        let part = found[s];
        all = vec3(all.x + part.x, min(all.y, part.y), max(all.z, part.z));
    }
    let lowest = -bitcast<f32>(subgroupMax(bitcast<u32>(all.y) & 0x7fffffffu));
    let highest = bitcast<f32>(subgroupMax(bitcast<u32>(all.z) & 0x7fffffffu));
    return vec3(subgroupAdd(all.x), lowest, highest);
}

// What all products of the row are multiplied by; all invocations take part.
fn row_factor(ids: Ids) -> f32 {
#ifdef DYNAMIC_Q8
    return row_scale;
#else
#ifdef NORM
    return inverseSqrt(found_in_row(ids).x);
#else
    return 1.0;
#endif
#endif
}

// out[m, n] = dot(x[m], weight[n]); a workgroup an element, invocations stride along K.
#ifdef Q4
alias weight_item = u32;
#else
alias weight_item = elem;
#endif
alias x_item = elem;
#import operands
#import reduce

fn load_x(m: u32, k: u32, q: RowQuant) -> f32 {
    return quantised(vec4(f32(x[m * K + k])), q).x;
}

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let element = linear_workgroup(ids);
    if element >= p.m * N { return; }
    let m = element / N;
    let n = element % N;
    let q = row_quant(m);
    var sum = 0.0;
#ifdef Q4
    const ROW_WORDS = (K + 7u) / 8u;
    for (var j = ids.lid; j < ROW_WORDS; j += WG) {
        let word = weight[n * ROW_WORDS + j];
        for (var t = 0u; t < min(8u, K - 8u * j); t++) {
            let k = 8u * j + t;
            let w = (f32(extractBits(word, 4u * t, 4u)) - 8.0) * f32(scales[n * GROUPS + k / GROUP]);
            sum += load_x(m, k, q) * w;
        }
    }
#else
    for (var k = ids.lid; k < K; k += WG) {
        sum += load_x(m, k, q) * f32(weight[n * K + k]);
    }
#endif
    let total = workgroup_sum(sum, ids);
    if ids.lid == 0u { out[element] = finish(total, m, n); }
}

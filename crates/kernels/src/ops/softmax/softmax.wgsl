// One workgroup a line; the elements of a line are `stride` apart.
#import elem
#import reduce
struct Params {
    lines: u32,
    length: u32,
    stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

// Below every finite element, so that differences of minus infinity and the running maximum are never undefined.
const LOWEST = -0x1.fffffep+127;

@compute @workgroup_size(WG)
fn main(ids: Ids) {
    let line = linear_workgroup(ids);
    if line >= p.lines { return; }
    let base = line / p.stride * p.stride * p.length + line % p.stride;
    var largest = LOWEST;
    var sum = 0.0;
    for (var i = ids.lid; i < p.length; i += WG) {
        let v = f32(x[base + i * p.stride]);
        if v > largest {
            sum *= exp(largest - v);
            largest = v;
        }
        sum += exp(v - largest);
    }
    let top = workgroup_max(largest, ids);
    let total = workgroup_sum(sum * exp(largest - top), ids);
#ifdef LOG
    let shift = top + log(total);
    for (var i = ids.lid; i < p.length; i += WG) {
        let at = base + i * p.stride;
        out[at] = elem(f32(x[at]) - shift);
    }
#else
    for (var i = ids.lid; i < p.length; i += WG) {
        let at = base + i * p.stride;
        out[at] = elem(exp(f32(x[at]) - top) / total);
    }
#endif
}

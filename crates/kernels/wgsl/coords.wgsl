// Positions by coordinate in tensors of up to eight dimensions; sizes and strides are padded in front, innermost last.
struct Coordinates {
    outer: vec4<u32>,
    inner: vec4<u32>,
}

// Splits the innermost four coordinates off `rest`.
fn split_coordinates(rest: ptr<function, u32>, sizes: vec4<u32>) -> vec4<u32> {
    let w = *rest / sizes.w;
    let z = w / sizes.z;
    let y = z / sizes.y;
    let x = y / sizes.x;
    let at = vec4(y, z, w, *rest) - vec4(x, y, z, w) * sizes;
    *rest = x;
    return at;
}

fn coordinates(index: u32, sizes: array<vec4<u32>, 2>) -> Coordinates {
    var rest = index;
    let inner = split_coordinates(&rest, sizes[1]);
    var outer = vec4(0u);
    if rest > 0u { outer = split_coordinates(&rest, sizes[0]); }
    return Coordinates(outer, inner);
}

fn place(at: Coordinates, strides: array<vec4<u32>, 2>) -> u32 {
    return dot(at.outer, strides[0]) + dot(at.inner, strides[1]);
}
